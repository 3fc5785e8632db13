"""Arrays in a few words, and arrays kept in files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["save_arrays", "summarise"]

_FIRST = 4  # values shown


def summarise(name: str, value: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Name, shape, dtype, min, max, mean and the first values of an array of any shape and dtype."""
    row: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
    numeric = np.issubdtype(value.dtype, np.number) or value.dtype == np.bool_
    if value.size and numeric and not np.iscomplexobj(value):
        wide = value.astype(np.float64)
        row |= {"min": float(wide.min()), "max": float(wide.max()), "mean": float(wide.mean())}
    row["first"] = value.reshape(-1)[:_FIRST].tolist()
    return row


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write an .npz whole or not at all. Raises JobError when it cannot be written."""
    from gossamer.passes.saving import written_whole

    with written_whole(path) as aside, zipfile.ZipFile(aside, "x") as archive:
        for name, value in arrays.items():  # not np.savez: an output may be called "file"
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)
