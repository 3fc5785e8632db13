"""Functions of float64 against numpy's and math's."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import gossamer

FUNCTIONS = ("Exp", "Log", "Tanh", "Sigmoid", "Softplus", "Sin", "Cos", "Erf", "Sinh", "Cosh", "Asin", "Acos",
             "Atan", "Asinh", "Acosh", "Atanh")  # fmt: skip


def inputs() -> np.ndarray:
    """Small, ordinary and large numbers of both signs, and what is not ordinary."""
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal(3000) * np.array([1e-6, 0.3, 1, 5, 40, 300]).repeat(500)
    return np.concatenate([drawn, [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-310, 709.7, 710, -708, -746]])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What all functions give, compiled as one model; Pow has an exponent that is fed."""
    size = len(inputs())
    infos = {
        n: helper.make_tensor_value_info(n, TensorProto.DOUBLE, [size]) for n in ("x", "e", *FUNCTIONS, "Pow")
    }
    nodes = [helper.make_node(name, ["x"], [name]) for name in FUNCTIONS]
    nodes.append(helper.make_node("Pow", ["x", "e"], ["Pow"]))
    given = [infos.pop("x"), infos.pop("e")]
    graph = helper.make_graph(nodes, "double", given, list(infos.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    out: Path = tmp_path_factory.mktemp("double") / "artifact"
    with gossamer.compile(model, out=out, verify=False).session() as session:
        found = session.run(None, {"x": inputs(), "e": np.tile([2.0, -1.0, 0.5, 3.0, 0.0], size // 5)})
    return dict(zip(infos, found, strict=True))


def expected(name: str) -> np.ndarray:
    x = inputs()
    e = np.tile([2.0, -1.0, 0.5, 3.0, 0.0], len(x) // 5)
    with np.errstate(all="ignore"):
        given: dict[str, Callable[[], Any]] = {
            "Exp": lambda: np.exp(x),
            "Log": lambda: np.log(x),
            "Tanh": lambda: np.tanh(x),
            "Sigmoid": lambda: 1 / (1 + np.exp(-x)),
            "Softplus": lambda: np.logaddexp(0, x),
            "Sin": lambda: np.sin(x),
            "Cos": lambda: np.cos(x),
            "Erf": lambda: np.array([erf(v) for v in x]),
            "Sinh": lambda: np.sinh(x),
            "Cosh": lambda: np.cosh(x),
            "Asin": lambda: np.arcsin(x),
            "Acos": lambda: np.arccos(x),
            "Atan": lambda: np.arctan(x),
            "Asinh": lambda: np.arcsinh(x),
            "Acosh": lambda: np.arccosh(x),
            "Atanh": lambda: np.arctanh(x),
            "Pow": lambda: np.power(x, e),
        }
        return np.asarray(given[name]())


@pytest.mark.parametrize("name", [*FUNCTIONS, "Pow"])
def test_results_are_exact_to_a_few_units(results: dict[str, np.ndarray], name: str) -> None:
    wanted, got = expected(name), results[name]
    ordinary = np.isfinite(inputs()) & np.isfinite(wanted)
    # what underflows may be 0; a power's exponent is as exact as float64 holds it
    room = (
        1e-300
        + np.abs(wanted) * (1e-13 if name == "Pow" else 2e-15)
        + (3e-16 if name in ("Sin", "Cos", "Softplus") else 0)
    )
    wanted, got, room, x = wanted[ordinary], got[ordinary], room[ordinary], inputs()[ordinary]
    worst = np.argmax(np.abs(got - wanted) / room)
    assert np.abs(got - wanted)[worst] <= room[worst], (x[worst], got[worst], wanted[worst])


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("Sin", "Cos")])
def test_infinities_and_what_is_no_number_are_numpys(results: dict[str, np.ndarray], name: str) -> None:
    wanted, got = expected(name), results[name]
    special = ~np.isfinite(inputs()) | ~np.isfinite(wanted)
    assert np.array_equal(got[special], wanted[special], equal_nan=True)
