"""The JavaScript runtime and its page in headless Chromium, served over localhost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from gossamer.runtime.node import node_command

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "runtime" / "web" / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def test_in_chromium(toys: Path) -> None:
    browser = next((found for name in BROWSERS if (found := which(name))), None)
    if browser is None:
        pytest.skip("Chromium is not installed")
    if not (MODULES / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed: run `npm ci` in runtime/web")
    command = [*node_command(), "--test", "--test-reporter=spec", str(HERE / "browser.test.mjs")]
    environment = {**os.environ, "GOSSAMER_TOYS": str(toys), "GOSSAMER_CHROMIUM": browser}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
