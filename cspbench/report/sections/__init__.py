"""One section of the report a file; its template lies beside it."""
