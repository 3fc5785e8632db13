"""Kernels that read weights as a format stores them; `palette.py` serves the format `palette`."""
