"""One command a file, a few lines over the public API."""
