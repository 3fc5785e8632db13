"""What each operator says about the order of its axes: one function for each, found by its file."""
