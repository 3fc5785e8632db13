"""Models to mutate: one of each family written here, and files that are handed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

__all__ = ["read_seeds", "written_seeds"]

_HEAD = '<ir_version: 10, opset_import: ["": 21]>'
_GRAPHS = {
    "images": """(float[1, 3, 9, 9] x) => (float[1, 5] y) {
        a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, c0)
        b = Clip (a, low, high)
        c = Conv <group = 8, kernel_shape = [3, 3]> (b, c1)
        d = MaxPool <kernel_shape = [2, 2]> (c)
        e = GlobalAveragePool (d)
        f = Flatten (e)
        g = Gemm <transB = 1> (f, c2, c3)
        y = Softmax (g)
    }""",
    "tokens": """(int64[1, 5] ids) => (float[1, 5, 8] y) {
        e = Gather (table, ids)
        n = LayerNormalization (e, scale, bias)
        q = MatMul (n, m0)
        h = Reshape (q, heads)
        t = Transpose <perm = [0, 2, 1, 3]> (h)
        k = Transpose <perm = [0, 2, 3, 1]> (h)
        s = MatMul (t, k)
        p = Softmax <axis = -1> (s)
        o = MatMul (p, t)
        r = Transpose <perm = [0, 2, 1, 3]> (o)
        f = Reshape (r, flat)
        y = Add (f, e)
    }""",
    "movements": """(float[2, 6, 4] x, int64[3] i) => (float[3, 9] y, int64[2, 3, 1] k) {
        a, b = Split <axis = 1, num_outputs = 2> (x)
        c = Concat <axis = 2> (a, b)
        d = Pad (c, pads)
        e = Slice (d, starts, ends, axes, steps)
        r = ReduceMean <keepdims = 0> (e, zero)
        b1 = ReduceMax (x, axes)
        v, k = TopK <axis = 1> (b1, three)
        s = Squeeze (b1, axes)
        u = Unsqueeze (s, axes)
        w = Expand (u, big)
        g = Gather <axis = 0> (r, i)
        cond = Less (g, half)
        f = Where (cond, g, g)
        y = Tile (f, ones)
    }""",
    "shapes": """(float[2, 3, 4] x) => (float[2, 12] y, float[4, 4] eye, float[n] range, float[2, 3, 8] up) {
        s = Shape (x)
        n = Gather (s, zero0)
        m = Constant <value = int64[1] {-1}> ()
        u = Unsqueeze (n, zero)
        t = Concat <axis = 0> (u, m)
        y = Reshape (x, t)
        c = ConstantOfShape <value = float[1] {1.5}> (square)
        eye = EyeLike (c)
        range = Range (f0, f1, f2)
        up = Resize <mode = "linear"> (x, , scales)
    }""",
    "recurrent": """(float[4, 1, 3] x) => (float[4, 1, 1, 2] y, float[1, 1, 2] h) {
        y, h = GRU <hidden_size = 2> (x, gw, gr)
    }""",
    "control": """(bool c, float[2] x) => (float[2] y) {
        a = If (c) <
            then_branch = t () => (float[2] p) { p = Neg (x) },
            else_branch = e () => (float[2] q) { q = Exp (x) }>
        y = Relu (a)
    }""",
    "quantized": """(float[1, 4, 5, 5] x) => (float[1, 6, 3, 3] y) {
        a = QuantizeLinear (x, step, z)
        b = DequantizeLinear (a, step, z)
        w = DequantizeLinear <axis = 0> (qw, ws)
        c = Conv (b, w)
        d = QuantizeLinear (c, step, z)
        y = DequantizeLinear (d, step, z)
    }""",
}


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = {"c0": (8, 3, 3, 3), "c1": (8, 1, 3, 3), "c2": (5, 8), "c3": (5,)}
    normal |= {"table": (7, 8), "m0": (8, 8), "scale": (8,), "bias": (8,), "gw": (1, 6, 3), "gr": (1, 6, 2)}
    integers = {"heads": [1, 5, 2, 4], "flat": [1, 5, 8], "pads": [0, 1, 0, 0, 1, 2], "zero0": 0}
    integers |= {"starts": [0], "ends": [9], "axes": [2], "steps": [1], "zero": [0], "three": [3]}
    integers |= {"big": [2, 6, 2], "ones": [1, 1], "square": [4, 4]}
    floats = {"low": 0.0, "high": 6.0, "half": 0.5, "f0": 0.0, "f1": 3.0, "f2": 0.5, "step": 0.05}
    return {
        **{name: rng.standard_normal(shape).astype(np.float32) for name, shape in normal.items()},
        **{name: np.array(values, np.int64) for name, values in integers.items()},
        **{name: np.array(values, np.float32) for name, values in floats.items()},
        "scales": np.array([1, 1, 2], np.float32),
        "z": np.array(3, np.uint8),
        "qw": rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.01, 0.1, 6).astype(np.float32),
    }


def written_seeds() -> dict[str, onnx.ModelProto]:
    """A model of each family, by its name."""
    return {name: _model(name, text) for name, text in _GRAPHS.items()}


def _model(name: str, text: str) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f"{_HEAD} {name} {text}")
    read = {name for node in proto.graph.node for name in node.input}
    stored = [onnx.numpy_helper.from_array(array, key) for key, array in _weights().items() if key in read]
    proto.graph.initializer.extend(stored)
    return proto


def read_seeds(paths: Iterable[Path], largest: int = 1 << 20) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The models in files, and in folders at any depth, of at most `largest` bytes."""
    for path in paths:
        files = sorted(path.rglob("*.onnx")) if path.is_dir() else [path]
        for file in files:
            if file.stat().st_size <= largest:
                yield f"{file.parent.name}/{file.stem}", onnx.ModelProto.FromString(file.read_bytes())
