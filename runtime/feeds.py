"""Arrays given to a model: checked, read from a file, or drawn at random."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .element_types import array_type, raw_type
from .errors import FeedError, nearest

__all__ = ["TensorLike", "check_feeds", "random_feeds", "read_feeds"]

Array = np.ndarray[Any, np.dtype[Any]]


class TensorLike(Protocol):
    """An input: `dtype` is numpy's name, `shape` counts elements; a size that is open has a name."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str]: ...


def check_feeds(inputs: Sequence[TensorLike], feeds: Mapping[str, Any]) -> list[Array]:
    """The arrays of `feeds` in the order of `inputs`, each contiguous, aligned and in native byte order.

    Raises FeedError for a name, shape or type other than the model's; says which, expected and got.
    """
    if not isinstance(feeds, Mapping):
        raise FeedError("the feeds are wrong", expected="a dict of name: array", got=type(feeds).__name__)
    names = [tensor.name for tensor in inputs]
    for name in feeds:
        if name not in names:
            raise FeedError(
                "is not an input of the model",
                where=f"feed {name!r}",
                expected=", ".join(names) or "no feeds",
                advice=nearest(str(name), names),
            )
    missing = [name for name in names if name not in feeds]
    if missing:
        raise FeedError(
            "an input has no feed", expected=", ".join(names), got="none for " + ", ".join(missing)
        )
    return [_checked(tensor, feeds[tensor.name]) for tensor in inputs]


def _checked(tensor: TensorLike, value: Any) -> Array:
    where = f"feed {tensor.name!r}"
    if not isinstance(value, np.ndarray | np.generic):
        raise FeedError("is not an array", where=where, expected="a numpy array", got=type(value).__name__)
    array = np.asarray(value)
    if array.dtype not in (array_type(tensor.dtype), raw_type(tensor.dtype)):
        raise FeedError(
            "has the wrong type",
            where=where,
            expected=tensor.dtype,
            got=array.dtype.str if array.dtype.name == tensor.dtype else array.dtype.name,
            advice=f"convert it with .astype(numpy.{tensor.dtype})" if array.dtype.kind in "biuf" else None,
        )
    if not _fits(array.shape, tensor.shape):
        raise FeedError(
            "has the wrong shape", where=where, expected=list(tensor.shape), got=list(array.shape)
        )
    return np.require(array, requirements=["C", "A"])


def _fits(got: Sequence[int], expected: Sequence[int | str]) -> bool:
    """Whether sizes agree; a name stands for any."""
    return len(got) == len(expected) and all(
        isinstance(n, str) or n == m for m, n in zip(got, expected, strict=True)
    )


def random_feeds(inputs: Sequence[TensorLike], seed: int = 0) -> dict[str, Array]:
    """One array for each input, the same for the same seed.

    Floats are standard normal. Integers are 0 or 1, which are valid as indices, lengths and masks alike. A
    size that has a name is drawn as 1.
    """
    generator = np.random.default_rng(seed)
    return {
        tensor.name: _random(generator, array_type(tensor.dtype), _sizes(tensor.shape)) for tensor in inputs
    }


def _sizes(shape: Sequence[int | str]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def _random(generator: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    if dtype.kind in "fV" and dtype.name.startswith(("float", "bfloat")):
        return np.asarray(generator.standard_normal(shape, dtype=np.float32)).astype(dtype)
    return np.asarray(generator.integers(0, 2, shape)).astype(dtype)


def read_feeds(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of an .npz file by name; pickled objects are refused. Raises FeedError."""
    file = Path(path)
    try:
        with file.open("rb") as stream:  # numpy leaves a file that it opened itself open when it refuses it
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise FeedError("is one array without a name", where=file, expected="an .npz file")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise FeedError("cannot be read", where=file, got=error.strerror or str(error)) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FeedError("is not an .npz file of arrays", where=file, got=str(error)) from error
