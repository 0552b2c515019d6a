"""State of the machine, one sensor a file."""
