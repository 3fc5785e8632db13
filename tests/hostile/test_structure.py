"""Models of a right form that mean nothing, or too much: each is refused in one line that names the place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gossamer.kernels.limits import ARENA_LIMIT, ELEMENT_LIMIT
from gossamer.kernels.lowering import lower
from gossamer.kernels.program import Program
from gossamer.kernels.targets import find_target
from gossamer.passes.clean import prepare
from gossamer.passes.loading import load_model
from gossamer.passes.reference import run_onnx
from gossamer.runtime.errors import InputError, ModelError, UnsupportedError

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>'


def parse(text: str, functions: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} g {text} {functions}")


def compiled(proto: onnx.ModelProto) -> Program:
    return lower(prepare(load_model(proto)), find_target("host"))


def refused(proto: onnx.ModelProto, text: str, kind: type[InputError] = InputError) -> None:
    with pytest.raises(kind, match=text) as caught:
        compiled(proto)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert "please report it" not in str(caught.value)


# ---- types and shapes against each other ----

WRONG = {
    "other types": ("(float[2] x, int64[2] i) => (float[2] y) { y = Add (x, i) }", "Add"),
    "an int for a list": ("(float[2, 2] x) => (float[2, 2] y) { y = Transpose <perm = 1> (x) }", "perm"),
    "a list for an int": ("(float[2, 2] x) => (float[2, 2] y) { y = Softmax <axis = [1]> (x) }", "axis"),
    "perm twice": ("(float[2, 2] x) => (float[2, 2] y) { y = Transpose <perm = [0, 0]> (x) }", "Transpose"),
    "perm too long": (
        "(float[2, 2] x) => (float[2, 2] y) { y = Transpose <perm = [0, 1, 2]> (x) }",
        "Transpose",
    ),
    "axis out of range": ("(float[2, 2] x) => (float[2, 2] y) { y = Softmax <axis = 2> (x) }", "Softmax"),
    "concat axis": ("(float[2] x) => (float[4] y) { y = Concat <axis = 3> (x, x) }", "Concat"),
    "concat sizes": (
        "(float[2, 3] x, float[2, 4] z) => (float[4, 3] y) { y = Concat <axis = 0> (x, z) }",
        "Concat",
    ),
    "too few inputs": ("(float[2] x) => (float[2] y) { y = Add (x) }", "Add"),
    "too many inputs": ("(float[2] x) => (float[2] y) { y = Relu (x, x) }", "Relu"),
    "too many outputs": ("(float[2] x) => (float[2] y) { y, z = Relu (x) }", "Relu"),
    "a missing attribute": ("(float[2] x) => (float[2] y) { y = Cast (x) }", "to"),
    "an unknown type": ("(float[2] x) => (float[2] y) { y = Cast <to = 99> (x) }", "Cast"),
    "ranks of a product": (
        "(float[2, 3] x, float[4, 2] z) => (float[2, 2] y) { y = MatMul (x, z) }",
        "MatMul",
    ),
    "sizes of a sum": ("(float[2, 3] x, float[2, 4] z) => (float[2, 3] y) { y = Add (x, z) }", "Add"),
    "a convolution's rank": ("(float[2, 3] x, float[4, 2] w) => (float[2, 2] y) { y = Conv (x, w) }", "Conv"),
    "a convolution's channels": (
        "(float[1, 3, 8, 8] x, float[4, 2, 3, 3] w) => (float[1, 4, 6, 6] y) { y = Conv (x, w) }",
        "Conv",
    ),
    "a group that does not divide": (
        "(float[1, 3, 8, 8] x, float[4, 1, 3, 3] w) => (float[1, 4, 6, 6] y) { y = Conv <group = 2> (x, w) }",
        "Conv",
    ),
    "no group": (
        "(float[1, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[1, 4, 6, 6] y) { y = Conv <group = 0> (x, w) }",
        "Conv",
    ),
    "a stride of 0": (
        "(float[1, 3, 8, 8] x) => (float[1, 3, 6, 6] y)"
        " { y = MaxPool <kernel_shape = [3, 3], strides = [0, 1]> (x) }",
        "MaxPool",
    ),
    "a negative dilation": (
        "(float[1, 3, 8, 8] x) => (float[1, 3, 6, 6] y)"
        " { y = MaxPool <kernel_shape = [3, 3], dilations = [-1, 1]> (x) }",
        "MaxPool",
    ),
    "an empty kernel": (
        "(float[1, 3, 8, 8] x) => (float[1, 3, 6, 6] y) { y = AveragePool <kernel_shape = [0, 3]> (x) }",
        "AveragePool",
    ),
    "a negative pad": (
        "(float[1, 3, 8, 8] x) => (float[1, 3, 6, 6] y)"
        " { y = MaxPool <kernel_shape = [3, 3], pads = [-1, 0, 0, 0]> (x) }",
        "MaxPool",
    ),
    "a window larger than its image": (
        "(float[1, 3, 2, 2] x) => (float[1, 3, 1, 1] y) { y = MaxPool <kernel_shape = [5, 5]> (x) }",
        "MaxPool",
    ),
    "indices of another rank": (
        "(float[3, 3] x, int64 i) => (float[3, 3] y) { y = GatherElements (x, i) }",
        "indices have another rank",
    ),
    "updates of another size": (
        "(float[1, 5] x, int64[1, 2] i, float[1, 5] u) => (float[1, 5] y) { y = ScatterElements (x, i, u) }",
        "updates",
    ),
    "a bias of another size": (
        "(float[1, 3, 8, 8] x, float[4, 3, 3, 3] w, float[3] b) => (float[1, 4, 6, 6] y)"
        " { y = Conv (x, w, b) }",
        "input 2 does not fit the channels; expected [4]; got [3]".replace("[", r"\["),
    ),
    "a scale without channels": (
        "(float[2, 3, 4] x, float[3] s, float b) => (float[2, 3, 4] y)"
        " { y = InstanceNormalization (x, s, b) }",
        "input 2 does not fit the channels",
    ),
    "an unknown domain": ("(float[2] x) => (float[2] y) { y = nobody.Relu (x) }", "nobody"),
    "an attribute of a function": (
        "(float[2] x) => (float[2] y) { y = Elu <alpha: float = @alpha> (x) }",
        "'alpha' refers to a function's",
    ),
    "no outputs": ("(float[2] x) => () { y = Relu (x) }", "the graph has no outputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_refused(name: str) -> None:
    text, words = WRONG[name]
    refused(parse(text), words)


def test_an_attribute_given_twice_is_refused() -> None:
    proto = parse("(float[2] x) => (float[2] y) { y = Elu <alpha = 1.0> (x) }")
    proto.graph.node[0].attribute.append(proto.graph.node[0].attribute[0])
    refused(proto, "Elu node 'y': attribute 'alpha' is given twice", ModelError)


def test_an_output_listed_twice_is_refused() -> None:
    proto = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.graph.output.append(proto.graph.output[0])
    refused(proto, "y: an output is listed twice", ModelError)


@pytest.mark.parametrize("version", [-1, 0, 99, 2**40])
def test_opsets_that_do_not_exist_are_refused(version: int) -> None:
    proto = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.opset_import[0].version = version
    refused(proto, "(?i)opset|version|schema|field", ModelError)


def test_a_model_of_a_later_ir_version_is_refused() -> None:
    proto = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
    proto.ir_version = 2**30
    refused(proto, "(?i)ir_version|ir version", ModelError)


def test_names_cannot_move_the_cursor_or_fill_the_screen() -> None:
    for name in ("\x1b[2J\x07\0", "a" * 5000, "é\u202e" * 100):
        proto = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
        proto.graph.node[0].name = name
        proto.graph.node[0].input[0] = name + "?"
        with pytest.raises(ModelError) as caught:
            load_model(proto)
        text = str(caught.value)
        assert text.isprintable()
        assert len(text) < 1500


# ---- declared sizes ----


@pytest.mark.parametrize("declared", ["[7]", "[2, 3, 4]", "[n, 3]", "[2, 5]"])
def test_wrong_sizes_that_a_file_declares_do_not_count(declared: str) -> None:
    program = compiled(parse(f"(float[2, 3] x) => (float{declared} y) {{ y = Relu (x) }}"))
    assert [tensor.shape for tensor in program.outputs] == [(2, 3)]


def test_a_negative_size_is_an_open_one() -> None:
    proto = parse("(float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model = load_model(proto)
    shape = model.graph.inputs[0].shape
    assert shape is not None
    assert not isinstance(shape[0], int)


# ---- too much ----

BOMBS = {
    "an input": ("(float[70000, 70000] x) => (float[1, 1] y) { y = ReduceMax (x) }", ELEMENT_LIMIT),
    "a value": (
        "(float[70000, 1] x, float[1, 70000] z) => (float[1, 1] y) { a = Add (x, z) y = ReduceMax (a) }",
        ELEMENT_LIMIT,
    ),
    "activations": (
        "(float[46000, 46000] x) => (float[46000, 46000] y)"
        " { a = Exp (x) b = Transpose (a) c = MatMul (a, b) d = MatMul (c, a) e = MatMul (d, c)"
        " y = Exp (e) }",
        ARENA_LIMIT,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_no_machine_holds_is_refused_before_it_is_built(name: str) -> None:
    text, limit = BOMBS[name]
    refused(parse(text), f"at most {limit}", UnsupportedError)


def constant(name: str, values: Any) -> TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(values), name)


EXPANDING: dict[str, tuple[str, dict[str, Any]]] = {
    "ConstantOfShape": ("y = ConstantOfShape (s)", {"s": np.array([2**17, 2**17])}),
    "Expand": ("y = Expand (x, s)", {"s": np.array([2**17, 2**17])}),
    "Tile": (
        "a = Reshape (x, one) y = Tile (a, s)",
        {"one": np.ones(2, "q"), "s": np.array([2**17, 2**17])},
    ),
    "Range": ("y = Range (a, b, c)", {"a": np.int64(0), "b": np.int64(2**62), "c": np.int64(1)}),
    "Pad": ("y = Pad (x, p)", {"p": np.array([2**40, 2**40])}),
    "OneHot": (
        "y = OneHot (i, d, v)",
        {"i": np.arange(9), "d": np.array(2**40), "v": np.array([0.0, 1.0], "f")},
    ),
    "Resize": (
        "a = Reshape (x, one) y = Resize (a, , s)",
        {"one": np.array([1, 1, 1, 1]), "s": np.array([1, 1, 1e6, 1e6], "f")},
    ),
    "a chain of Tile": (
        "a = Tile (x, s) b = Tile (a, s) c = Tile (b, s) d = Tile (c, s) y = Tile (d, s)",
        {"s": np.array([1000])},
    ),
}


@pytest.mark.parametrize("name", EXPANDING)
@pytest.mark.parametrize("known", [True, False], ids=["constant", "fed"])
def test_a_small_model_cannot_ask_for_a_large_tensor(name: str, known: bool) -> None:
    body, arrays = EXPANDING[name]
    proto = parse(f"(float[1] {'unused' if known else 'x'}) => (float y) {{ {body} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    kinds = {"Range": TensorProto.INT64}
    proto.graph.output[0].type.tensor_type.elem_type = kinds.get(name, TensorProto.FLOAT)
    proto.graph.output[0].type.tensor_type.shape.SetInParent()
    stored = {**arrays, **({"x": np.ones(1, np.float32)} if known else {})}
    proto.graph.initializer.extend(constant(key, value) for key, value in stored.items())
    refused(proto, ".")


def test_functions_that_grow_exponentially_are_refused() -> None:
    names = [f"F{i}" for i in range(40)]
    bodies = ['<domain: "f", opset_import: ["": 21]> F0 (a) => (b) { b = Relu (a) }']
    for name, inner in zip(names[1:], names, strict=False):
        body = f"c = f.{inner} (a) b = f.{inner} (c)"
        bodies.append(f'<domain: "f", opset_import: ["": 21, "f": 1]> {name} (a) => (b) {{ {body} }}')
    proto = parse("(float[2] x) => (float[2] y) { y = f.F39 (x) }", " ".join(bodies))
    refused(proto, "too large with its functions", ModelError)


def test_functions_in_a_circle_and_long_chains_are_refused() -> None:
    head = '<domain: "f", opset_import: ["": 21, "f": 1]>'
    circle = f"{head} F (a) => (b) {{ b = f.G (a) }} {head} G (a) => (b) {{ b = f.F (a) }}"
    refused(parse("(float[2] x) => (float[2] y) { y = f.F (x) }", circle), "in a circle", ModelError)
    chain = " ".join(f"{head} F{i} (a) => (b) {{ b = f.F{i + 1} (a) }}" for i in range(3000))
    last = f"{head} F3000 (a) => (b) {{ b = Relu (a) }}"
    refused(
        parse("(float[2] x) => (float[2] y) { y = f.F0 (x) }", f"{chain} {last}"), "too deeply", ModelError
    )


def test_graphs_nested_beyond_any_stack_are_refused(tmp_path: Path) -> None:
    """The bytes of 10,000 graphs inside each other, which protobuf's own writer does not make."""
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("y", 1, [1])]).SerializeToString()
    for _ in range(10_000):
        attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
        graph = _field(1, _field(4, b"If") + _field(5, attribute))
    data = b"\x08\x0a" + _field(8, b"\x10\x15") + _field(7, graph)
    with pytest.raises(ModelError, match="cannot decode"):
        load_model(data)


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes in protobuf's encoding."""
    length, size = b"", len(data)
    while True:
        size, digit = size >> 7, size & 127
        length += bytes([digit | (128 if size else 0)])
        if not size:
            return bytes([number << 3 | 2]) + length + data


