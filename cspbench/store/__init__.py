"""Run directories, records, environment fingerprint."""
