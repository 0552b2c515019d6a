"""What a worker process does: one job a launch."""
