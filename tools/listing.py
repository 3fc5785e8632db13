"""What `gossamer list` prints; everything is found by its file."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from gossamer.runtime.errors import OptionError, nearest

__all__ = ["list_things", "listable"]

Row = dict[str, str]


def first_sentence(source: Path) -> str:
    """The first line of a Python file's docstring, read without importing it."""
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0] if text else ""


def _folder(package: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _targets() -> list[Row]:
    from gossamer.kernels.targets import find_target, target_names

    rows = []
    for name in target_names():
        try:
            summary = find_target(name).summary
        except OptionError as error:  # no target fits this machine: `host` is listed all the same
            summary = str(error)
        rows.append({"name": name, "summary": summary})
    return rows


def _by_file(package: str, names: tuple[str, ...]) -> list[Row]:
    folder = _folder(package)
    files = {path.stem.replace("_", "-"): path for path in folder.rglob("*.py")}
    return [
        {"name": n, "summary": first_sentence(files[n]) if n in files else ""}
        for n in (name.replace("_", "-") for name in names)
    ]


def _passes() -> list[Row]:
    from gossamer.passes.running import pass_names

    return _by_file("gossamer.passes", tuple(pass_names()))


def _recipes() -> list[Row]:
    from gossamer.passes.recipe import load_recipe, recipe_names

    return [{"name": name, "summary": load_recipe(name).summary} for name in recipe_names()]


def _formats() -> list[Row]:
    from gossamer.kernels.formats import find_format, format_names

    return [{"name": name, "summary": find_format(name).summary} for name in format_names()]


def _kernels() -> list[Row]:
    return [
        {"name": path.stem.replace("_", "-"), "summary": first_sentence(path)}
        for path in sorted(_folder("gossamer.kernels.cpu").glob("*.py"))
        if _defines_kernel(path)
    ]


def _defines_kernel(source: Path) -> bool:
    """Whether a class in the file derives from Kernel; TVM is not imported to find out."""
    return any(
        isinstance(base, ast.Name) and base.id == "Kernel"
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )


def _models() -> list[Row]:
    folder = _folder("gossamer.models.zoo")
    return [
        {"name": path.stem.replace("_", "-"), "summary": first_sentence(path)}
        for path in sorted(folder.glob("*.py"))
        if path.stem != "__init__"
    ]


def _engines() -> list[Row]:
    from .choosing import engine_names

    return _by_file("gossamer.tools.engines", tuple(engine_names()))


_LISTS: dict[str, Callable[[], list[Row]]] = {
    "targets": _targets,
    "passes": _passes,
    "recipes": _recipes,
    "formats": _formats,
    "kernels": _kernels,
    "models": _models,
    "engines": _engines,
}


def listable() -> tuple[str, ...]:
    """The words that `list_things` knows."""
    return tuple(_LISTS)


def list_things(what: str) -> list[Row]:
    """Rows `{"name", "summary"}` of one kind of thing. Raises OptionError for an unknown kind."""
    if what not in _LISTS:
        raise OptionError(
            "nothing of that kind is listed",
            where=what,
            expected="one of " + ", ".join(_LISTS),
            advice=nearest(what, _LISTS),
        )
    return _LISTS[what]()
