"""A recipe: which passes run, in which order, with which options. YAML, or the same thing as `--set` flags.

summary: Prune 1x1 convolutions to 80 % in 4x1 blocks
extends: default            # those passes too; own ones join at the end of their stage
passes:
  - prune:
      sparsity: 0.8
      operators: {Gemm: {sparsity: 0.5}}          # by operator type: nearer than the options above
      nodes: {"/features/0/*": {skip: true}}      # by name pattern: nearer still
  - encode-sparse
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from gossamer.runtime.errors import OptionError, nearest

from .base import STAGES, Pass
from .catalog import find_pass, make_pass

__all__ = ["Recipe", "load_recipe", "recipe_names"]

_KEYS = ("summary", "extends", "passes")
_SIZE_LIMIT = 1 << 20
_DEPTH_LIMIT = 8


@dataclass(frozen=True)
class Recipe:
    """Passes with their options, in the order in which they run; `name` is the preset's or the file's."""

    name: str
    passes: tuple[tuple[str, Mapping[str, Any]], ...]
    summary: str = ""

    def __post_init__(self) -> None:
        """Check names, options and the order of stages."""
        _check_stages(self.name, self.build())

    def build(self) -> list[Pass]:
        """The passes themselves. Raises OptionError for an unknown pass or option, naming the nearest."""
        return [make_pass(name, options, f"{self.name}: {name}") for name, options in self.passes]

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """This recipe with options replaced: each setting is `pass.option=value`, the value in YAML."""
        recipe = self
        for setting in settings:
            recipe = recipe._with_setting(setting)
        return recipe

    def _with_setting(self, setting: str) -> Recipe:
        target, equals, text = setting.partition("=")
        name, dot, option = target.strip().partition(".")
        if not (equals and dot and name and option):
            raise OptionError("not a setting", where=setting, expected="pass.option=value")
        find_pass(name)
        own = [key for key, _ in self.passes]
        if name not in own:
            raise OptionError(
                f"recipe {self.name!r} has no pass {name!r}",
                where=setting,
                expected="one of " + ", ".join(own),
                advice=nearest(name, own) or "choose a recipe that has it",
            )
        value = _parse_yaml(text, setting)
        changed = tuple(
            (key, {**options, option: value} if key == name else options) for key, options in self.passes
        )
        return replace(self, passes=changed)


@cache
def recipe_names() -> tuple[str, ...]:
    """Names of the presets, sorted."""
    return tuple(sorted(file.stem for file in _presets().glob("*.yaml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """The preset of that name, or the recipe in that YAML file. Raises OptionError."""
    return _load(name_or_path, 0)


def _presets() -> Path:
    return Path(__file__).parent / "recipes"


def _load(name_or_path: str | Path, depth: int) -> Recipe:
    name = str(name_or_path)
    if name in recipe_names():
        return _from_text((_presets() / f"{name}.yaml").read_text(encoding="utf-8"), name, None, depth)
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        raise OptionError(
            "unknown recipe",
            where=name,
            expected="a .yaml file or one of " + ", ".join(recipe_names()),
            advice=nearest(name, recipe_names()),
        )
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise OptionError("a recipe is too large", where=name, expected=f"at most {_SIZE_LIMIT} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"the recipe cannot be read: {error.strerror}", where=name) from None
    except UnicodeDecodeError:
        raise OptionError("the recipe is not UTF-8 text", where=name) from None
    return _from_text(text, name, path.parent, depth)


def _from_text(text: str, name: str, folder: Path | None, depth: int) -> Recipe:
    data = _parse_yaml(text, name)
    if not isinstance(data, dict):
        raise OptionError("not a recipe", where=name, expected="a mapping with " + ", ".join(_KEYS))
    for key in data:
        if key not in _KEYS:
            raise OptionError(
                f"unknown key {key!r}",
                where=name,
                expected="one of " + ", ".join(_KEYS),
                advice=nearest(str(key), _KEYS),
            )
    passes = [_entry(entry, name) for entry in _listed(data.get("passes", []), name)]
    if (base := data.get("extends")) is not None:
        passes = _merge(_base(str(base), name, folder, depth).passes, passes)
    return Recipe(name, tuple(passes), str(data.get("summary", "")))


def _base(base: str, name: str, folder: Path | None, depth: int) -> Recipe:
    if depth >= _DEPTH_LIMIT:
        raise OptionError("recipes extend each other without end", where=name)
    is_file = base.endswith((".yaml", ".yml")) and folder is not None
    return _load(folder / base if is_file and folder else base, depth + 1)


def _merge(
    base: Sequence[tuple[str, Mapping[str, Any]]], own: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """`base` then `own`, by stage; an own pass that `base` has too replaces its options there."""
    named = dict(own)
    merged = [(name, {**options, **named.get(name, {})}) for name, options in base]
    have = {name for name, _ in base}
    merged += [(name, dict(options)) for name, options in own if name not in have]
    return sorted(merged, key=lambda entry: STAGES.index(find_pass(entry[0]).stage))


def _listed(passes: object, name: str) -> list[object]:
    if not isinstance(passes, list):
        raise OptionError("passes are a list", where=name, got=type(passes).__name__)
    return passes


def _entry(entry: object, name: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        ((key, options),) = entry.items()
        if isinstance(key, str) and (options is None or isinstance(options, dict)):
            return key, options or {}
    raise OptionError("not a pass", where=name, expected="a name, or one name with its options", got=entry)


def _check_stages(name: str, passes: Sequence[Pass]) -> None:
    for before, after in pairwise(passes):
        if STAGES.index(before.stage) > STAGES.index(after.stage):
            raise OptionError(
                f"{after.pass_name()!r} ({after.stage}) follows {before.pass_name()!r} ({before.stage})",
                where=name,
                expected="stages in the order " + ", ".join(STAGES),
            )


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, and reads plain text by the rules of YAML 1.2.

    The older rules, which the library has, take the pattern 2:4 for 124 and `no` for false.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is given twice")
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _form, _starts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"null|Null|NULL|~|", ["", *"nN~"]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _form_of_whole = re.compile(rf"^(?:{_form})$")
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _form_of_whole, [*_starts])


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise OptionError(f"not YAML: {error}", where=where) from None
