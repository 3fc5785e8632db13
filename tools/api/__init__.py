"""gossamer: makes ONNX models small and fast, and ships them; each public name is loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.runtime.errors import GossamerError as GossamerError
    from gossamer.runtime.session import InferenceSession as InferenceSession
    from gossamer.tools.compiling import compile as compile
    from gossamer.tools.converting import convert as convert
    from gossamer.tools.loading import load as load

_HOME = {
    "GossamerError": "runtime.errors",
    "InferenceSession": "runtime.session",
    "compile": "tools.compiling",
    "convert": "tools.converting",
    "load": "tools.loading",
}
__all__ = ["GossamerError", "InferenceSession", "compile", "convert", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