def test_names_that_are_no_utf8_are_refused() -> None:
    data = parse("(float[2] x) => (float[2] y) { y = Relu (x) }").SerializeToString()
    for name in (b"Relu", b"g", b"x"):
        with pytest.raises(ModelError, match="not UTF-8") as caught:
            load_model(data.replace(name, b"\xff" * len(name)))
        assert str(caught.value).isprintable()


# ---- external data ----


def external(folder: Path, location: str, **entries: str) -> Path:
    proto = parse("(float[2, 3] x) => (float[2, 4] y) { y = MatMul (x, w) }")
    weight = constant("w", np.zeros((3, 4), np.float32))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    proto.graph.initializer.append(weight)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


Place = Callable[[Path], object]
PLACES: dict[str, Place] = {
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", PLACES)
def test_external_data_in_no_plain_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    PLACES[kind](tmp_path / "w")
    with pytest.raises(ModelError, match="w"):
        load_model(external(tmp_path, "w"))


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1e3", "0x10", "NaN", "", "9" * 5000, "١٢", " 4", "4_8"])
def test_offsets_and_lengths_that_are_no_numbers_are_refused(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "w").write_bytes(bytes(48))
    with pytest.raises(ModelError, match="external data") as caught:
        load_model(external(tmp_path, "w", **{key: value}))
    assert len(str(caught.value)) < 1000


# ---- what looks odd and is right ----

ODD = {
    "an empty tensor": "(float[0, 3] x) => (float[0, 3] y) { y = Relu (x) }",
    "an empty sum": "(float[0, 3] x) => (float[1, 3] y) { a = ReduceSum (x, axes) y = Reshape (a, wide) }",
    "an unused input": "(float[2] x, float[1000] z) => (float[2] y) { y = Relu (x) }",
    "an input that is an output": "(float[2] x) => (float[2] x) { y = Relu (x) }",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_give_onnxruntimes_answers(name: str) -> None:
    from gossamer.tools.compiling import compile

    proto = parse(ODD[name])
    proto.graph.initializer.append(constant("axes", np.array([0])))
    proto.graph.initializer.append(constant("wide", np.array([1, 3])))
    artifact = compile(proto, verify=False)
    with artifact.session() as session:
        feeds = {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}  # type: ignore[arg-type]
        for expected, got in zip(run_onnx(proto, feeds), session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(expected, got)
