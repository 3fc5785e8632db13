"""Distributions of a model's values over calibration feeds; saved to a file and read again.

The file is an .npz: arrays of all histograms one after another, and a header in JSON with the names of the
values, how the model was measured, and a digest of the model they belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import JobError, OptionError
from gossamer.runtime.feeds import read_feeds

from ..activations import Calibration, exposing
from .histogram import Histogram

__all__ = ["Statistics", "measure", "measure_maxima", "model_digest"]

Array = npt.NDArray[Any]
_PER_FEED = 1 << 16  # values of one array that are counted; all of them count for smallest and largest
_RUN_BYTES = 256 * 2**20  # of values that are computed in one run
_VERSION = 1


@dataclass
class Statistics:
    """A histogram by the name of each value, and the digest of the model that gave them."""

    digest: str
    histograms: dict[str, Histogram] = field(default_factory=dict)
    maxima: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """The largest absolute value of each channel, of values whose channels are smoothed."""

    def save(self, path: Path) -> None:
        """Write them, whole or not at all; equal statistics give equal bytes. Raises JobError."""
        from ..saving import written_whole

        found = self.histograms
        header = {
            "format": "gossamer-statistics",
            "version": _VERSION,
            "model": self.digest,
            "names": list(found),
            "maxima": list(self.maxima),
        }
        lengths = [len(h.counts) for h in found.values()]
        arrays = {
            "header": np.array(json.dumps(header)),
            "ranges": np.array([[h.low, h.high] for h in found.values()], np.float64).reshape(-1, 2),
            "places": np.array(
                [[h.zeros, h.exponent, h.first, n] for h, n in zip(found.values(), lengths, strict=True)],
                np.int64,
            ).reshape(-1, 4),
            "counts": np.concatenate([np.zeros(0, np.int64), *(h.counts for h in found.values())]),
            **{f"maxima{index}": array for index, array in enumerate(self.maxima.values())},
        }
        with written_whole(path) as aside, aside.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote. Raises FeedError or OptionError naming the file."""
        arrays = read_feeds(path)
        try:
            header = json.loads(str(arrays["header"]))
            if header["format"] != "gossamer-statistics" or header["version"] != _VERSION:
                raise ValueError("another format")
            made = cls(str(header["model"]))
            made.maxima = {str(n): arrays[f"maxima{i}"] for i, n in enumerate(header["maxima"])}
            ends = np.cumsum(arrays["places"][:, 3])
            for name, (low, high), (zeros, exponent, first, count), end in zip(
                header["names"], arrays["ranges"], arrays["places"], ends, strict=True
            ):
                counts = arrays["counts"][end - count : end]
                if len(counts) != count or (counts < 0).any() or not low <= 0 <= high:
                    raise ValueError(f"the counts of {name} contradict each other")
                made.histograms[str(name)] = Histogram.restore(
                    float(low), float(high), int(zeros), int(exponent), int(first), counts
                )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise OptionError(
                "not a file of statistics", where=path, expected="what quantize.save wrote", got=str(error)
            ) from None
        return made

    def for_model(self, model: ir.Model, names: Sequence[str], where: str) -> Mapping[str, Histogram]:
        """The histograms called `names`, if they are those of `model`. Raises OptionError."""
        if self.digest != (own := model_digest(model)):
            raise OptionError(
                "the statistics are of another model, or of one that other options have changed",
                where=where,
                expected=own,
                got=self.digest,
                advice="measure again with --calibrate",
            )
        _require(names, self.histograms, where)
        return {name: self.histograms[name] for name in names}

    def maxima_of(self, names: Sequence[str], where: str) -> dict[str, npt.NDArray[np.float32]]:
        """Those of the values called `names`. Raises OptionError."""
        _require(names, self.maxima, where)
        return {name: self.maxima[name] for name in names}


