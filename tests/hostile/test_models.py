"""Broken and hostile model files: one line, nothing read outside, nothing half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.passes import loading, saving
from gossamer.passes.loading import load_model, save_model
from gossamer.passes.reference import run_onnx
from gossamer.runtime.errors import JobError, ModelError, OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def parse(body: str, text: str = "float[2, 3] x) => (float[2, 4] y") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} g ({text}) {{ {body} }}")


def product(weight: Any = WEIGHT) -> onnx.ModelProto:
    proto = parse("y = MatMul (x, w)", f"float[2, 3] x) => (float[2, {weight.shape[1]}] y")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return proto


def external(folder: Path, location: str, array: Any = WEIGHT, **entries: str) -> Path:
    """A model in `folder` whose weight is in `location`, with more entries of its external data."""
    proto = product(array)
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def refused(source: Any, text: str) -> ModelError:
    with pytest.raises(ModelError, match=text) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    return caught.value


def test_a_sound_model_loads_from_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(product().SerializeToString())
    for source in (path, str(path), path.read_bytes(), product(), ir.from_proto(product())):
        assert len(load_model(source).graph) == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<!doctype html>", "web page"),
        (b"not a model at all, but text", "not an ONNX model"),
        (bytes(range(256)) * 8, "not an ONNX model"),
        (b"\x08\x0a", "not an ONNX model"),
    ],
)
def test_what_is_not_onnx_is_refused(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert str(path) in str(refused(path, text))
    refused(data, text)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "cannot be read: No such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")


def test_no_truncation_is_taken_for_a_model() -> None:
    whole = product().SerializeToString()
    for length in range(len(whole)):
        with pytest.raises(ModelError):
            load_model(whole[:length])


def test_no_flipped_byte_crashes_the_loader() -> None:
    whole = bytearray(product().SerializeToString())
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytes(whole[:place]) + bytes([whole[place] ^ flip]) + bytes(whole[place + 1 :])
            with suppress(ModelError):
                load_model(damaged)


def test_a_file_beyond_protobuf_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(loading.FILE_LIMIT + 1)
    refused(path, "too large for protobuf")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("y = MatMul (x, nowhere)", r"MatMul node '' reads 'nowhere', which nothing produces"),
        ("a = Add (b, x) b = Relu (a) y = Relu (b)", "cycle through Add"),
        ("y = Relu (x) y = Exp (x)", "y: a name is produced twice"),
        ("x = Relu (x) y = Exp (x)", "x: a name is produced twice"),
        ("z = Relu (x)", "y: an output is produced by no node"),
        ("y = Unheard (x)", "Unheard"),
        ("y = Relu <beta = 3> (x)", "beta"),
        ("y = Relu (x, x)", "Relu"),
        ("y = Conv <kernel_shape = 3> (x, x)", "kernel_shape"),
    ],
)
def test_broken_graphs_are_refused(body: str, text: str) -> None:
    refused(parse(body), text)


def test_nodes_out_of_order_are_put_in_order() -> None:
    proto = parse("a = Relu (x) b = Neg (a) y = Exp (b)", "float[2] x) => (float[2] y")
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    model = load_model(proto)
    assert [node.op_type for node in model.graph] == ["Relu", "Neg", "Exp"]
    assert proto.graph.node[0].op_type == "Exp"
    assert np.array_equal(run_onnx(model, {"x": np.zeros(2, np.float32)})[0], np.ones(2, np.float32))


def test_order_follows_what_inner_graphs_read() -> None:
    then, other = "t () => (float[2] p) { p = Neg (r) }", "e () => (float[2] q) { q = Exp (r) }"
    text = f"y = If (c) <then_branch = {then}, else_branch = {other}>  r = Relu (x)"
    proto = parse("y = Relu (x)", "bool c, float[2] x) => (float[2] y")
    proto.graph.CopyFrom(
        onnx.parser.parse_model(f"{HEAD} g (bool c, float[2] x) => (float[2] y) {{ {text} }}").graph
    )
    assert [node.op_type for node in load_model(proto).graph] == ["Relu", "If"]


def test_graphs_in_graphs_have_an_end() -> None:
    inner = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    inner.output.add(name="y")
    for _ in range(20):
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=onnx.GraphProto())
        inner = onnx.helper.make_graph([node], "g", [], [])
        inner.output.add(name="y")
    proto = product()
    proto.graph.CopyFrom(inner)
    for name, kind in (("c", 9), ("x", 1)):
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [2]))
    with pytest.raises(ModelError, match="nested too deeply"):
        load_model(proto)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.dims.__setitem__(0, -3), "impossible shape"),
        (lambda t: t.dims.__setitem__(0, 2**62), "impossible shape"),
        (lambda t: t.dims.__setitem__(0, 2**39), "does not fill its shape"),
        (
            lambda t: t.dims.__setitem__(0, 4),
            r"does not fill its shape; expected 64 bytes for \[4, 4\]; got 48",
        ),
        (lambda t: setattr(t, "raw_data", b"short"), "does not fill its shape"),
        (lambda t: t.ClearField("raw_data"), "does not fill its shape"),
        (lambda t: setattr(t, "data_type", 11), "does not fill its shape"),
    ],
)
def test_weights_that_do_not_fill_their_shape_are_refused(change: Callable[[Any], object], text: str) -> None:
    proto = product()
    change(proto.graph.initializer[0])
    refused(proto, text)


def test_a_weight_given_twice_is_refused() -> None:
    proto = product()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    refused(proto, "w: an initializer is given twice")


def test_sparse_weights_become_dense_within_limits() -> None:
    proto = parse("y = MatMul (x, w)")
    sparse = proto.graph.sparse_initializer.add(dims=[3, 4])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([5, 7], np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 11], np.int64), "i"))
    expected = np.zeros(12, np.float32)
    expected[[1, 11]] = 5, 7
    got = load_model(proto).graph.initializers["w"].const_value
    assert got is not None
    assert np.array_equal(got.numpy(), expected.reshape(3, 4))
    sparse.dims[0] = 2**31
    refused(proto, "too large when dense")
    sparse.dims[0] = 2
    refused(proto, "lie outside")


# ---- external data ----


@pytest.mark.parametrize("columns", [4, 4000])
def test_external_data_is_used_and_mapped_where_large(tmp_path: Path, columns: int) -> None:
    weight = np.arange(3 * columns, dtype=np.float32).reshape(3, columns)
    (tmp_path / "w.bin").write_bytes(b"\0" * 16 + weight.tobytes())
    digest = hashlib.sha1((tmp_path / "w.bin").read_bytes()).hexdigest()
    model = load_model(
        external(tmp_path, "w.bin", weight, offset="16", length=str(weight.nbytes), checksum=digest)
    )
    value = model.graph.initializers["w"].const_value
    assert isinstance(value, ir.ExternalTensor) == (columns > 1000)
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(run_onnx(model, {"x": x})[0], x @ weight)
    save_model(model, tmp_path / "whole.onnx")
    (tmp_path / "w.bin").unlink()
    assert np.array_equal(run_onnx(tmp_path / "whole.onnx", {"x": x})[0], x @ weight)


def test_external_data_loads_from_the_models_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    external(tmp_path, "w.bin")
    monkeypatch.chdir(tmp_path)
    value = load_model("model.onnx").graph.initializers["w"].const_value
    monkeypatch.chdir("/")
    assert value is not None
    assert np.array_equal(value.numpy(), WEIGHT)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../w.bin", "outside the model's folder"),
        ("a/../../w.bin", "outside the model's folder"),
        ("..\\w.bin", "outside the model's folder"),
        ("/etc/passwd", "relative to the model"),
        ("C:\\w.bin", "relative to the model"),
        ("\\\\server\\w.bin", "relative to the model"),
        ("", "relative to the model"),
        ("w\0.bin", "relative to the model"),
        ("link.bin", "link out of the model's folder"),
        ("linked/w.bin", "link out of the model's folder"),
        ("none.bin", "is missing"),
        ("folder", "not a regular file"),
        ("hard.bin", "several hard links"),
    ],
)
def test_external_data_stays_inside_the_folder(tmp_path: Path, location: str, text: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    (folder / "folder").mkdir(parents=True)
    for place in (outside / "w.bin", tmp_path / "w.bin", outside / "hard.bin"):
        place.write_bytes(WEIGHT.tobytes())
    (folder / "link.bin").symlink_to(outside / "w.bin")
    (folder / "linked").symlink_to(outside)
    (folder / "hard.bin").hardlink_to(outside / "hard.bin")
    refused(external(folder, location), text)


def test_a_link_within_the_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "link.bin").symlink_to("w.bin")
    value = load_model(external(tmp_path, "link.bin")).graph.initializers["w"].const_value
    assert value is not None
    assert np.array_equal(value.numpy(), WEIGHT)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": "1"}, r"too short; expected bytes 1 to 49; got 48 bytes"),
        ({"offset": "-8"}, "no readable offset"),
        ({"offset": "99999999999999999999"}, "no readable offset"),
        ({"offset": "9999999999999999999"}, "too short"),
        ({"length": "47"}, r"does not fill its tensor; expected 48 bytes for \[3, 4\]; got 47"),
        ({"length": "many"}, "no readable offset"),
        ({"checksum": "0" * 40}, "checksum of external data is wrong"),
        ({"checksum": "0" * 64}, "checksum of external data is wrong"),
        ({"checksum": "crc:12"}, "unknown kind of checksum"),
    ],
)
def test_external_data_is_what_the_model_says(tmp_path: Path, entries: dict[str, str], text: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    refused(external(tmp_path, "w.bin", **entries), text)


def test_bytes_have_no_folder_for_external_data(tmp_path: Path) -> None:
    refused(external(tmp_path, "w.bin").read_bytes(), "load the model from its path")


def test_external_data_inside_nodes_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    external(tmp_path, "w.bin")
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    constant = onnx.helper.make_node("Constant", [], ["w"], value=proto.graph.initializer[0])
    del proto.graph.initializer[:]
    proto.graph.node.insert(0, constant)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(run_onnx(load_model(tmp_path / "model.onnx"), {"x": x})[0], x @ WEIGHT)


# ---- saving ----


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="its folder does not exist"):
        save_model(ir.from_proto(product()), tmp_path / "none" / "m.onnx")
    with pytest.raises(OptionError, match="is a folder"):
        save_model(ir.from_proto(product()), tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(JobError, match=r"m\.onnx: cannot be written: No space left on device"):
        save_model(ir.from_proto(product()), path)
    assert leftovers(tmp_path) == ["m.onnx"]
    assert path.read_bytes() == b"old"


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = ir.from_proto(product())
    save_model(model, path)
    whole, stop, seen = path.read_bytes(), threading.Event(), set[bytes]()

    def watch() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        save_model(model, path)
    stop.set()
    watcher.join()
    assert seen == {whole}


def test_large_weights_go_to_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = parse("y = MatMul (x, w)", "float[2, 40] x) => (float[2, 40] y")
    weight = np.random.default_rng(0).standard_normal((40, 40), dtype=np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    monkeypatch.setattr(saving, "INLINE_LIMIT", 1000)
    save_model(ir.from_proto(proto), tmp_path / "m.onnx")
    assert leftovers(tmp_path) == ["m.onnx", "m.onnx.data"]
    loaded = load_model(tmp_path / "m.onnx")
    x = np.ones((2, 40), np.float32)
    expected = run_onnx(proto, {"x": x})[0]
    assert np.array_equal(run_onnx(tmp_path / "m.onnx", {"x": x})[0], expected)
    save_model(loaded, tmp_path / "m.onnx")
    assert np.array_equal(run_onnx(tmp_path / "m.onnx", {"x": x})[0], expected)
    assert leftovers(tmp_path) == ["m.onnx", "m.onnx.data"]
