"""Sources of models from outside cspbench, one file each."""
