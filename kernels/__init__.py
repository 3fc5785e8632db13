"""ONNX to code: formats, targets, kernel generators, lowering and building."""
