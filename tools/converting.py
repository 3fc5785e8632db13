"""`gossamer.convert`: a recipe applied to a model, and the result compared with the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from gossamer.passes.recipe import Recipe
    from gossamer.passes.report import Report

    Source = str | Path | bytes | onnx.ModelProto | ir.Model
