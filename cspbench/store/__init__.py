"""Run directories, records, known ceilings."""
