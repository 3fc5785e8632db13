"""If, Loop and Scan against onnxruntime, on one thread and on two."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.program import Program
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.errors import FeedError, OptionError, UnsupportedError
from gossamer.runtime.session import InferenceSession
from gossamer.tools.kernel_times import Place, kernel_times

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
Feeds = dict[str, Any]


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


X, W = normal(7, 19), normal(19, 19, seed=1) * np.float32(0.2)
TRUE, FALSE = np.array(True), np.array(False)


def parsed(text: str) -> onnx.ModelProto:
    model = parser.parse_model(HEAD + text)
    onnx.checker.check_model(model)
    return model


def lowered(text: str, target: str = "host") -> Program:
    return lower(prepare(load_model(parsed(text))), find_target(target))


@cache
def _reference(text: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(parsed(text).SerializeToString(), options)


def built(text: str, folder: Path, target: str = "host") -> Path:
    found = find_target(target)
    program = lowered(text, target)
    return build_artifact(program, emit_objects(program, found), found, folder / "artifact")


def agree(text: str, artifact: Path, feeds: Feeds, threads: int = 1) -> None:
    wanted = _reference(text).run(None, feeds)
    with InferenceSession(artifact, threads=threads) as session:
        for got, want in zip(session.run(None, feeds), wanted, strict=True):
            assert (got.dtype, got.shape) == (np.asarray(want).dtype, np.asarray(want).shape)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def check(text: str, folder: Path, *runs: Feeds) -> None:
    artifact = built(text, folder)
    for feeds in runs:
        for threads in (1, 2):
            agree(text, artifact, feeds, threads)


IF = """g (float[7,19] x, bool c) => (float[7,19] y) {
 z = Mul(x, x)
 y = If (c) <then_branch = a () => (float[7,19] t) { t = Add(z, x) },
             else_branch = b () => (float[7,19] e) { q = Exp(x) p = Sub(q, z) e = Neg(p) }>
}"""

WHILE = """g (float[7,19] x, int64 n, float most) => (float[7,19] y, int64 k) {
 t = Constant<value = bool {1}>()
 zero = Constant<value = int64 {0}>()
 y, k = Loop (n, t, x, zero) <body = b (int64 i, bool c, float[7,19] a, int64 j)
                              => (bool go, float[7,19] ao, int64 jo) {
   one = Constant<value = int64 {1}>()
   jo = Add(j, one)
   top = ReduceMax<keepdims=0>(a)
   go = Less(top, most)
   ao = Add(a, a)
 }>
}"""

SWAP = """g (float[7,19] x, float[19,19] w) => (float[7,19] u, float[7,19] v, float[30,7,19] s) {
 z = Exp(x)
 n = Constant<value = int64 {30}>()
 u, v, s = Loop (n, , x, z) <body = b (int64 i, bool c, float[7,19] a, float[7,19] d)
                            => (bool go, float[7,19] ao, float[7,19] bo, float[7,19] so) {
   go = Identity(c)
   f = Cast<to=1>(i)
   m = MatMul(d, w)
   ao = Tanh(m)
   bo = Identity(a)
   q = Add(a, f)
   so = Add(q, z)
 }>
}"""


@pytest.mark.parametrize("taken", [TRUE, FALSE])
def test_a_branch_is_taken_when_the_model_runs(taken: Any, tmp_path: Path) -> None:
    check(IF, tmp_path, {"x": X, "c": taken})


def test_a_branch_stays_a_step_of_its_own() -> None:
    kernels = [step.kernel for step in lowered(IF).steps]
    assert kernels.count("if") == 1  # between what both graphs read and the output


@pytest.mark.parametrize(("turns", "most"), [(50, 100.0), (3, 100.0), (0, 100.0), (5, -1e9)])
def test_a_loop_ends_by_its_count_or_its_condition(turns: int, most: float, tmp_path: Path) -> None:
    check(WHILE, tmp_path, {"x": X, "n": np.array(turns), "most": np.array(most, np.float32)})


def test_carried_values_may_change_places_from_turn_to_turn(tmp_path: Path) -> None:
    assert "loop" in [step.kernel for step in lowered(SWAP).steps]
    check(SWAP, tmp_path, {"x": X, "w": W})


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    axes=st.tuples(*[st.integers(-2, 1)] * 2),
    out=st.tuples(*[st.integers(-2, 1)] * 2),
    backward=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    turns=st.sampled_from([1, 2, 9, 33]),
)
def test_a_scan_goes_along_any_axis_either_way(
    axes: tuple[int, int],
    out: tuple[int, int],
    backward: list[int],
    turns: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shapes = [[turns, 19] if axis % 2 == 0 else [19, turns] for axis in axes]
    text = f"""g (float[19] h, float{shapes[0]} x, float{shapes[1]} z)
 => (float[19] last, float[p,q] s, float[r,o] d) {{
 last, s, d = Scan (h, x, z) <num_scan_inputs=2, scan_input_axes={list(axes)}, scan_output_axes={list(out)},
   scan_input_directions={backward[:2]}, scan_output_directions={backward[2:]},
   body = b (float[19] a, float[19] xi, float[19] zi) => (float[19] ao, float[19] so, float[19] do) {{
   e = Mul(a, zi)
   f = Tanh(e)
   ao = Add(f, xi)
   so = Mul(ao, xi)
   do = Sub(ao, a)
 }}>
}}"""
    feeds = {"h": X[0], "x": normal(*shapes[0], seed=4), "z": normal(*shapes[1], seed=5)}
    check(text, tmp_path_factory.mktemp("scan"), feeds)


def test_graphs_nest_and_see_the_values_around_them(tmp_path: Path) -> None:
    text = """g (float[7,19] x, float[5] limits) => (float[7,19] y) {
 e = Exp(x)
 y = Scan (x, limits) <num_scan_inputs=1, body = b (float[7,19] a, float m) => (float[7,19] ao) {
   top = ReduceMax<keepdims=0>(a)
   small = Less(top, m)
   r = If (small) <then_branch = p () => (float[7,19] t) {
       n = Constant<value = int64 {40}>()
       t = Loop (n, , a) <body = l (int64 i, bool c, float[7,19] d) => (bool go, float[7,19] d2) {
         go = Identity(c)
         th = Constant<value = float {0.01}>()
         h = Mul(e, th)
         d2 = Add(d, h)
       }>
     }, else_branch = q () => (float[7,19] o) { half = Constant<value = float {0.5}>() o = Mul(a, half) }>
   ao = Add(r, m)
 }>
}"""
    limits = np.array([3, -2, 1e6, 0, 5], np.float32)
    check(text, tmp_path, {"x": X, "limits": limits})


def test_what_a_graph_inside_reads_is_no_epilogue_of_the_layer_outside(tmp_path: Path) -> None:
    text = """g (float[7,19] x, float[19,19] w, bool c) => (float[7,19] y) {
 m = MatMul(x, w)
 y = If (c) <then_branch = a () => (float[7,19] t) { r = Relu(m) t = Add(r, x) },
             else_branch = b () => (float[7,19] e) { e = Tanh(m) }>
}"""
    check(text, tmp_path, {"x": X, "w": W, "c": TRUE}, {"x": X, "w": W, "c": FALSE})


def test_a_loop_collects_as_many_results_as_it_makes_turns(tmp_path: Path) -> None:
    text = """g (float[7,19] x, float most) => (float[k,7,19] s) {
 t = Constant<value = bool {1}>()
 n = Constant<value = int64 {50}>()
 y, s = Loop (n, t, x) <body = b (int64 i, bool c, float[7,19] a)
                        => (bool go, float[7,19] ao, float[7,19] so) {
   top = ReduceMax<keepdims=0>(a)
   go = Less(top, most)
   ao = Add(a, a)
   so = Identity(a)
 }>
}"""
    check(text, tmp_path, *({"x": X, "most": np.array(m, np.float32)} for m in (100, -9, 1e30)))


COUNTED = """g (float[7,19] x, int64 n) => (float[4,7,19] s) {
 t = Constant<value = bool {1}>()
 s = Loop (n, t) <body = b (int64 i, bool c) => (bool go, float[7,19] so) {
   go = Identity(c)
   f = Cast<to=1>(i)
   so = Add(x, f)
 }>
}"""


def test_more_turns_than_the_model_declares_fail_by_name(tmp_path: Path) -> None:
    artifact = built(COUNTED, tmp_path)
    agree(COUNTED, artifact, {"x": X, "n": np.array(4)}, threads=2)
    agree(COUNTED, artifact, {"x": X, "n": np.array(2)})
    for threads in (1, 2):
        with InferenceSession(artifact, threads=threads) as session:
            with pytest.raises(FeedError, match="more turns than the 4"):
                session.run(None, {"x": X, "n": np.array(5)})
            assert session.run(None, {"x": X, "n": np.array(4)})[0].shape == (4, 7, 19)


@pytest.mark.parametrize(("text", "feeds"), [(IF, {"x": X, "c": FALSE}), (SWAP, {"x": X, "w": W})])
def test_webassembly_branches_and_loops_too(text: str, feeds: Feeds, tmp_path: Path) -> None:
    pytest.importorskip("wasmtime")
    agree(text, built(text, tmp_path, "wasm"), feeds)


def test_a_profile_counts_a_loop_as_one_step_and_takes_one_thread(tmp_path: Path) -> None:
    artifact = built(SWAP, tmp_path)
    steps = lowered(SWAP).steps
    times = kernel_times(artifact, Place(), {"x": X, "w": W}, 0.01)
    assert times.shape[2] == len(steps) < 30  # turns
    with pytest.raises(OptionError, match="one thread"):
        kernel_times(artifact, Place(threads=2), {"x": X, "w": W}, 0.01)


def test_shapes_that_differ_by_branch_are_refused() -> None:
    text = """g (float[7,19] x, bool c) => (float[n,19] y) {
 zero = Constant<value = int64[1] {0}>()
 y = If (c) <then_branch = a () => (float[7,19] t) { t = Neg(x) },
             else_branch = b () => (float[1,19] e) { e = ReduceMax<keepdims=1>(x, zero) }>
}"""
    with pytest.raises(UnsupportedError, match="depends on the condition"):
        lowered(text)


def test_values_that_grow_in_a_loop_of_unknown_length_are_refused() -> None:
    text = """g (float[7,19] x, int64 n) => (float[7,k] y) {
 y = Loop (n, , x) <body = b (int64 i, bool c, float[7,m] a) => (bool go, float[7,j] ao) {
   go = Identity(c)
   ao = Concat<axis=1>(a, x)
 }>
}"""
    with pytest.raises(UnsupportedError, match="changes from turn to turn"):
        lowered(text)


def test_memory_of_what_a_loop_carries_is_shared_with_nothing_in_it() -> None:
    """The two carried values, what is captured and what is collected live for all of the loop."""
    program = lowered(SWAP)
    plane = 4 * X.size
    assert program.arena_bytes >= 3 * plane + 30 * plane
