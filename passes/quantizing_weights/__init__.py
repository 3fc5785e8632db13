"""Weights rounded to integers or small floats in groups that share a scale."""
