"""Matrix products with transposes, factors and activations in one."""

from __future__ import annotations

import onnx_ir as ir

from ..activations import activated
from ..expansion import Expansion, Refused
from ..registry import expands


@expands("FusedMatMul", "TransposeMatMul")
def expand_matmul(w: Expansion) -> ir.Value:
    """α A' B', each side transposed as attributes say."""
    return _product(w)


def _product(w: Expansion) -> ir.Value:
    left, right = (_turned(w, w.needed(i), side) for i, side in enumerate("AB"))
    product = w.op("MatMul", left, right)
    alpha = w.node.attributes.get_float("alpha", 1.0)
    return product if alpha == 1.0 else w.op("Mul", product, w.number(alpha, w.needed(0)))


@expands("FusedMatMulActivation")
def expand_matmul_activation(w: Expansion) -> ir.Value:
    """The activation of that."""
    return activated(w, _product(w), w.needed(0), *_activation(w))


@expands("FusedGemm")
def expand_gemm(w: Expansion) -> ir.Value:
    """Gemm and an activation."""
    kept = {name: value for name, value in w.node.attributes.items() if not name.startswith("activation")}
    product = w.add("Gemm", w.node.inputs, kept)
    return activated(w, product, w.needed(0), *_activation(w))


def _activation(w: Expansion) -> tuple[str, list[float]]:
    """Its name, and its parameters as far as they are given."""
    attributes = w.node.attributes
    name = attributes["activation"].as_string() if "activation" in attributes else ""
    if name == "Softmax":
        raise Refused("its activation Softmax has no form here")
    found = [attributes.get(f"activation_{key}") for key in ("alpha", "beta", "gamma")]
    return name, [attribute.as_float() for attribute in found if attribute is not None]


def _turned(w: Expansion, value: ir.Value, side: str) -> ir.Value:
    """One operand: `transBatch` moves the first axis behind the batch, `trans` swaps the last two."""
    swapped, batch = w.flag(f"trans{side}"), w.flag(f"transBatch{side}")
    if not swapped and not batch:
        return value
    rank = w.rank(value)
    if rank == 1:
        return value
    axes = list(range(rank))
    if batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if swapped:
        axes[-1], axes[-2] = axes[-2], axes[-1]
    return w.transposed(value, *axes)
