"""Operators of onnxruntime's optimiser and its exporters, written as standard operators."""
