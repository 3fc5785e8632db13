"""Kernel generators for CPUs: TIR written for a target, one family a file."""
