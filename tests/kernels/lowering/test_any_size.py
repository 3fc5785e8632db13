"""Kernels of sizes known only at run time give onnxruntime's results at every size, and stay in bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from .any_size import AnySize

RNG = np.random.default_rng(0)
THREADS = (1, 3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """`<g (inputs) => (outputs) { nodes }>` in ONNX's text form, opset 21, with initializers."""
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    made.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return made


def agrees(
    made: onnx.ModelProto, folder: Path, feeds: Sequence[Mapping[str, np.ndarray]], tolerance: float = 1e-5
) -> AnySize:
    """Compiled once, run with every feed; differences are shares of the largest value."""
    compiled = AnySize(made, folder)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for feed in feeds:
        expected = session.run(None, dict(feed))
        for threads in THREADS:
            for want, got in zip(expected, compiled.run(feed, threads), strict=True):
                assert want.shape == got.shape
                spread = max(float(np.abs(want).max(initial=0)), 1e-6)
                assert np.abs(want.astype(np.float64) - got).max(initial=0) <= tolerance * spread
    return compiled


@pytest.mark.parametrize(("depth", "columns"), [(64, 192), (7, 5), (33, 100)])
def test_weights_times_any_number_of_rows(depth: int, columns: int, tmp_path: Path) -> None:
    made = model(
        f"g (float[m, {depth}] x) => (float[m, {columns}] y)"
        "{ a = MatMul(x, w) c = Add(a, b) y = Relu(c) }",
        w=floats(depth, columns), b=floats(columns),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(m, depth)} for m in (1, 2, 3, 7, 8, 16, 31)])
    assert compiled.families == ["gemm"]  # bias and activation are part of it


def test_rows_of_several_axes_are_one_product(tmp_path: Path) -> None:
    made = model(
        "g (float[n, s, 20] x) => (float[n, s, 50] y) { y = MatMul(x, w) }",
        w=floats(20, 50),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(n, s, 20)} for n in (1, 3) for s in (1, 5, 16)])
    assert compiled.families == ["gemm"]


def test_gemm_with_turned_weights_and_a_bias_for_each_row(tmp_path: Path) -> None:
    made = model(
        "g (float[m, 20] x, float[m, 1] c) => (float[m, 9] y) "
        "{ y = Gemm <transB: int = 1, alpha: float = 0.5, beta: float = 2.0> (x, w, c) }",
        w=floats(9, 20),
    )  # fmt: skip
    agrees(made, tmp_path, [{"x": floats(m, 20), "c": floats(m, 1)} for m in (1, 4, 10)])


def test_scores_of_any_number_of_queries_and_keys(tmp_path: Path) -> None:
    """Keys are packed turned, a few at a time, since the width of a head is known."""
    made = model(
        "g (float[b, 4, m, 8] q, float[b, 4, n, 8] k) => (float[b, 4, m, n] y)"
        "{ t = Transpose <perm: ints = [0, 1, 3, 2]> (k) y = MatMul(q, t) }"
    )
    sizes = [(b, m, n) for b in (1, 3) for m in (1, 7, 16) for n in (1, 15, 16, 50)]
    agrees(made, tmp_path, [{"q": floats(b, 4, m, 8), "k": floats(b, 4, n, 8)} for b, m, n in sizes])


def test_any_rows_inner_sizes_and_columns(tmp_path: Path) -> None:
    made = model("g (float[b, 2, m, k] x, float[k, n] z) => (float[b, 2, m, n] y) { y = MatMul(x, z) }")
    sizes = [(b, m, k, n) for b in (1, 4) for m in (1, 9) for k in (1, 20) for n in (1, 33)]
    agrees(made, tmp_path, [{"x": floats(b, 2, m, k), "z": floats(k, n)} for b, m, k, n in sizes])


def test_a_vector_on_either_side(tmp_path: Path) -> None:
    made = model(
        "g (float[b, m, k] x, float[k] z) => (float[b, m] y, float[b, m] w)"
        "{ y = MatMul(x, z) t = Transpose <perm: ints = [0, 2, 1]> (x) w = MatMul(z, t) }"
    )
    sizes = [(b, m, k) for b in (1, 4) for m in (1, 9) for k in (1, 20)]
    agrees(made, tmp_path, [{"x": floats(b, m, k), "z": floats(k)} for b, m, k in sizes])


@pytest.mark.parametrize("attributes", ["", "group: int = 8, ", "strides: ints = [2, 2], "])
def test_convolutions_of_any_batch_are_the_kernels_of_known_ones(attributes: str, tmp_path: Path) -> None:
    made = model(
        f"g (float[n, 8, 9, 9] x) => (float[n, 16, h, w] y)"
        f"{{ c = Conv <{attributes}pads: ints = [1, 1, 1, 1]> (x, w, b) y = Relu(c) }}",
        w=floats(16, 1 if "group" in attributes else 8, 3, 3), b=floats(16),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(n, 8, 9, 9)} for n in (1, 2, 5)])
    assert compiled.families[-1] == ("depthwise" if "group" in attributes else "convolution")


