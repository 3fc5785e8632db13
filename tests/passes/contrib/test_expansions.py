"""Operators of onnxruntime, expanded, give what onnxruntime gives for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .expanding import Case, check


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int, kind: Any = np.int64) -> Any:
    return np.array(values, kind)


X, ROW = normal(2, 3, 8), normal(8, seed=1)
IMAGE, FILTERS, BIAS = normal(1, 4, 6, 6), normal(5, 4, 3, 3, seed=1), normal(5, seed=2)
IDS, SEGMENTS = (
    ints(1, 3, 2, 0, 4, 1, kind=np.int32).reshape(2, 3),
    ints(0, 1, 0, 1, 1, 0, kind=np.int32).reshape(2, 3),
)
EMBEDDING = [IDS, SEGMENTS, normal(6, 8), normal(7, 8, seed=3), normal(2, 8, seed=4), ROW, ROW]

GELU = [
    Case("Gelu", [X]),
    Case("FastGelu", [X]),
    Case("FastGelu", [X, ROW]),
    Case("BiasGelu", [X, ROW], fixed=[1]),
    Case("QuickGelu", [X]),
    Case("QuickGelu", [X], {"alpha": 1.0}),
]
PRODUCTS = [
    *[
        Case("FusedMatMul", [normal(*left), normal(*right)], {"alpha": 0.5, "transA": a, "transB": b})
        for a, left in ((0, (2, 3, 4)), (1, (2, 4, 3)))
        for b, right in ((0, (2, 4, 5)), (1, (2, 5, 4)))
    ],
    Case("FusedMatMul", [normal(3, 2, 4), normal(2, 4, 5)], {"transBatchA": 1}),
    Case(
        "FusedMatMul",
        [normal(4, 2, 3), normal(5, 2, 4)],
        {"transBatchA": 1, "transA": 1, "transBatchB": 1, "transB": 1},
    ),
    Case("TransposeMatMul", [normal(4, 3), normal(4, 5)], {"transA": 1}),
    Case(
        "FusedGemm",
        [normal(3, 4), normal(5, 4), normal(5)],
        {"transB": 1, "activation": "Relu"},
        fixed=[1, 2],
    ),
    Case(
        "FusedGemm",
        [normal(3, 4), normal(4, 5), normal(5)],
        {"activation": "LeakyRelu", "activation_alpha": 0.2},
    ),
]
CONVOLUTIONS = [
    Case("FusedConv", [IMAGE, FILTERS, BIAS], {"activation": "Relu", "pads": [1] * 4}, fixed=[1, 2]),
    Case(
        "FusedConv",
        [IMAGE, FILTERS, BIAS],
        {"activation": "Clip", "activation_params": [0.0, 1.0]},
        fixed=[1, 2],
    ),
    Case("FusedConv", [IMAGE, FILTERS, BIAS], {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
    Case("FusedConv", [IMAGE, FILTERS, BIAS], {"activation": "LeakyRelu", "activation_params": [0.3]}),
    Case("FusedConv", [IMAGE, FILTERS, BIAS, normal(1, 5, 4, 4)], {"activation": "Relu"}),
    Case("Trilu", [normal(4, 5)]),
]
NORMS = [
    Case("SkipLayerNormalization", [X, normal(2, 3, 8, seed=5), ROW, ROW, ROW], {"epsilon": 1e-5}),
    Case("SkipLayerNormalization", [X, X, ROW, ROW], outputs=["float32", "", "", "float32"]),
    Case("SkipLayerNormalization", [X, normal(1, 3, 8), ROW]),
    Case("SkipSimplifiedLayerNormalization", [X, X, ROW], outputs=["float32", "", "", "float32"]),
    Case("SkipSimplifiedLayerNormalization", [X, X, ROW, ROW], {"epsilon": 1e-3}),
    Case("SimplifiedLayerNormalization", [X, ROW], {"axis": -1, "epsilon": 1e-3}, domain=""),
    Case("LayerNormalization", [X, ROW, ROW], {"axis": -1, "epsilon": 1e-3}, domain="", opset=13),
    Case("EmbedLayerNormalization", EMBEDDING, {"epsilon": 1e-5}, ["float32", "int32"]),
    Case(
        "EmbedLayerNormalization",
        [IDS, None, EMBEDDING[2], EMBEDDING[3], None, ROW, ROW],
        {},
        ["float32", "int32"],
    ),
    Case(
        "EmbedLayerNormalization",
        [
            *EMBEDDING,
            ints(1, 1, 0, 1, 1, 1, kind=np.int32).reshape(2, 3),
            ints(2, 1, 0, kind=np.int32).reshape(1, 3),
        ],
        {},
        ["float32", "int32", "float32"],
    ),
]
OTHERS = [
    Case("ExpandDims", [X, ints(1, kind=np.int32).reshape(())], fixed=[1]),
    Case("Pad", [X, ints(0, 1, 0, 0, 0, 2), np.array([0.5], np.float32)], {"mode": "constant"}, fixed=[1]),
    Case("GatherND", [X, ints(0, 1, 1, 2).reshape(2, 2)], fixed=[1]),
    Case("CDist", [normal(3, 4), normal(5, 4)], {"metric": "euclidean"}),
    Case("CDist", [normal(3, 4), normal(5, 4)], {"metric": "sqeuclidean"}),
    Case("Trilu", [normal(4, 5), ints(1).reshape(())], {"upper": 0}, fixed=[1]),
    Case("Affine", [X], {"alpha": 2.0, "beta": 0.5}, domain="", opset=9),
    Case("ScaledTanh", [X], {"alpha": 2.0, "beta": 0.5}, domain="", opset=9),
    Case("ParametricSoftplus", [X], {"alpha": 2.0, "beta": 0.5}, domain="", opset=9),
    Case("ImageScaler", [IMAGE], {"scale": 2.0, "bias": [0.1, 0.2, 0.3, 0.4]}, domain="", opset=9),
    Case("Crop", [IMAGE], {"border": [1, 1, 2, 1]}, domain="", opset=9),
]

PROJECTED = [normal(2, 5, 8), normal(8, 24, seed=1), normal(24, seed=2)]
HEADS: dict[str, Any] = {"num_heads": 2}
RAW_MASK = ints(1, 1, 1, 0, 0, 1, 1, 1, 1, 1, kind=np.int32).reshape(2, 5)
PAST = normal(2, 2, 2, 3, 4, seed=7)
ATTENTION = [
    Case("Attention", PROJECTED, HEADS, fixed=[1, 2]),
    Case("Attention", PROJECTED, {**HEADS, "unidirectional": 1, "scale": 0.3}, fixed=[1, 2]),
    Case("Attention", [*PROJECTED, RAW_MASK], HEADS),
    Case("Attention", [*PROJECTED, ints(3, 5, kind=np.int32)], HEADS),
    Case("Attention", [*PROJECTED, ints(3, 5, 1, 0, kind=np.int32)], HEADS),
    Case("Attention", [*PROJECTED, None, PAST], {**HEADS, "unidirectional": 1}, ["float32", "float32"]),
    Case("Attention", [*PROJECTED, None, None, normal(1, 2, 5, 5)], HEADS),
    Case(
        "Attention",
        [PROJECTED[0], normal(8, 28, seed=1), normal(28, seed=2)],
        {**HEADS, "qkv_hidden_sizes": [8, 8, 12]},
    ),
]
QUERY, KEY, VALUE = normal(2, 5, 8), normal(2, 6, 8, seed=1), normal(2, 6, 12, seed=2)
THREE = ["float32"] * 3
MULTI_HEAD = [
    Case("MultiHeadAttention", [QUERY, KEY, VALUE], HEADS),
    Case("MultiHeadAttention", [QUERY, KEY, VALUE, normal(28)], {**HEADS, "scale": 0.3}, fixed=[3]),
    Case(
        "MultiHeadAttention",
        [QUERY, KEY, VALUE, None, ints(*[1, 1, 1, 1, 0, 0] * 2, kind=np.int32).reshape(2, 6)],
        HEADS,
    ),
    Case("MultiHeadAttention", [QUERY, KEY, VALUE, None, None, normal(2, 2, 5, 6)], HEADS),
    Case("MultiHeadAttention", [QUERY, normal(2, 2, 6, 4), normal(2, 2, 6, 4, seed=1)], HEADS),
    Case("MultiHeadAttention", [QUERY, QUERY, QUERY], {**HEADS, "unidirectional": 1}),
    Case(
        "MultiHeadAttention",
        [QUERY, QUERY, QUERY, None, None, None, PAST[0], PAST[1]],
        {**HEADS, "unidirectional": 1},
        THREE,
    ),
]
COS, SIN = np.cos(normal(9, 2)), np.sin(normal(9, 2))
POSITIONS = ints(0, 1, 2, 3, 4, 3, 4, 5, 6, 7).reshape(2, 5)
ROTARY = [
    Case("RotaryEmbedding", [QUERY, POSITIONS, COS, SIN], fixed=[2, 3]),
    Case("RotaryEmbedding", [QUERY, ints(2), COS, SIN], {"interleaved": 1}),
    Case("RotaryEmbedding", [normal(2, 3, 5, 4), POSITIONS, COS, SIN], {"interleaved": 1}),
    Case(
        "RotaryEmbedding",
        [normal(2, 5, 16), POSITIONS, COS, SIN],
        {"num_heads": 2, "rotary_embedding_dim": 4},
    ),
]
BIG_COS, BIG_SIN = np.cos(normal(16, 8)), np.sin(normal(16, 8))


def grouped(steps: int, past: int, total: int, *, batch: int = 2, buffer: int = 0, **attributes: Any) -> Case:
    """4 heads on 2 of keys and values, `past` of them kept in a buffer of `buffer` or in one that grows."""
    seqlens = ints(*[total - 1] * batch, kind=np.int32)
    kept = [normal(batch, 2, buffer or past, 16, seed=i) if past or buffer else None for i in (3, 4)]
    feeds = [normal(batch, steps, 64), normal(batch, steps, 32), normal(batch, steps, 32, seed=1), *kept]
    feeds += [seqlens, ints(total, kind=np.int32), BIG_COS, BIG_SIN]
    given = {"num_heads": 4, "kv_num_heads": 2, **attributes}
    return Case("GroupQueryAttention", feeds, given, THREE, [6, 7, 8])


GROUP_QUERY = [
    grouped(5, 0, 5),
    grouped(5, 0, 5, do_rotary=1),
    grouped(1, 5, 6, do_rotary=1, rotary_interleaved=1),
    grouped(3, 5, 8, do_rotary=1, softcap=2.0, scale=0.4, batch=1),
    grouped(1, 5, 6, buffer=9, do_rotary=1),
    grouped(5, 0, 5, buffer=9, do_rotary=1),
    grouped(6, 0, 6, local_window_size=3),
    grouped(1, 7, 8, local_window_size=3),
]
TABLE = np.random.default_rng(0).integers(0, 256, (9, 16), np.uint8)
ROWS, SCALES = ints(3, 0, 8), np.abs(normal(9, 2))
QUANTIZED = [
    Case("GatherBlockQuantized", [TABLE, ROWS, SCALES], {"block_size": 16, "bits": 4}, fixed=[0, 2]),
    Case(
        "GatherBlockQuantized",
        [TABLE, ROWS, np.abs(normal(9, 1)), TABLE[:, :1].copy()],
        {"block_size": 16, "bits": 8},
        fixed=[0, 2, 3],
    ),
    Case(
        "QAttention",
        [
            TABLE[:2, :40].repeat(3, 1)[:, :40].reshape(2, 5, 8),
            np.random.default_rng(1).integers(-128, 128, (8, 24)).astype(np.int8),
            normal(24),
            np.array(0.02, np.float32),
            np.array(0.01, np.float32),
            RAW_MASK,
            np.array(120, np.uint8),
            np.array(0, np.int8),
        ],
        HEADS,
        fixed=[1, 2, 3, 4, 6, 7],
    ),
]
ALL = [
    *QUANTIZED,
    *GROUP_QUERY,
    *GELU,
    *PRODUCTS,
    *CONVOLUTIONS,
    *NORMS,
    *OTHERS,
    *ATTENTION,
    *MULTI_HEAD,
    *ROTARY,
]


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.operator)
def test_results_are_those_of_onnxruntime(case: Case) -> None:
    check(case)
