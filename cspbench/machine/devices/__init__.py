"""Devices on which inferences run, one file each; a file registers its device on import."""
