"""What is written piece by piece is the model that protobuf would have written at once."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.passes.streaming import serialized


def model(*tensors: onnx.TensorProto) -> ir.Model:
    outputs = [
        onnx.helper.make_tensor_value_info(f"y{i}", t.data_type, t.dims) for i, t in enumerate(tensors)
    ]
    nodes = [onnx.helper.make_node("Identity", [t.name], [f"y{i}"]) for i, t in enumerate(tensors)]
    graph = onnx.helper.make_graph(nodes, "g", [], outputs, list(tensors), doc_string="a graph")
    found = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], producer_name="p")
    return ir.from_proto(found)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("size", [3, 16_383, 16_384, 2_100_000])
def test_large_initializers_come_last_and_nothing_else_changes(dtype: str, size: int) -> None:
    rng = np.random.default_rng(size)
    arrays = [rng.integers(0, 2, n).astype(dtype) for n in (size, 5, 70_000)]
    source = model(*(onnx.numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(arrays)))
    got = onnx.ModelProto.FromString(b"".join(serialized(source)))
    onnx.checker.check_model(got)
    expected = ir.to_proto(source)
    kept = {t.name: onnx.numpy_helper.to_array(t) for t in got.graph.initializer}
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(kept.pop(f"w{i}"), array)
    assert not kept
    for proto in (got, expected):
        proto.graph.ClearField("initializer")
        proto.graph.ClearField("value_info")  # of initializers, which tell it themselves
    assert got == expected


def test_four_bits_stay_four_bits() -> None:
    packed = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.uint8)
    tensor = onnx.TensorProto(
        name="w", data_type=onnx.TensorProto.UINT4, dims=[200_000], raw_data=packed.tobytes()
    )
    got = onnx.ModelProto.FromString(b"".join(serialized(model(tensor))))
    assert got.graph.initializer[0] == tensor
    assert len(got.SerializeToString()) < 110_000


def test_an_initializer_is_called_as_its_readers_call_it() -> None:
    source = model(onnx.numpy_helper.from_array(np.zeros(70_000, np.float32), "w"))
    value = source.graph.initializers["w"]
    value.const_value = ir.Tensor(np.ones(70_000, np.float32), name="another")
    got = onnx.ModelProto.FromString(b"".join(serialized(source)))
    onnx.checker.check_model(got)
    assert got.graph.initializer[0].name == "w" == got.graph.node[0].input[0]
