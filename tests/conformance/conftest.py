"""How much is run: a part by default, all machines and many drawn batches with --batches."""

from __future__ import annotations

import pytest

from .machines import MACHINES

BY_DEFAULT = {"edges_on": ("host", "wasm", "arm64"), "drawn_on": ("host",)}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make conformance` asks for many."""
    parser.addoption(
        "--batches", type=int, default=0, help="drawn batches of conformance cases for each suite and machine"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The machines of a test: its argument says which run by default."""
    for argument, some in BY_DEFAULT.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, list(MACHINES if metafunc.config.getoption("--batches") else some))
