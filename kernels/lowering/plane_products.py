"""Products as 1×1 convolutions over feature-major activations, whose rows are pixels."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx_ir as ir

from ..cpu.convolution import Convolution
from ..cpu.lazy import Leaf
from ..cpu.pixel_tile import best_pixel_tile, good_pixel_tiles
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from .choice import Choice, sparse_choices
from .convolving import pack_weights
from .feature_major import as_image, feature_major, image_tree, new_feature_major
from .fusion import Epilogue
from .state import Lowering
from .ways import TRIED, Way, choose_way

__all__ = ["in_planes"]


def in_planes(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    shape: tuple[int, ...],
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[Tensor, Choice]:
    """Dense or sparse as a 1×1 convolution over feature-major activations."""
    rows, matrix = prod(shape[:-1]), np.ascontiguousarray(weights.T)
    image = as_image(feature_major(state, source))
    out = new_feature_major(state, epilogue.value.name or "matmul", shape)
    window = Window((1, rows), (1, rows), (1, 1))
    tree = image_tree(state, epilogue.tree, shape)

    def way(choice: Choice, tile: tuple[int, int]) -> Way:
        return Way(choice.with_tile(tile), lambda state: lower(state, choice.rows, tile))

    def lower(state: Lowering, height: int, tile: tuple[int, int]) -> None:
        planes = as_image(out)
        kernel = Convolution(image, (), bias, planes, window, 1, len(weights), tile, tree, block_rows=height)
        kernel.weights = pack_weights(state, node, matrix[None], kernel)
        state.steps.append(kernel)

    def others() -> Iterator[Way]:
        for kind in sparse_choices(state.isa, matrix, 1.0)[:2] if choice.rows else [choice]:
            for tile in good_pixel_tiles(state.isa, len(matrix), rows, kind.rows, TRIED):
                yield way(kind, tile)

    best = choose_way(
        state,
        f"{rows}x{weights.shape[0]} times {weights.shape[0]}x{weights.shape[1]}",
        ("MatMul in planes", Leaf(image).key, image.place, tree.key, bias is not None),
        way(choice, best_pixel_tile(state.isa, len(matrix), rows, choice.rows)),
        others,
    )
    best.lower(state)
    return out, best.choice
