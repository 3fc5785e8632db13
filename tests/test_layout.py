"""The layout that the packaging and the architecture rest on: import directions, packages, links."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAIN = ("tools", "models", "passes", "kernels", "runtime")  # each may import itself and what follows
ROOT_PACKAGE = ROOT / "tools" / "api"


def sources(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*.py")) if "node_modules" not in p.parts)


def module_of(path: Path) -> tuple[str, ...]:
    """The dotted name of a file, by the rule that folder X is the package gossamer.X."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ("gossamer", *(parts[:-1] if parts[-1] == "__init__" else parts))


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Modules that a file imports, as absolute dotted names; whether written relatively; the line."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, False, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            yield ".".join((*base, *((node.module,) if node.module else ()))), True, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", False, node.lineno


def faults_of(folder: str) -> Iterator[str]:
    right = CHAIN[CHAIN.index(folder) + 1 :]
    for path in sources(ROOT / folder):
        if ROOT_PACKAGE in path.parents:
            continue  # the root package: tested below
        for name, relative, line in imports(path):
            where = f"{path.relative_to(ROOT)}:{line}"
            parts = name.split(".")
            if relative:
                if parts[:2] != ["gossamer", folder]:
                    yield f"{where}: a relative import leaves the folder ({name})"
            elif parts[0] in CHAIN:
                yield f"{where}: bare import of {name}; write gossamer.{name}"
            elif parts[0] == "gossamer" and len(parts) > 1:
                if parts[1] == folder:
                    yield f"{where}: inside {folder} import relatively ({name})"
                elif parts[1] not in right:
                    yield f"{where}: {folder} must not import {name}"


@pytest.mark.parametrize("folder", CHAIN)
def test_imports_go_from_left_to_right(folder: str) -> None:
    assert list(faults_of(folder)) == []


def test_the_root_package_is_imported_by_the_command_line_only() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in CHAIN
        for path in sources(ROOT / folder)
        for name, relative, _ in imports(path)
        if not relative and name == "gossamer"
    }
    assert users <= {"tools/cli.py"}


def test_the_root_package_imports_nothing_of_ours_until_it_is_used() -> None:
    tree = ast.parse((ROOT_PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    eager = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [n.module for n in eager if isinstance(n, ast.ImportFrom)] == ["__future__", "importlib", "typing"]
    assert not any(isinstance(n, ast.Import) for n in eager)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed() -> None:
    on_disk = {
        ".".join(module_of(path))
        for folder in CHAIN
        for path in sources(ROOT / folder)
        if path.name == "__init__.py" and ROOT_PACKAGE not in path.parents
    }
    listed = project()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(on_disk | {"gossamer"} - {"gossamer.tools.api"})
    assert len(listed) == len(set(listed))


def test_every_folder_with_python_files_is_a_package() -> None:
    folders = {path.parent for folder in CHAIN for path in sources(ROOT / folder)}
    assert [f.relative_to(ROOT).as_posix() for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_every_kind_of_package_data_exists() -> None:
    """A misspelt pattern is silently nothing in the wheel."""
    settings = project()["tool"]["setuptools"]
    for package, patterns in settings["package-data"].items():
        folder = ROOT / settings["package-dir"][package]
        for pattern in patterns:
            assert any(folder.glob(pattern)), f"{package}: nothing matches {pattern}"


def test_every_link_for_type_checkers_has_a_target() -> None:
    links = ROOT / ".typing" / "gossamer"
    assert {path.name for path in links.iterdir()} == {*CHAIN, "__init__.py", "py.typed"}
    for path in links.iterdir():
        assert path.is_symlink()
        assert path.exists(), f"{path.name} leads nowhere"


@pytest.mark.parametrize("folder", CHAIN)
def test_no_module_is_a_drawer(folder: str) -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [str(p.relative_to(ROOT)) for p in sources(ROOT / folder) if p.stem in drawers] == []


@pytest.mark.parametrize("folder", CHAIN)
def test_all_names_what_is_defined(folder: str) -> None:
    """Every `__all__` is sorted, without repeats, and each name in it exists at the top of the file."""
    for path in sources(ROOT / folder):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        listed = [ast.literal_eval(n.value) for n in tree.body if is_all(n) and isinstance(n, ast.Assign)]
        if listed and ROOT_PACKAGE not in path.parents:
            (names,) = listed
            assert len(names) == len(set(names)), path
            assert set(names) <= set(top_names(tree)), path


def is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
    )


def top_names(tree: ast.Module | ast.If) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from top_names(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def test_every_public_name_of_the_root_package_loads() -> None:
    root = import_module("gossamer")
    for name in root.__all__:
        assert getattr(root, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = root.nothing