_OPERATORS = {
    "float[n, s, 20] x": [
        "float[n, s, 20] y = Softmax <axis: int = 1> (x)",
        "float[n, s, 20] y = LogSoftmax (x)",
        "float[n, 1, 20] y = ReduceMean (x, axes)",
        "float[n, 1, 20] y = ReduceLogSumExp (x, axes)",
        "int64[n, 1, 20] y = ArgMax <axis: int = 1> (x)",
        "float[n, s, 20] y = Hardmax <axis: int = 1> (x)",
        "float[n, s, 20] y = LayerNormalization (x, w, b)",
    ],
    "float[n, 20, s] x": [
        "float[n, 20, s] y = Softmax (x)",
        "float[n, 20, s] y = InstanceNormalization (x, w, b)",
        "float[n, 20, s] y = GroupNormalization <num_groups: int = 4> (x, w, b)",
    ],
}


@pytest.mark.parametrize(("given", "node"), [(i, n) for i, nodes in _OPERATORS.items() for n in nodes])
def test_sums_and_normalisations_along_any_axis(given: str, node: str, tmp_path: Path) -> None:
    result, call = node.split(" = ", 1)
    made = model(
        f"g ({given}) => ({result}) {{ y = {call} }}", w=floats(20), b=floats(20), axes=np.array([1])
    )
    last = given.startswith("float[n, 20")
    shapes = [(n, 20, s) if last else (n, s, 20) for n in (1, 3) for s in (2, 5, 16, 40)]
    agrees(made, tmp_path, [{"x": floats(*shape)} for shape in shapes])


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        "strides: ints = [2, 2]",
        "pads: ints = [1, 1, 0, 1]",
        "strides: ints = [2, 2], ceil_mode: int = 1",
        'strides: ints = [2, 2], auto_pad: string = "SAME_UPPER"',
    ],
)
def test_pooling_of_any_image(operator: str, attributes: str, tmp_path: Path) -> None:
    made = model(
        f"g (float[n, 4, h, w] x) => (float[n, 4, a, b] y)"
        f"{{ y = {operator} <kernel_shape: ints = [3, 3], {attributes}> (x) }}"
    )
    shapes = [(n, 4, h, w) for n in (1, 3) for h, w in ((5, 6), (13, 20), (17, 33))]
    agrees(made, tmp_path, [{"x": floats(*shape)} for shape in shapes])


