"""One mutated model through the whole compiler, beside onnxruntime."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import find_target
from gossamer.passes.clean import prepare
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.running import convert_model
from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.errors import GossamerError
from gossamer.runtime.feeds import random_feeds

from .fenced import run_fenced
from .guarding import Limits, Outcome, guarded

__all__ = ["SOUND", "Verdict", "try_model", "warm_up"]

Array = np.ndarray[Any, np.dtype[Any]]
Results = tuple[dict[str, Array], list[Array]]
SOUND = ("refused", "stumbled", "right", "unchecked")
"""Verdicts that are no fault."""
_NEAR = 1e-3
_MOST_RUN = 1 << 28
"""Bytes of tensors that are worth the time here."""
_SYMBOL = 3
"""The size of every dimension that a model leaves open."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: "refused", "right", "unchecked" (onnxruntime does not take it), or a fault.

    "stumbled" is refused too, in one line that names the node, but by an error that no check foresaw.
    """

    kind: str
    text: str = ""


def warm_up(data: bytes) -> None:
    """Compile a sound model here, so that processes forked from this one need not import what that takes."""
    prepared = prepare(load_model(data))
    target = find_target("host")
    emit_objects(lower(prepared, target), target)


def try_model(data: bytes, limits: Limits) -> Verdict:
    """Load, convert, compile and run `data`; compare with onnxruntime where that takes it."""
    ours = guarded(partial(_ours, data), limits)
    if ours.kind == "refused" and "please report it" in ours.text:
        return Verdict("stumbled", ours.text)
    if ours.kind != "done":
        return Verdict(ours.kind, ours.text)
    if ours.value is None:
        return Verdict("unchecked", "it is compiled, and too large to run here or of open sizes")
    feeds, outputs = ours.value
    reference = guarded(partial(_reference, data, feeds), limits)
    if reference.kind != "done":
        return Verdict("unchecked", reference.text)
    if _fed_shapes(data, reference.value):
        return Verdict("unchecked", "the sizes that are fed are not those that the model declares")
    return _compared(reference, outputs)


def _fed_shapes(data: bytes, results: list[Array]) -> bool:
    """Whether results have another shape than declared, as random numbers give that are fed as sizes."""
    graph = onnx.ModelProto.FromString(data).graph
    whole = any(v.type.tensor_type.elem_type == onnx.TensorProto.INT64 for v in graph.input)
    declared = [[dim.dim_value for dim in out.type.tensor_type.shape.dim] for out in graph.output]
    return whole and any(list(r.shape) != shape for r, shape in zip(results, declared, strict=True))


def _compared(reference: Outcome, outputs: list[Array]) -> Verdict:
    if len(outputs) != len(reference.value):
        return Verdict("wrong", f"{len(outputs)} outputs instead of {len(reference.value)}")
    for index, (expected, got) in enumerate(zip(reference.value, outputs, strict=True)):
        if got.dtype.kind == "V" and got.dtype.itemsize == expected.dtype.itemsize:
            got = got.view(expected.dtype)  # onnxruntime's arrays of float8 are plain bytes
        try:
            error = tensor_error(expected, got)
        except GossamerError as mismatch:
            return Verdict("wrong", str(mismatch))
        if not error.relative <= _NEAR:
            return Verdict("wrong", f"output {index}: {error}")
    return Verdict("right")


def _ours(data: bytes) -> Results | None:
    model = load_model(data)
    shapes = _shapes(model)
    converted, _ = convert_model(model, load_recipe("default"))
    prepared = prepare(converted, shapes)
    target = find_target("host")
    program = lower(prepared, target)
    (code,) = emit_objects(program, target).values()
    if program.table is not None:
        return None
    sizes = [math.prod(map(int, t.shape)) for t in (*program.inputs, *program.outputs)]
    if 8 * sum(sizes) + program.arena_bytes > _MOST_RUN:
        return None
    feeds = random_feeds(program.inputs)
    return feeds, run_fenced(program, code, feeds)


def _shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """Sizes for the inputs that leave any open."""
    return {
        value.name: tuple(d if isinstance(d, int) else _SYMBOL for d in value.shape)
        for value in model.graph.inputs
        if value.name and value.shape is not None and not value.shape.is_static()
    }


def _reference(data: bytes, feeds: dict[str, Array]) -> list[Array]:
    return run_onnx(onnx.ModelProto.FromString(data), feeds)
