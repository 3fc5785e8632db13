"""The JavaScript runtime in Node: one pytest test for each file of node:test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gossamer.runtime.node import node_command

HERE = Path(__file__).parent


def run_node_test(name: str, toys: Path) -> None:
    command = [*node_command(), "--test", "--test-reporter=spec", str(HERE / f"{name}.test.mjs")]
    environment = {**os.environ, "GOSSAMER_TOYS": str(toys)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["session", "threads", "tensor", "manifest", "source", "sizes"])
def test_in_node(toys: Path, name: str) -> None:
    run_node_test(name, toys)
