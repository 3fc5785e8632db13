"""Operators written as other operators, one file each: what ONNX itself does not define so."""
