"""What is shipped: the built files are those of the sources, and the package data is enough to run."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from gossamer.runtime.node import node_available, node_command

ROOT = Path(__file__).parents[2]
WEB = ROOT / "runtime" / "web"


def test_a_fresh_build_equals_the_committed_one(tmp_path: Path) -> None:
    if not (WEB / "node_modules" / "typescript").is_dir():
        pytest.skip("typescript is not installed: run `npm ci` in runtime/web")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (copy / "node_modules").symlink_to(WEB / "node_modules")
    built = subprocess.run(
        [npm, "run", "build"], cwd=copy, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    fresh = {path.name: path.read_text(encoding="utf-8") for path in (copy / "dist").iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (WEB / "dist").iterdir()}
    assert fresh == committed, "run `npm run build` in runtime/web and commit dist"


def test_the_types_serve_strict_typescript(tmp_path: Path) -> None:
    compiler = WEB / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.is_file():
        pytest.skip("typescript is not installed: run `npm ci` in runtime/web")
    if reason := node_available():
        pytest.skip(reason)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "gossamer-web").symlink_to(WEB)
    shutil.copy(Path(__file__).parent / "usage.ts", tmp_path)
    flags = ["--noEmit", "--strict", "--target", "ES2022", "--module", "NodeNext"]
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    command = [*node_command(), str(compiler), *flags, "usage.ts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runtime_stays_small() -> None:
    code = (WEB / "dist" / "gossamer.js").read_bytes()
    assert len(code) < 23_000
    assert len(gzip.compress(code, 9)) < 9_200


def test_the_runtime_imports_nothing() -> None:
    code = (WEB / "dist" / "gossamer.js").read_text(encoding="utf-8")
    assert "import" not in code.replace("imports", "")


def test_the_files_of_an_installed_package_run(toys: Path, tmp_path: Path) -> None:
    """Only what pyproject.toml ships is copied; Node must take it as an ES module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for pattern in project["tool"]["setuptools"]["package-data"]["gossamer.runtime"]:
        for path in (ROOT / "runtime").glob(pattern):
            target = tmp_path / path.relative_to(ROOT / "runtime")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shipped = {
        str(path.relative_to(tmp_path / "web")) for path in tmp_path.glob("web/**/*") if path.is_file()
    }
    assert {"index.html", "package.json", "dist/gossamer.js", "dist/gossamer.d.ts", "node/run.mjs"} <= shipped
    (tmp_path / "0.bin").write_bytes(bytes(24))
    (tmp_path / "1.bin").write_bytes(bytes(16))
    run = [*node_command(), "web/node/run.mjs", str(toys / "toy"), ".", "."]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["outputs"][0]["name"] == "y", done.stderr


def test_versions_agree_and_the_lock_file_names_no_registry() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    lock_text = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert package["version"] == project["project"]["version"] == json.loads(lock_text)["version"]
    assert "resolved" not in lock_text
    assert "://" not in lock_text
    assert "dependencies" not in package
    assert all(version[0].isdigit() for version in package["devDependencies"].values()), "pin them exactly"
