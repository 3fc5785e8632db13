"""Matrices whose rows lie side by side: each feature is a plane of all rows, padded to whole vectors.

Sparse products read and write this layout, in which a product is a 1×1 convolution: features are channels,
rows are pixels. Chains of such products, with attention and layer norms between them, stay in it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ..cpu.lazy import Elementwise, Lazy, Leaf
from ..cpu.tensor import Tensor, contiguous
from ..cpu.transposing import TransposeMatrix, is_feature_major
from .state import Lowering

__all__ = ["as_image", "feature_major", "image_tree", "matrix_view", "new_feature_major", "row_tree"]


def new_feature_major(state: Lowering, name: str, shape: tuple[int, ...]) -> Tensor:
    """A new float32 tensor (…, features) in this layout."""
    rows, lanes = prod(shape[:-1]), state.isa.lanes
    plane = -(-rows // lanes) * lanes
    whole = state.new_tensor(name, "float32", (shape[-1], plane))
    return whole.view(shape, (*contiguous(shape[:-1]), plane))


def feature_major(state: Lowering, tensor: Tensor) -> Tensor:
    """`tensor` (…, features) in this layout: itself, or a copy that later readers share."""
    if is_feature_major(tensor) and tensor.place == "arena":
        return tensor
    known = state.turned.get(id(tensor))
    if known is None:
        source = tensor if tensor.is_contiguous else state.copy(tensor)
        out = new_feature_major(state, tensor.name, tensor.shape)
        rows = (prod(tensor.shape[:-1]), tensor.shape[-1])
        state.steps.append(
            TransposeMatrix(source.view(rows, contiguous(rows)), out.view(rows, (1, out.strides[-1])))
        )
        known = state.turned[id(tensor)] = (tensor, out)
    return known[1]


def as_image(tensor: Tensor) -> Tensor:
    """The tensor as (1, features, 1, rows), as convolutions take it."""
    rows, features, plane = prod(tensor.shape[:-1]), tensor.shape[-1], tensor.strides[-1]
    return tensor.view((1, features, 1, rows), (features * plane, plane, rows, 1))


def image_tree(state: Lowering, tree: Lazy, shape: tuple[int, ...]) -> Lazy:
    """An epilogue for `shape` (…, features) with its operands as convolutions take them.

    Operands are one value, one per feature, or a whole tensor.
    """
    if isinstance(tree, Elementwise):
        return replace(tree, args=tuple(image_tree(state, part, shape) for part in tree.args))
    if not isinstance(tree, Leaf) or tree.tensor.size == 1:
        return tree
    tensor = tree.tensor
    if tensor.size == tensor.shape[-1]:
        return Leaf(tensor.view((1, shape[-1], 1, 1), (shape[-1], 1, 1, 1)))
    return Leaf(as_image(feature_major(state, tensor)))


def matrix_view(tensor: Tensor) -> Tensor:
    """Contiguous (…, features) as (rows, features)."""
    rows = (prod(tensor.shape[:-1]), tensor.shape[-1])
    return tensor.view(rows, contiguous(rows))


def row_tree(state: Lowering, tree: Lazy, shape: tuple[int, ...]) -> Lazy:
    """An epilogue for contiguous `shape` (…, features) with its operands as matrices."""
    if isinstance(tree, Elementwise):
        return replace(tree, args=tuple(row_tree(state, part, shape) for part in tree.args))
    if not isinstance(tree, Leaf) or tree.tensor.size == 1:
        return tree
    tensor = state.dense(tree)
    # vectors of R outputs may reach past the end, which only the arena and the weights allow
    return Leaf(matrix_view(state.copy(tensor) if tensor.place == "input" else tensor))
