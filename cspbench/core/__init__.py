"""What every other package builds on: cases and their ids, options, registries, statuses."""
