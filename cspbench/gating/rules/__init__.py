"""Gate rules on numbers other than the totals of an analysis: one file for each rule."""
