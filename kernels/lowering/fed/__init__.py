"""Operators whose shape depends on inputs that are fed, where the model declares the shape.

A rule here takes the declared shape for granted and has the run check that what is fed gives it. Where values
decide more than the shape, they are read when the model runs.
"""
