"""silero VAD over a whole recording, chunk by chunk, its state handed on: onnxruntime's answers."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import gossamer

SHARED = Path(__file__).parents[4] / "shared"
MODEL, RECORDING = SHARED / "models" / "silero_vad_16k_op15.onnx", SHARED / "data" / "vad_test.wav"
CHUNK, CONTEXT = 512, 64
Run = Callable[[None, dict[str, Any]], Any]


def samples() -> Any:
    """float32 in -1 … 1, at 16 kHz."""
    with wave.open(str(RECORDING)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return data.astype(np.float32) / 32768


def probabilities(run: Run, sound: Any) -> Any:
    """That each chunk is speech."""
    state, before = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32)
    found = []
    for start in range(0, len(sound) - CHUNK + 1, CHUNK):
        chunk = sound[start : start + CHUNK]
        feeds = {"input": np.concatenate([before, chunk])[None], "state": state, "sr": np.array(16000)}
        probability, state = run(None, feeds)
        before = chunk[-CONTEXT:]
        found.append(float(probability[0, 0]))
    return np.array(found)


@pytest.mark.skipif(not MODEL.exists() or not RECORDING.exists(), reason="needs ../shared")
def test_every_chunk_of_a_recording_agrees(tmp_path: Path) -> None:
    shapes = {"input": (1, CHUNK + CONTEXT), "state": (2, 1, 128)}
    sound = samples()
    wanted = probabilities(onnxruntime.InferenceSession(MODEL).run, sound)
    artifact = gossamer.compile(MODEL, out=tmp_path / "vad", input_shapes=shapes, verify=False)
    with artifact.session() as session:
        got = probabilities(session.run, sound)
    assert wanted.max() > 0.99
    assert wanted.min() < 0.01
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)
