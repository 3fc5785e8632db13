"""Placeholder of the package docstring."""
