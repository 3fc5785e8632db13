"""ONNX graph → kernels → object files; see docs/architecture.md, "Lowering"."""

from .emit import emit_objects as emit_objects
from .lower import lower as lower