def _require(names: Sequence[str], known: Mapping[str, object], where: str) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise OptionError(
            "the statistics lack values that are needed",
            where=where,
            got="none for " + ", ".join(missing[:3]),
            advice="measure again with --calibrate",
        )


def measure_maxima(
    model: ir.Model, values: Sequence[ir.Value], data: Calibration
) -> dict[str, npt.NDArray[np.float32]]:
    """The largest absolute value of each channel along the last axis, over all feeds, by name."""
    found = dict[str, npt.NDArray[np.float32]]()

    def count(name: str, array: npt.NDArray[np.float32], _: int) -> None:
        top = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0, initial=0)
        found[name] = np.maximum(found[name], top) if name in found else top

    _run(model, values, data, count)
    return found


def measure(model: ir.Model, values: Sequence[ir.Value], data: Calibration) -> Statistics:
    """Histograms of `values` over all feeds. Raises JobError where a value is not finite.

    One onnxruntime session gives all values at once, unless they take more than 256 MiB for one feed.
    """
    found = Statistics(model_digest(model), {str(value.name): Histogram() for value in values})

    def count(name: str, array: npt.NDArray[np.float32], number: int) -> None:
        _count(found.histograms[name], name, array, number)

    _run(model, values, data, count)
    return found


def _run(
    model: ir.Model,
    values: Sequence[ir.Value],
    data: Calibration,
    use: Callable[[str, npt.NDArray[np.float32], int], None],
) -> None:
    """`use` is called with the name and the array of each value for each feed, and the feed's number."""
    from ..reference import open_onnx, run_opened  # onnxruntime, which most passes do not need

    inputs = {value.name for value in model.graph.inputs}
    for part in _parts(values, data.feeds[0]):
        wanted = [str(value.name) for value in part if value.name not in inputs]
        given = [str(value.name) for value in part if value.name in inputs]
        with ExitStack() as stack:
            session = stack.enter_context(open_onnx(exposing(model, wanted))) if wanted else None
            for number, feeds in enumerate(data.feeds):
                results = run_opened(session, feeds) if session is not None else []
                for name, array in [*zip(wanted, results, strict=True), *((n, feeds[n]) for n in given)]:
                    use(name, np.asarray(array, np.float32), number)


def _count(histogram: Histogram, name: str, array: npt.NDArray[np.float32], number: int) -> None:
    if not array.size:
        return
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise JobError(
            "a value is not finite",
            where=f"{name}, calibration feed {number}",
            expected="finite numbers",
            got=f"{low} to {high}",
        )
    histogram.widen(low, high)
    flat = array.reshape(-1)
    if flat.size > _PER_FEED:
        random = np.random.default_rng(crc32(f"{name} {number}".encode()))
        flat = flat[random.integers(0, flat.size, _PER_FEED)]
    histogram.add(flat)


def _parts(values: Sequence[ir.Value], feeds: Mapping[str, Array]) -> list[list[ir.Value]]:
    """Values that are computed together: about as many bytes as one run may take."""
    samples = max([1, *(len(array) for array in feeds.values() if array.ndim)])
    parts, total = [list[ir.Value]()], 0
    for value in values:
        sizes = [size if isinstance(size, int) else samples for size in value.shape or ()]
        total += 4 * prod(sizes)
        if parts[-1] and total > _RUN_BYTES:
            parts.append([])
            total = 4 * prod(sizes)
        parts[-1].append(value)
    return parts


def model_digest(model: ir.Model) -> str:
    """Of the operators, their attributes and all constants of the main graph: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for node in model.graph:
        inputs = [value.name if value is not None else "" for value in node.inputs]
        attributes = sorted(str(attribute) for attribute in node.attributes.values())
        digest.update(repr((node.domain, node.op_type, inputs, attributes)).encode())
    for name, value in sorted(model.graph.initializers.items()):
        tensor = value.const_value
        digest.update(f"{name} {value.shape}".encode())
        if tensor is not None:
            digest.update(tensor.tobytes())
    return digest.hexdigest()[:16]
