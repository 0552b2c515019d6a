"""Kinds of artifact, one file each; a file registers its kind on import and is light."""
