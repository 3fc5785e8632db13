"""Mutated models and artifacts: each must be refused in one line, or give right answers."""
