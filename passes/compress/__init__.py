"""Passes that make weights smaller; lossy ones say so."""
