"""Tasks: a pretrained model, calibration data, and a score on data that calibration has not seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

__all__ = ["TASKS", "Task"]

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
_BATCH = 100
_IMAGE_MEAN, _IMAGE_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Task(ABC):
    """`shared` is the folder that holds `models/` and `data/`."""

    name: str
    model: str
    unit: str
    higher_is_better: bool = True

    def __init__(self, shared: Path) -> None:
        self.shared = shared

    @property
    def path(self) -> Path:
        """The model's file."""
        return self.shared / "models" / f"{self.model}.onnx"

    @abstractmethod
    def calibration(self) -> Sequence[Feeds]:
        """Feeds for passes that measure activations."""

    @abstractmethod
    def score(self, path: Path) -> float:
        """What the model at `path` reaches, in `unit`."""


@dataclass(frozen=True)
class _Labelled:
    """Samples in the layout of the model's input, and their classes."""

    samples: Array
    labels: Array


class _Classification(Task):
    """Accuracy in percent."""

    unit = "%"

    @abstractmethod
    def held_out(self) -> _Labelled:
        """What the score is taken on."""

    @abstractmethod
    def training(self) -> Array:
        """What calibration is given."""

    @cached_property
    def _input(self) -> tuple[str, int]:
        """Name and batch size of the model's input."""
        given = _open(self.path).get_inputs()[0]
        return given.name, given.shape[0] if isinstance(given.shape[0], int) else _BATCH

    def calibration(self) -> Sequence[Feeds]:
        name, batch = self._input
        samples = self.training()
        return [{name: samples[i : i + batch]} for i in range(0, len(samples), batch)]

    def score(self, path: Path) -> float:
        name, batch = self._input
        session, data = _open(path), self.held_out()
        parts = range(0, len(data.samples), batch)
        found = [session.run(None, {name: data.samples[i : i + batch]})[0].argmax(-1) for i in parts]
        return float(100 * np.mean(np.concatenate(found) == data.labels))


class _Cifar(_Classification):
    """CIFAR-10: 1000 test images; 1000 training images for calibration."""

    def prepared(self, images: Array) -> Array:
        """Pixels 0 to 255 [n, 32, 32, 3] as the model takes them [n, 3, 32, 32]."""
        scaled = (images / 255 - _IMAGE_MEAN) / _IMAGE_DEVIATION
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)

    def _load(self, part: str) -> _Labelled:
        with np.load(self.shared / "data" / "cifar10_subset.npz") as data:
            return _Labelled(self.prepared(data[f"x_{part}"]), data[f"y_{part}"])

    def held_out(self) -> _Labelled:
        return self._load("test")

    def training(self) -> Array:
        return self._load("train").samples


class Resnet20(_Cifar):
    name, model = "resnet20", "resnet20_cifar10"


class Resnet56(_Cifar):
    name, model = "resnet56", "resnet56_cifar10"


class Resnet8(_Cifar):
    """MLPerf Tiny's image classifier takes pixels as they are."""

    name, model = "resnet8", "mlperf_ic_resnet8"

    def prepared(self, images: Array) -> Array:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


class KeywordSpotting(_Classification):
    """MLPerf Tiny's 12 words: 800 recordings; the first 200 of the file are for calibration."""

    name, model = "keywords", "mlperf_kws_dscnn"
    _CALIBRATION = 200
    _SCALE, _ZERO = 0.5847029, 83  # of the features, which are stored as int8

    def _load(self) -> _Labelled:
        with np.load(self.shared / "data" / "kws01_features.npz") as data:
            samples = (data["x"].astype(np.float32)[:, None] - self._ZERO) * np.float32(self._SCALE)
            return _Labelled(samples, data["y"])

    def held_out(self) -> _Labelled:
        data = self._load()
        return _Labelled(data.samples[self._CALIBRATION :], data.labels[self._CALIBRATION :])

    def training(self) -> Array:
        return self._load().samples[: self._CALIBRATION]


class Stories(Task):
    """A tiny language model: cross-entropy (nats a token) on stories that the model itself writes greedily.

    Each story begins with another token; those of even number are for calibration, the others for the score.
    """

    name, model, unit = "stories", "stories260k_prefill", "nats"
    higher_is_better = False
    _STORIES, _LENGTH, _FIRST = 32, 96, 1

    @cached_property
    def _stories(self) -> Array:
        """int64 [stories, length]."""
        session = _open(self.path)
        logits = session.run(None, {"tokens": np.array([[self._FIRST]], np.int64)})[0][0, -1]
        starts = np.argsort(-logits, kind="stable")[: self._STORIES]
        stories = np.stack([np.full(self._STORIES, self._FIRST), starts], 1)
        for _ in range(self._LENGTH - 2):
            following = [session.run(None, {"tokens": story[None]})[0][0, -1].argmax() for story in stories]
            stories = np.concatenate([stories, np.array(following)[:, None]], 1)
        return stories.astype(np.int64)

    def calibration(self) -> Sequence[Feeds]:
        return [{"tokens": story[None]} for story in self._stories[::2]]

    def score(self, path: Path) -> float:
        session = _open(path)
        losses = []
        for story in self._stories[1::2]:
            logits = session.run(None, {"tokens": story[None]})[0][0].astype(np.float64)
            shifted = logits - logits.max(-1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            losses.append(-logs[np.arange(1, len(story) - 1), story[2:]])
        return float(np.mean(losses))


TASKS: Mapping[str, type[Task]] = {
    task.name: task for task in (Resnet20, Resnet56, Resnet8, KeywordSpotting, Stories)
}


def _open(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
