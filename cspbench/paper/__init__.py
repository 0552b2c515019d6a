"""Published numbers as data, with their sources."""
