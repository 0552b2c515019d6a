"""Plan, schedules, isolation, resume."""