def attention(mask: str) -> onnx.ModelProto:
    """Four heads of 8, split off and joined again as exporters write it."""
    added, given = ("m = Add(d, mask)", f", float[{mask}] mask") if mask else ("m = Mul(d, one)", "")
    return model(
        f"g (float[b, q, 32] x, float[b, k, 32] z, float[b, k, 32] v{given}) => (float[b, q, 32] y) {{"
        "xa = Relu(x) xs = Reshape(xa, heads) xt = Transpose <perm: ints = [0, 2, 1, 3]> (xs)"
        "za = Relu(z) zs = Reshape(za, heads) zt = Transpose <perm: ints = [0, 2, 3, 1]> (zs)"
        "va = Relu(v) vs = Reshape(va, heads) vt = Transpose <perm: ints = [0, 2, 1, 3]> (vs)"
        f"s = MatMul(xt, zt) d = Div(s, scale) {added} p = Softmax (m) o = MatMul(p, vt)"
        "t = Transpose <perm: ints = [0, 2, 1, 3]> (o) y = Reshape(t, joined) }",
        heads=np.array([0, 0, 4, 8]), joined=np.array([0, 0, 32]),
        scale=np.array(3, np.float32), one=np.array(1, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("mask", ["", "q, k", "b, 1, 1, k"])
def test_attention_of_any_number_of_queries_and_keys(mask: str, tmp_path: Path) -> None:
    feeds = []
    for b, q, k in [(b, q, k) for b in (1, 2) for q in (1, 16, 17, 33) for k in (1, 7, 40)]:
        feed = {"x": floats(b, q, 32), "z": floats(b, k, 32), "v": floats(b, k, 32)}
        shape = {"q, k": (q, k), "b, 1, 1, k": (b, 1, 1, k)}.get(mask)
        feeds.append(feed | ({"mask": floats(*shape)} if shape else {}))
    compiled = agrees(attention(mask), tmp_path, feeds)
    assert "any-attention" in compiled.families


def test_attention_with_a_mask_that_widens_scores_is_two_products(tmp_path: Path) -> None:
    made = attention("c, 1, 1, k")
    feed = {"x": floats(1, 5, 32), "z": floats(1, 6, 32), "v": floats(1, 6, 32), "mask": floats(1, 1, 1, 6)}
    compiled = agrees(made, tmp_path, [feed])
    assert "any-attention" not in compiled.families


_IMAGES = [(1, 5, 6), (2, 9, 8), (1, 16, 16), (1, 17, 33)]


@pytest.mark.parametrize(
    ("attributes", "kernel", "group"),
    [
        ("pads: ints = [1, 1, 1, 1]", 3, 1),
        ("pads: ints = [2, 1, 0, 1], strides: ints = [2, 2]", 3, 2),
        ("dilations: ints = [2, 1]", 3, 1),
        ('auto_pad: string = "SAME_LOWER", strides: ints = [2, 3]', 5, 8),
        ("strides: ints = [2, 2]", 1, 1),
        ("strides: ints = [1, 1]", 1, 1),
    ],
)
def test_convolutions_of_any_image(attributes: str, kernel: int, group: int, tmp_path: Path) -> None:
    made = model(
        f"g (float[n, 8, h, w] x) => (float[n, 16, a, b] y)"
        f"{{ c = Conv <{attributes}, group: int = {group}> (x, w, b) y = Relu(c) }}",
        w=floats(16, 8 // group, kernel, kernel), b=floats(16),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(n, 8, h, w)} for n, h, w in _IMAGES])
    assert compiled.families[:2] == ["any-planes", "any-convolution"]


def test_residual_sums_of_any_image_are_part_of_convolutions(tmp_path: Path) -> None:
    made = model(
        "g (float[n, 8, h, w] x) => (float[n, 8, h, w] y) {"
        "a = Conv <pads: ints = [1, 1, 1, 1]> (x, k, b) c = Conv <pads: ints = [1, 1, 1, 1]> (a, k, b)"
        "s = Add(c, a) r = Relu(s) y = Conv(r, p) }",
        k=floats(8, 8, 3, 3) / 9, b=floats(8), p=floats(8, 8, 1, 1),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(n, 8, h, w)} for n, h, w in _IMAGES])
    assert "elementwise" not in compiled.families


@pytest.mark.parametrize("space", [1, 3])
def test_convolutions_of_lines_and_volumes(space: int, tmp_path: Path) -> None:
    axes = ", ".join("def"[:space])
    attributes = f"pads: ints = {[1] * 2 * space}, strides: ints = {[2] + [1] * (space - 1)}"
    made = model(
        f"g (float[n, 4, {axes}] x) => (float[n, 6, {axes.upper()}] y)"
        f"{{ y = Conv <{attributes}> (x, w, b) }}",
        w=floats(6, 4, *[3] * space), b=floats(6),
    )  # fmt: skip
    shapes = [(3,) * space, (5, 6, 7)[:space], (17, 4, 18)[:space]]
    agrees(made, tmp_path, [{"x": floats(n, 4, *shape)} for n in (1, 2) for shape in shapes], 2e-5)


_PLANES = [(1, 1, 1), (2, 4, 5), (1, 7, 16), (1, 9, 33)]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_images_of_any_size_are_resized(mode: str, coordinates: str, tmp_path: Path) -> None:
    made = model(
        "g (float[n, 3, h, w] x) => (float[n, 3, a, b] y) {"
        f'y = Resize <mode: string = "{mode}", coordinate_transformation_mode: string = "{coordinates}">'
        "(x, none, scales) }",
        none=np.zeros(0, np.float32), scales=np.array([1, 1, 2, 1.5], np.float32),
    )  # fmt: skip
    agrees(made, tmp_path, [{"x": floats(n, 3, h, w)} for n, h, w in _PLANES], 2e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        "strides: ints = [2, 2], pads: ints = [1, 1, 1, 1], output_padding: ints = [1, 1]",
        'strides: ints = [2, 3], auto_pad: string = "SAME_UPPER"',
        "dilations: ints = [2, 1], group: int = 2",
    ],
)
def test_transposed_convolutions_of_any_image(attributes: str, tmp_path: Path) -> None:
    made = model(
        f"g (float[n, 4, h, w] x) => (float[n, {12 if 'group' in attributes else 6}, a, b] y)"
        f"{{ c = ConvTranspose <{attributes}> (x, k) y = Relu(c) }}",
        k=floats(4, 6, 3, 3),
    )
    agrees(made, tmp_path, [{"x": floats(n, 4, h, w)} for n, h, w in _PLANES[1:]])


def test_block_sparse_weights_times_any_number_of_rows(tmp_path: Path) -> None:
    """A tenth of the blocks of 16 outputs is kept, and the kernel reads no others."""
    kept = RNG.random((40, 100)) < 0.1
    weights = floats(100, 640) * kept.repeat(16, axis=0).T
    made = model(
        "g (float[m, 100] x) => (float[m, 640] y) { a = MatMul(x, w) c = Add(a, b) y = Relu(c) }",
        w=weights, b=floats(640),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(m, 100)} for m in (1, 2, 3, 4, 7, 9)])
    assert compiled.families == ["sparse-gemm"]
