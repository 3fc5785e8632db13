"""Lowering of operators whose sizes are known only at run time."""
