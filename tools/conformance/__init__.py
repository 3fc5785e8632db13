"""ONNX's own backend tests through the compiler, beside onnxruntime."""

from .running import run_conformance as run_conformance
