"""What this machine is: facts, sensors, locks, control groups, what would spoil a measurement."""
