"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tools", "models", "passes", "kernels", "runtime")
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts and ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str) -> None:
    result = doctest.testmod(import_module("gossamer." + module.replace("/", ".")))
    assert result.attempted > 0
    assert result.failed == 0
