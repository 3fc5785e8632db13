"""The `gossamer` command and the Python API behind it."""
