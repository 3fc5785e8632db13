"""A tiny language model that writes 200 tokens, each the likeliest: onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import gossamer

MODEL = Path(__file__).parents[4] / "shared" / "models" / "stories260k_step.onnx"
FIRST, TOKENS = 1, 200  # the token that begins a text
CACHE = (5, 4, 256, 8)
Run = Callable[[None, dict[str, Any]], Any]


def written(run: Run) -> tuple[list[int], Any]:
    """The tokens, and how likely the model found each token at each step: (TOKENS, vocabulary)."""
    token, found, scores = FIRST, list[int](), []
    keys, values = np.zeros(CACHE, np.float32), np.zeros(CACHE, np.float32)
    for position in range(TOKENS):
        feeds = {
            "token": np.array([[token]], np.int64),
            "pos": np.array([position], np.int64),
            "k_cache": keys,
            "v_cache": values,
        }
        logits, keys, values = run(None, feeds)
        token = int(logits[0].argmax())
        found.append(token)
        scores.append(logits[0])
    return found, np.stack(scores)


@pytest.mark.skipif(not MODEL.exists(), reason="needs ../shared")
@pytest.mark.parametrize("threads", [1, 2])
def test_two_hundred_tokens_are_the_same(threads: int, tmp_path: Path) -> None:
    tokens, likely = written(onnxruntime.InferenceSession(MODEL).run)
    artifact = gossamer.compile(MODEL, out=tmp_path / "step", verify=False)
    with artifact.session(threads=threads) as session:
        got, scores = written(session.run)
    assert len(set(tokens)) > 20  # a text, not one word again and again
    assert got == tokens
    np.testing.assert_allclose(scores, likely, rtol=0, atol=1e-4 * np.ptp(likely))
