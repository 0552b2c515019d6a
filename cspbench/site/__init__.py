"""A static site over all stored runs: ``write_site`` writes what is new, ``follow`` keeps at it."""

from cspbench.site.build import Site, follow, write_site

__all__ = ["Site", "follow", "write_site"]
