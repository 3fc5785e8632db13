"""LSTM, GRU and RNN against onnxruntime: directions, activations, lengths and what may be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gossamer

from .conformance import Case, _model, _reference, check

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


def case(
    operator: str,
    sizes: tuple[int, int, int, int] = (5, 2, 7, 19),
    *,
    bias: bool = True,
    lengths: Any = None,
    initial: bool = False,
    peepholes: bool = False,
    fixed: tuple[int, ...] = (1, 2, 3, 7),
    outputs: tuple[int, ...] = (0, 1, 2),
    scale: float = 0.4,
    **attributes: Any,
) -> Case:
    """A node on (steps, batch, inputs, hidden); inputs at `fixed` positions are constants."""
    steps, batch, inputs, hidden = sizes
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rng = np.random.default_rng(sum(sizes))
    rows = GATES[operator] * hidden

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    batch_first = attributes.get("layout", 0)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    feeds: list[Any] = [normal(batch, steps, inputs) if batch_first else normal(steps, batch, inputs)]
    feeds += [normal(directions, rows, inputs), normal(directions, rows, hidden)]
    feeds += [normal(directions, 2 * rows) if bias else None]
    feeds += [None if lengths is None else np.array(lengths, np.int32)]
    feeds += [normal(*state) if initial else None for _ in range(STATES[operator])]
    if operator == "LSTM":
        feeds.append(normal(directions, 3 * hidden) if peepholes else None)
    while feeds[-1] is None:
        feeds.pop()
    kinds = ["float32" if i in outputs else "" for i in range(1 + STATES[operator])]
    while not kinds[-1]:
        kinds.pop()
    return Case(operator, feeds, {"hidden_size": hidden, **attributes}, fixed, kinds)


def three(**options: Any) -> list[Case]:
    """The same of all three operators."""
    return [case(operator, **options) for operator in GATES]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions(direction: str, tmp_path: Path) -> None:
    cases = three(direction=direction) + three(direction=direction, initial=True, lengths=[3, 5])
    check(cases + three(direction=direction, lengths=[5, 1], fixed=(1, 2, 3, 4)), tmp_path)


@pytest.mark.parametrize(("batch", "hidden"), [(1, 1), (1, 33), (3, 8), (7, 16), (8, 64), (13, 33)])
def test_tails_of_batch_and_hidden_units(batch: int, hidden: int, tmp_path: Path) -> None:
    check(three(sizes=(2, batch, 3, hidden), initial=True), tmp_path)


def test_what_may_be_left_out(tmp_path: Path) -> None:
    cases = three(bias=False) + three(outputs=(1,)) + three(outputs=(0,)) + three(sizes=(1, 1, 4, 6))
    check([*cases, case("LSTM", outputs=(2,)), case("LSTM", outputs=(0, 2))], tmp_path)


def test_weights_fed_at_run_time(tmp_path: Path) -> None:
    none: tuple[int, ...] = ()
    cases = three(fixed=none, initial=True) + three(fixed=none, bias=False, direction="bidirectional")
    cases += three(fixed=(1,)) + three(fixed=(2,)) + three(fixed=none, sizes=(3, 9, 5, 16))
    cases.append(case("GRU", fixed=none, linear_before_reset=1))
    check([*cases, case("LSTM", fixed=none, peepholes=True)], tmp_path)


def test_gates(tmp_path: Path) -> None:
    both = "bidirectional"
    cases = [case("GRU", linear_before_reset=n, initial=True, direction=both) for n in (0, 1)]
    cases += [case("GRU", linear_before_reset=1, bias=False), case("GRU", linear_before_reset=1, clip=0.3)]
    cases += [case("LSTM", peepholes=True, initial=True, direction=both), case("LSTM", input_forget=1)]
    cases += [case("LSTM", peepholes=True, input_forget=1, clip=0.5, scale=0.9), case("RNN", clip=0.2)]
    check(cases, tmp_path)


FUNCTIONS = [
    ("Relu", None, None),
    ("LeakyRelu", 0.3, None),
    ("ThresholdedRelu", 0.1, None),
    ("Affine", 0.5, 0.1),
    ("ScaledTanh", 0.7, 1.2),
    ("HardSigmoid", 0.3, 0.4),
    ("Elu", 0.8, None),
    ("Softsign", None, None),
    ("Softplus", None, None),
]


def test_activations(tmp_path: Path) -> None:
    cases = []
    for name, alpha, beta in FUNCTIONS:
        given: dict[str, Any] = {} if alpha is None else {"activation_alpha": [alpha]}
        given |= {} if beta is None else {"activation_beta": [beta]}
        cases.append(case("RNN", activations=[name], **given))
        cases.append(case("LSTM", activations=["Sigmoid", name, "Tanh"], **given))
        cases.append(case("GRU", activations=["Sigmoid", name], **given))
    check(cases, tmp_path)


def test_each_direction_has_its_own_activations(tmp_path: Path) -> None:
    names = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "LeakyRelu", "Elu"]
    both: dict[str, Any] = {"direction": "bidirectional"}
    cases = [case("LSTM", activations=names, activation_alpha=[0.3, 0.2, 0.9], activation_beta=[0.4], **both)]
    cases += [case("GRU", activations=["Sigmoid", "Tanh", "HardSigmoid", "Softsign"], **both)]
    check([*cases, case("RNN", activations=["Relu", "Tanh"], **both)], tmp_path)


@pytest.mark.parametrize("operator", GATES)
def test_batch_first_is_the_other_layout_turned(operator: str, tmp_path: Path) -> None:
    """onnxruntime has no layout 1: its layout 0 is the reference."""
    plain = case(operator, direction="bidirectional", initial=True, lengths=[3, 5])
    turned = [
        np.ascontiguousarray(array.swapaxes(0, 1)) if i in (0, 5, 6) and array is not None else array
        for i, array in enumerate(plain.feeds)
    ]
    batch_first = case(operator, direction="bidirectional", initial=True, lengths=[3, 5], layout=1)
    batch_first.feeds = turned
    wanted = _reference(*_model([plain]))
    model, feeds = _model([batch_first])
    with gossamer.compile(model, out=tmp_path / "a", verify=False).session() as session:
        names = [value.name for value in session.get_outputs()]
        got = dict(zip(names, session.run(None, feeds), strict=True))
    order = {"c0_out0": (2, 0, 1, 3)}  # (T, D, B, H) to (B, T, D, H)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array.transpose(order.get(name, (1, 0, 2))), rtol=0, atol=2e-6)
