"""Operators that only move data, and what they do to scales along an axis; found by their files."""
