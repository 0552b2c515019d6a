"""Matplotlib figures, one file each.

A figure is a pure function that makes its data from frames, a function that draws it, and one
entry in :data:`cspbench.figures.spec.FIGURES`; the report and the command line find it there.
"""
