"""Any legal permutation of channels leaves a model's results as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.channels.classes import Classes
from gossamer.passes.channels.permuting import axis_orders, permute_constants
from gossamer.passes.channels.reading import read_ties
from gossamer.passes.input_shapes import apply_input_shapes
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.rounding import TOLERANCE
from gossamer.passes.running import run_passes
from gossamer.passes.shapes import infer_shapes
from gossamer.passes.verifying import sample_feeds
from gossamer.runtime.comparing import tensor_error

from .graphs import networks

SHARED = Path(__file__).resolve().parents[4] / "shared" / "models"


def shuffle(model: ir.Model, seed: int) -> int:
    """Permute all that may be permuted, by chance; how many axes have changed."""
    infer_shapes(model)
    ties = read_ties(model)
    random = np.random.default_rng(seed)
    sets = Classes(ties).sets
    orders = axis_orders(ties, [(channels, random.permutation(len(channels))) for channels in sets])
    permute_constants(model, ties, orders)
    return len(orders)


@given(networks(), st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_random_networks_of_integers_give_the_same_bits(model: ir.Model, seed: int) -> None:
    feeds = {"x": np.random.default_rng(seed).integers(-2, 3, (1, 3, 4, 4)).astype(np.float32)}
    expected = run_onnx(model, feeds)[0]
    shuffle(model, seed)
    np.testing.assert_array_equal(run_onnx(model, feeds)[0], expected)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/models here")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.onnx")), ids=lambda path: path.stem)
def test_real_models_give_the_same_results(path: Path) -> None:
    model = load_model(path)
    if path.stem.startswith("silero"):
        apply_input_shapes(model, {"input": [1, 576], "state": [2, 1, 128]})
    run_passes(model, load_recipe("default"))
    feeds: dict[str, Any] = sample_feeds(model)
    if path.stem.startswith("silero"):
        feeds["sr"] = np.asarray(16000, np.int64)
    expected, nudged = run_onnx(model, feeds), run_onnx(model, {k: nudge(v) for k, v in feeds.items()})
    assert shuffle(model, 1) or path.stem.startswith(("dtln", "magika"))
    for one, near, two in zip(expected, nudged, run_onnx(model, feeds), strict=True):
        # a model that amplifies rounding errors may give more, but no more than it makes of its inputs' own
        limit = max(TOLERANCE, 8 * tensor_error(one, near).relative)
        assert tensor_error(one, two).relative <= limit


def nudge(array: Any) -> Any:
    """Floats moved by one unit in their last place."""
    return np.nextafter(array, np.inf, dtype=array.dtype) if array.dtype.kind == "f" else array
