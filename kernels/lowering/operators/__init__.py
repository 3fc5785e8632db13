"""Rules that lower ONNX operators; each file holds a family."""
