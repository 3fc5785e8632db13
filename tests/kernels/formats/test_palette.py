"""palette: numpy and onnxruntime decode the same bits, and the bytes are those of the formula."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import DOMAIN, find_format, format_of_operator
from gossamer.kernels.formats.base import FUNCTION_OPSET, Array
from gossamer.kernels.formats.palette import VECTORS, PaletteForm, pack_palette, parse_palette
from gossamer.runtime.errors import ModelError, OptionError

FORMAT = find_format("palette")


def decode_with_onnxruntime(parts: Mapping[str, Array], opset: int = FUNCTION_OPSET) -> Array:
    """Run the function over the parts as initializers, as a converted file does."""
    initializers = [onnx.numpy_helper.from_array(parts[name], name) for name in FORMAT.parts]
    node = onnx.helper.make_node(FORMAT.operator, list(FORMAT.parts), ["W"], domain=DOMAIN)
    info = onnx.helper.make_tensor_value_info("W", 1, [None] * len(parts["shape"]))
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [], [info], initializers),
        functions=[ir.to_proto(FORMAT.function(opset))],
        opset_imports=[onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {})[0]
    return result


def random_palette(form: PaletteForm, kind: Any, seed: int = 0, scaled: bool = False) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**form.bits, form.codes_shape).astype(np.uint8)
    scale = rng.standard_normal(form.outputs).astype(np.float16) if scaled else None
    if kind == np.int8:
        lut = rng.integers(-128, 128, form.lut_shape).astype(np.int8)
        return pack_palette(form, codes, lut, rng.random(form.lut_shape[:3], np.float32), scale)
    lut = rng.standard_normal(form.lut_shape).astype(kind)
    return pack_palette(form, codes, lut, scale=scale)


@st.composite
def palettes(draw: st.DrawFn) -> tuple[PaletteForm, dict[str, Array]]:
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 9 if rank > 2 else 24)) for _ in range(rank))
    vector = draw(st.sampled_from(VECTORS))
    form = PaletteForm(
        shape,
        draw(st.integers(1, 8)),
        vector,
        draw(st.integers(1, 3)),
        vector * draw(st.integers(1, 9)),
        draw(st.integers(1, 30)),
    )
    kind = draw(st.sampled_from([np.float16, np.float32, np.int8]))
    return form, random_palette(form, kind, draw(st.integers(0, 2**32 - 1)), draw(st.booleans()))


def decode_one_by_one(form: PaletteForm, parts: Mapping[str, Array]) -> Array:
    """The formula of the format, weight for weight, bit for bit."""
    bits = np.unpackbits(parts["indices"], bitorder="little")
    lut_scale = np.broadcast_to(parts["lut_scale"].astype(np.float32), form.lut_shape[:3])
    scale = np.broadcast_to(parts["scale"].astype(np.float32), form.outputs)
    lut = parts["lut"].astype(np.float32)
    matrix = np.empty((form.outputs, form.inputs), np.float32)
    for o, k in np.ndindex(*matrix.shape):
        value = np.float32(0)
        for book in range(form.books):
            number = (book * form.vectors + o // form.vector) * form.inputs + k
            index = sum(int(bits[number * form.bits + j]) << j for j in range(form.bits))
            table = book, o // form.group_rows, k // form.block_columns
            value += lut[(*table, index, o % form.vector)] * lut_scale[table]
        matrix[o, k] = scale[o] * value
    return matrix.reshape(form.shape)


@given(palettes())
@settings(max_examples=40, deadline=None)
def test_decoding_is_the_formula(case: tuple[PaletteForm, dict[str, Array]]) -> None:
    form, parts = case
    palette = parse_palette(parts)
    assert list(parts) == list(FORMAT.parts)
    assert palette.form == form
    np.testing.assert_array_equal(palette.decode(), decode_one_by_one(form, parts))


@given(palettes())
@settings(max_examples=40, deadline=None)
def test_onnxruntime_decodes_the_same_bits(case: tuple[PaletteForm, dict[str, Array]]) -> None:
    form, parts = case
    decoded = decode_with_onnxruntime(parts)
    assert decoded.shape == form.shape
    assert decoded.tobytes() == FORMAT.decode(parts).tobytes()


@pytest.mark.parametrize("opset", [18, 20, 21, 23])
def test_every_opset_since_18_decodes_the_same(opset: int) -> None:
    parts = random_palette(PaletteForm((13, 7, 3), 3, 2, 2, 4, 5), np.int8, scaled=True)
    assert decode_with_onnxruntime(parts, opset).tobytes() == FORMAT.decode(parts).tobytes()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", [(1,), (7,), (1, 1), (31, 33), (16, 3, 3, 3), (127, 9)])
@pytest.mark.parametrize("vector", VECTORS)
def test_bytes_are_those_of_the_formula(bits: int, shape: tuple[int, ...], vector: int) -> None:
    form = PaletteForm(shape, bits, vector, 2, 8, 5)
    parts = random_palette(form, np.float16, scaled=True)
    codewords = 2 * -(-shape[0] // vector) * prod(shape[1:])
    tables = 2 * -(-shape[0] // 8) * -(-prod(shape[1:]) // 5)
    headers = 2 + 8 * len(shape) + 24
    expected = -(-codewords * bits // 8) + 2 * tables * 2**bits * vector + 2 * shape[0] + headers
    assert FORMAT.stored_bytes(parts) == expected


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_large_weight_takes_its_bits_and_little_more(bits: int) -> None:
    form = PaletteForm((512, 512), bits, 1, 1, 512, 512)
    parts = random_palette(form, np.float16)
    assert parts["indices"].nbytes == 512 * 512 * bits // 8
    formula = bits + 16 * 2**bits / 512**2
    assert FORMAT.bits_per_weight(parts, form.shape) == pytest.approx(formula, rel=0.01)


@given(st.integers(1, 256), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=25, deadline=None)
def test_few_distinct_values_are_stored_losslessly(values: int, seed: int, half: bool) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal(values).astype(np.float16 if half else np.float32).astype(np.float32)
    weight = rng.choice(table, (13, 5, 3))
    weight[0, 0, :2] = 0.0, -0.0
    if len(np.unique(weight)) <= 256:
        parts = FORMAT.encode(weight)
        np.testing.assert_array_equal(FORMAT.decode(parts), weight)
        assert decode_with_onnxruntime(parts).tobytes() == FORMAT.decode(parts).tobytes()
        assert parts["lut"].dtype == (np.float16 if half else np.float32) or values == 1


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (np.arange(257, dtype=np.float32), {}),
        (np.arange(5, dtype=np.float32), {"bits": 2}),
        (np.arange(5, dtype=np.float32), {"bits": 9}),
        (np.arange(5, dtype=np.float32), {"rows": 4}),
        (np.arange(5, dtype=np.float64), {}),
        (np.float32(1), {}),
        (np.zeros((0, 4), np.float32), {}),
    ],
)
def test_what_cannot_be_stored_is_refused(array: Array, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        FORMAT.encode(np.asarray(array), **options)


def parts_with(**changed: Any) -> dict[str, Array]:
    parts = random_palette(PaletteForm((6, 5), 3, 2, 2, 4, 2), np.int8, scaled=True)
    return parts | {name: np.asarray(part) for name, part in changed.items()}


@pytest.mark.parametrize(
    "changed",
    [
        {"indices": np.zeros(11, np.uint8)},
        {"indices": np.zeros(13, np.uint8)},
        {"indices": np.zeros(12, np.int8)},
        {"indices": np.full(12, 255, np.uint8)},
        {"indices": np.zeros((12, 1), np.uint8)},
        {"lut": np.zeros((2, 2, 3, 4, 2), np.int8)},
        {"lut": np.zeros((2, 2, 3, 8, 3), np.int8)},
        {"lut": np.zeros((2, 2, 3, 8, 0), np.int8)},
        {"lut": np.zeros((0, 2, 3, 8, 2), np.int8)},
        {"lut": np.zeros((2, 2, 3, 8, 2), np.float64)},
        {"lut": np.zeros((2, 3, 8, 2), np.int8)},
        {"lut_scale": np.zeros((2, 2, 1), np.float32)},
        {"lut_scale": np.zeros((2, 2, 3), np.int8)},
        {"scale": np.zeros(5, np.float16)},
        {"scale": np.zeros((), np.float16)},
        {"shape": np.array([6, 6], np.int64)},
        {"shape": np.array([-6, -5], np.int64)},
        {"shape": np.array([0, 5], np.int64)},
        {"shape": np.array([2**62, 2**62], np.int64)},
        {"shape": np.zeros(0, np.int64)},
        {"shape": np.array([6, 5], np.int32)},
        {"form": np.array([4, 4, 2], np.int64)},
        {"form": np.array([0, 4, 2], np.int64)},
        {"form": np.array([9, 4, 2], np.int64)},
        {"form": np.array([3, 3, 2], np.int64)},
        {"form": np.array([3, 0, 2], np.int64)},
        {"form": np.array([3, 4, -2], np.int64)},
        {"form": np.array([3, 4], np.int64)},
    ],
)
def test_contradicting_parts_are_refused(changed: dict[str, Array]) -> None:
    assert FORMAT.decode(parts_with()).shape == (6, 5)
    with pytest.raises(ModelError):
        FORMAT.decode(parts_with(**changed))


def test_a_few_bytes_do_not_ask_for_terabytes() -> None:
    form = PaletteForm((2**20, 2**12), 1, 8, 1, 2**20, 2**12)
    parts = parts_with(
        indices=np.zeros(2**26, np.uint8),
        lut=np.zeros((1, 1, 1, 2, 8), np.int8),
        lut_scale=np.ones((1, 1, 1), np.float16),
        scale=np.ones(1, np.float16),
        shape=np.array(form.shape, np.int64),
        form=np.array([1, form.group_rows, form.block_columns], np.int64),
    )
    with pytest.raises(ModelError, match="decodes to too much"):
        FORMAT.decode(parts)


def test_the_format_is_found_by_its_operator() -> None:
    assert format_of_operator("PaletteDecode") is FORMAT
