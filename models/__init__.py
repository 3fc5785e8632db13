"""PyTorch to ONNX: an exporter, and a zoo of architectures with seeded weights."""
