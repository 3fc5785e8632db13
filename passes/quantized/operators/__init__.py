"""Operators of quantised values, each written as Q/DQ around a float operator; found by their files."""
