"""Choosing the tables and indices of palettes: k-means in all its forms, the same on every machine."""
