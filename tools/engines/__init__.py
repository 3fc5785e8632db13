"""What can run a model, one file for each engine; here, what the rest of the tools uses of them.

An engine's file says `VARIANTS`, the ways it can run, the usual one first, and
`open_model(path, variant, threads, shapes)`, which gives an `Engine`.
"""

from ..choosing import Choice, engine_names, open_engine, parse_choice
from ..engine import (
    Engine,
    SelfTimed,
    Tensor,
    artifact_shapes,
    is_artifact,
    make_feeds,
    onnx_signature,
)

__all__ = [
    "Choice",
    "Engine",
    "SelfTimed",
    "Tensor",
    "artifact_shapes",
    "engine_names",
    "is_artifact",
    "make_feeds",
    "onnx_signature",
    "open_engine",
    "parse_choice",
]
