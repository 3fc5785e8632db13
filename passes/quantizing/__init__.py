"""Models to int8: which values are quantised, on which grids, and how weights are rounded."""
