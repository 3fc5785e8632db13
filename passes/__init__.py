"""ONNX to ONNX: loading, cleaning, compressing and fusing models, by recipes."""
