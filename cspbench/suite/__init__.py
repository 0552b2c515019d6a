"""YAML suites: schema, matrix expansion, messages with file and line."""
