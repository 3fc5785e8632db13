"""Weights as products of smaller factors: what a layer loses for how many bytes, and which factors do it."""
