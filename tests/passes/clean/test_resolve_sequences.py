"""Sequences, optional values and loops that are written out: onnxruntime gives the same, before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from gossamer.passes.base import PassOutcome
from gossamer.passes.clean.fold_constants import FoldConstants
from gossamer.passes.clean.lift_constants import LiftConstants
from gossamer.passes.clean.remove_unused import RemoveUnused
from gossamer.passes.clean.resolve_sequences import ResolveSequences
from gossamer.passes.clean.unroll_loops import UnrollLoops
from gossamer.passes.loading import load_model

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
MAKERS = """
 zero = Constant<value_int=0>()
 last = Constant<value_int=-1>()
 e = Exp(x)
"""

CASES = {
    "positions, insertion and erasure": """g (float[3,4] x) => (float[6,4] y, int64 n, float[3,4] z) {
 s = SequenceConstruct(x, e)
 s2 = SequenceInsert(s, x, last)
 s3 = SequenceErase(s2, zero)
 s4 = SequenceInsert(s3, e)
 s5 = SequenceErase(s4)
 y = ConcatFromSequence<axis=0>(s5)
 n = SequenceLength(s4)
 z = SequenceAt(s4, last)
}""",
    "an empty sequence that is filled, along a new axis": """g (float[3,4] x) => (float[3,2,4] y) {
 s = SequenceEmpty()
 s2 = SequenceInsert(s, x)
 s3 = SequenceInsert(s2, e, zero)
 y = ConcatFromSequence<axis=-2, new_axis=1>(s3)
}""",
    "parts of one without the axis": """g (float[3,4] x) => (float[3] y, int64 n) {
 s = SplitToSequence<axis=-1, keepdims=0>(e)
 y = SequenceAt(s, last)
 n = SequenceLength(s)
}""",
    "parts of a size and what is left": """g (float[3,4] x) => (float[3,1] y, float[3,3] z) {
 three = Constant<value_int=3>()
 s = SplitToSequence<axis=1>(x, three)
 y = SequenceAt(s, last)
 z = SequenceAt(s, zero)
}""",
    "parts of given sizes": """g (float[3,4] x) => (float[3,1] y, float[3,4] z) {
 sizes = Constant<value_ints=[1, 3]>()
 s = SplitToSequence<axis=1>(x, sizes)
 y = SequenceAt(s, zero)
 z = ConcatFromSequence<axis=1>(s)
}""",
    "a graph for each element": """g (float[3,4] x) => (float[3,4] y, float[6,4] z) {
 s = SequenceConstruct(x, e)
 m, m2 = SequenceMap (s, x) <body = a (float[3,4] f, float[3,4] h) => (float[3,4] t, float[3,4] u) {
   t = Add(f, h)
   u = Mul(f, e)
 }>
 y = SequenceAt(m, last)
 z = ConcatFromSequence<axis=0>(m2)
}""",
    "branches that give sequences": """g (float[3,4] x, bool c)
 => (float[3,4] y, float[3,4] z, float[3,4] w) {
 s, w = If (c) <
   then_branch = a () => (seq(float[3,4]) t, float[3,4] k) { t = SequenceConstruct(x, e) k = Neg(x) },
   else_branch = b () => (seq(float[3,4]) u, float[3,4] l) { q = Neg(e) u = SequenceConstruct(q, q)
     l = Abs(x) }>
 y = SequenceAt(s, zero)
 z = SequenceAt(s, last)
}""",
    "a value that is there": """g (float[3,4] x) => (bool y, float[3,4] z) {
 o = Optional(e)
 y = OptionalHasElement(o)
 z = OptionalGetElement(o)
}""",
    "a loop that appends": """g (float[3,4] x) => (float[5,3,4] y, float[3,4] z) {
 n = Constant<value_int=5>()
 s = SequenceEmpty()
 q, z = Loop (n, , s, x) <body = b (int64 i, bool c, seq(float[3,4]) r, float[3,4] a)
                         => (bool go, seq(float[3,4]) ro, float[3,4] ao) {
   go = Identity(c)
   f = Cast<to=1>(i)
   ao = Sub(a, f)
   ro = SequenceInsert(r, ao)
 }>
 y = ConcatFromSequence<axis=0, new_axis=1>(q)
}""",
    "a loop whose value grows": """g (float[3,4] x) => (float[3,k] y, float[3,3] z) {
 n = Constant<value_int=3>()
 y, z = Loop (n, , x) <body = b (int64 i, bool c, float[3,m] a)
                         => (bool go, float[3,j] ao, float[3] so) {
   go = Identity(c)
   ao = Concat<axis=1>(a, e)
   axis = Constant<value_ints=[1]>()
   so = ReduceSum<keepdims=0>(ao, axis)
 }>
}""",
}


def source(name: str) -> onnx.ModelProto:
    model = parser.parse_model(HEAD + CASES[name].replace(") {\n", ") {" + MAKERS, 1))
    onnx.checker.check_model(model)
    return model


def resolved(model: onnx.ModelProto) -> ir.Model:
    found = load_model(model)
    for step in (LiftConstants(), FoldConstants(), UnrollLoops(), ResolveSequences(), FoldConstants()):
        step(found)
    RemoveUnused()(found)
    return found


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return list(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds))


@pytest.mark.parametrize("name", CASES)
def test_elements_stand_where_sequences_were(name: str) -> None:
    model = source(name)
    after = resolved(model)
    kinds = {node.op_type for node in after.graph.all_nodes()}
    assert not {kind for kind in kinds if "Sequence" in kind or "Optional" in kind or kind == "Loop"}
    conditions = (True, False) if any(value.name == "c" for value in model.graph.input) else (None,)
    for condition in conditions:
        feeds = {"x": X} | ({} if condition is None else {"c": np.array(condition)})
        for got, wanted in zip(run(ir.to_proto(after), feeds), run(model, feeds), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_position_known_only_at_run_time_leaves_the_sequence() -> None:
    text = "g (float[3,4] x, int64 i) => (float[3,4] y) { s = SequenceConstruct(x, x) y = SequenceAt(s, i) }"
    model = load_model(parser.parse_model(HEAD + text))
    outcome = ResolveSequences()(model)
    assert not outcome.modified
    assert [node.op_type for node in model.graph] == ["SequenceConstruct", "SequenceAt"]


LONG = """g (float[3,4] x) => (float[3,4] y) {
 n = Constant<value_int=1000>()
 y = Loop (n, , x) <body = b (int64 i, bool c, float[3,4] a) => (bool go, float[3,4] ao) {
   go = Identity(c)
   ao = Tanh(a)
 }>
}"""


def test_a_long_loop_of_values_of_one_shape_stays_a_loop_and_the_report_says_why() -> None:
    model = load_model(parser.parse_model(HEAD + LONG))
    LiftConstants()(model)
    FoldConstants()(model)
    outcome = UnrollLoops()(model)
    assert "Loop" in {node.op_type for node in model.graph}
    assert isinstance(outcome, PassOutcome)
    assert "2000 nodes" in outcome.report.refused[0].reason


@pytest.mark.parametrize("condition", ["t", "f"])
def test_a_loop_whose_condition_may_end_it_is_not_written_out(condition: str) -> None:
    text = """g (float[3,4] x, bool t) => (float[3,4] y) {
 n = Constant<value_int=2>()
 f = Constant<value = bool {0}>()
 y = Loop (n, COND, x) <body = b (int64 i, bool c, float[3,4] a) => (bool go, float[3,4] ao) {
   go = Identity(c)
   ao = Tanh(a)
 }>
}""".replace("COND", condition)
    model = load_model(parser.parse_model(HEAD + text))
    LiftConstants()(model)
    UnrollLoops()(model)
    assert "Loop" in {node.op_type for node in model.graph}
