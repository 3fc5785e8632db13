"""Operators that ONNX has too, under the same name or another, with arguments in another place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..expansion import Expansion, Refused, constant_of
from ..registry import EXPERIMENTAL, expands


@expands("GatherND", "GridSample", "Pad", "Range", "Trilu")
def expand_same(w: Expansion) -> ir.Value:
    """The standard operator of that name."""
    return w.add(w.node.op_type, w.node.inputs, w.attributes())


@expands("ExpandDims")
def expand_dims(w: Expansion) -> ir.Value:
    """Unsqueeze by one axis."""
    axis = w.op("Cast", w.reshaped(w.needed(1), 1), to=int(ir.DataType.INT64))
    return w.op("Unsqueeze", w.needed(0), axis)


@expands("Unique")
def expand_unique(w: Expansion) -> list[ir.Value | None]:
    """Unsorted; its indices are where each element is among the unique ones."""
    first = w.add("Unique", [w.needed(0)], {"sorted": 0}, outputs=4)
    node = first.producer()
    assert node is not None
    return [first, node.outputs[2], node.outputs[3]]


@expands("TorchEmbedding")
def expand_embedding(w: Expansion) -> ir.Value:
    """Rows of a table; padding and scaling by frequency are a matter of training."""
    return w.op("Gather", w.needed(0), w.needed(1))


@expands("ConvTransposeWithDynamicPads")
def expand_transposed_convolution(w: Expansion) -> ir.Value:
    """ConvTranspose, where the pads are constant."""
    pads = w.input(2)
    array = constant_of(pads)
    if pads is not None and array is None:
        raise Refused("its pads are known only at run time")
    attributes = w.attributes() if array is None else {**w.attributes("pads"), "pads": array.tolist()}
    return w.add("ConvTranspose", [w.needed(0), w.needed(1), w.input(3)], attributes)


@expands("ReduceSumInteger")
def expand_reduce_sum(w: Expansion) -> ir.Value:
    """The sum of int8 or uint8, in int32."""
    kind = ir.DataType.INT32 if w.needed(0).dtype == ir.DataType.INT8 else ir.DataType.UINT32
    axes = w.node.attributes["axes"].as_ints()
    wide = w.op("Cast", w.needed(0), to=int(kind))
    return w.op("ReduceSum", wide, w.integers(*axes), keepdims=int(w.flag("keepdims", 1)))


@expands("IsAllFinite")
def expand_all_finite(w: Expansion) -> ir.Value:
    """Whether no element of any input is infinite or NaN."""
    found: ir.Value | None = None
    for value in w.node.inputs:
        assert value is not None
        tests = [] if w.flag("isnan_only") else [w.op("IsInf", value)]
        tests += [] if w.flag("isinf_only") else [w.op("IsNaN", value)]
        for test in tests:
            ones = w.op("Cast", test, to=int(ir.DataType.INT32))
            count = w.op("ReduceMax", ones, keepdims=0)
            found = count if found is None else w.op("Max", found, count)
    assert found is not None
    return w.op("Not", w.op("Cast", found, to=int(ir.DataType.BOOL)))


@expands("CDist")
def expand_distances(w: Expansion) -> ir.Value:
    """Distances of all rows of A from all rows of B."""
    left, right = w.op("Unsqueeze", w.needed(0), w.integers(1)), w.op("Unsqueeze", w.needed(1), w.integers(0))
    apart = w.op("Sub", left, right)
    total = w.op("ReduceSum", w.op("Mul", apart, apart), w.integers(-1), keepdims=0)
    metric = w.node.attributes["metric"].as_string() if "metric" in w.node.attributes else "sqeuclidean"
    return total if metric == "sqeuclidean" else w.op("Sqrt", total)


@expands("Affine", domain=EXPERIMENTAL)
def expand_affine(w: Expansion) -> ir.Value:
    """α x + β."""
    x, attributes = w.needed(0), w.node.attributes
    scaled = w.op("Mul", x, w.number(attributes.get_float("alpha", 1.0), x))
    return w.op("Add", scaled, w.number(attributes.get_float("beta", 0.0), x))


@expands("ScaledTanh", domain=EXPERIMENTAL)
def expand_scaled_tanh(w: Expansion) -> ir.Value:
    """α tanh(β x)."""
    x, attributes = w.needed(0), w.node.attributes
    inner = w.op("Mul", x, w.number(attributes.get_float("beta", 1.0), x))
    return w.op("Mul", w.op("Tanh", inner), w.number(attributes.get_float("alpha", 1.0), x))


@expands("ParametricSoftplus", domain=EXPERIMENTAL)
def expand_parametric_softplus(w: Expansion) -> ir.Value:
    """α ln(1 + e^(β x))."""
    x, attributes = w.needed(0), w.node.attributes
    inner = w.op("Mul", x, w.number(attributes.get_float("beta", 1.0), x))
    return w.op("Mul", w.op("Softplus", inner), w.number(attributes.get_float("alpha", 1.0), x))


@expands("ImageScaler", domain=EXPERIMENTAL)
def expand_image_scaler(w: Expansion) -> ir.Value:
    """scale · x + a bias for each channel."""
    x, attributes = w.needed(0), w.node.attributes
    bias = attributes["bias"].as_floats() if "bias" in attributes else [0.0]
    row = w.constant("bias", np.asarray(bias, np.float32).reshape(-1, 1, 1))
    return w.op("Add", w.op("Mul", x, w.number(attributes.get_float("scale", 1.0), x)), row)


@expands("Crop", domain=EXPERIMENTAL)
def expand_crop(w: Expansion) -> ir.Value:
    """Rows and columns without a border (left, top, right, bottom), or a window of `scale`."""
    x, attributes = w.needed(0), w.node.attributes
    left, top, right, bottom = attributes["border"].as_ints()
    height, width = (w.number_of(x, axis) for axis in (2, 3))
    ends = [height - bottom, width - right]
    if "scale" in attributes:
        ends = [start + n for start, n in zip((top, left), attributes["scale"].as_ints(), strict=True)]
    return w.op("Slice", x, w.integers(top, left), w.integers(*ends), w.integers(2, 3))
