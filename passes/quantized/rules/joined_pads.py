"""A Pad of integers with their zero point, before a convolution, is the convolution's own padding.

Conv(DQ(Pad(q, zero point)))  =  Conv(DQ(q)) with pads
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..canonical import looks_at
from ..parameters import Parameters, is_dequantize, parameters_of
from ..writing import Writer, constant_of, drop_unread

__all__ = ["join_pad"]


@looks_at("Conv")
def join_pad(node: ir.Node) -> str:
    """Only axes of pixels may be padded, by no less than nothing."""
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    given = parameters_of(source) if is_dequantize(source) else None
    pad = source.inputs[0].producer() if source is not None and source.inputs[0] is not None else None
    if source is None or given is None or pad is None or pad.op_type != "Pad" or pad.domain:
        return ""
    values = pad.outputs[0], source.outputs[0]
    only = all(len(value.uses()) == 1 and not value.is_graph_output() for value in values)
    data, margins = pad.inputs[0], _margins(pad)
    if not only or data is None or margins is None or not _pads_with_zero(pad, given):
        return ""
    own = _own_pads(node, len(margins) // 2)
    if own is None:
        return ""
    label = pad.name
    writer = Writer(source)
    writer.give(writer.dequantize(data, given.scale, given.zero, name=source.name or ""))
    node.attributes.pop("auto_pad", None)
    node.attributes.add(ir.AttrInt64s("pads", [a + b for a, b in zip(own, margins, strict=True)]))
    drop_unread(pad)
    return f"does the padding of Pad {label}"


def _margins(pad: ir.Node) -> list[int] | None:
    """What is added at the starts, then at the ends of the axes of pixels; None where it is anything else."""
    shape = pad.inputs[0].shape if pad.inputs[0] is not None else None
    stated = constant_of(pad.inputs[1])
    if shape is None or stated is None or pad.attributes.get_string("mode", "constant") != "constant":
        return None
    axes = list(range(len(shape)))
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        chosen = constant_of(pad.inputs[3])
        if chosen is None:
            return None
        axes = [int(axis) % len(shape) for axis in chosen.reshape(-1)]
    full = np.zeros((2, len(shape)), np.int64)
    full[:, axes] = stated.reshape(2, -1)
    if full[:, :2].any() or (full < 0).any():
        return None
    return [int(n) for n in full[:, 2:].reshape(-1)]


def _pads_with_zero(pad: ir.Node, given: Parameters) -> bool:
    stated = pad.inputs[2] if len(pad.inputs) > 2 else None
    value = np.zeros(1, np.int64) if stated is None else constant_of(stated)
    known = given.values()
    if value is None or known is None or not given.per_tensor:
        return False
    return int(value.reshape(-1)[0]) == int(known[1].reshape(-1)[0])


def _own_pads(node: ir.Node, axes: int) -> list[int] | None:
    """Those that the convolution has; None where they follow from the size of its input."""
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    stated = node.attributes.get("pads")
    return list(stated.as_ints()) if stated is not None else [0] * (2 * axes)
