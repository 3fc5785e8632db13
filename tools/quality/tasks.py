"""Tasks: a pretrained model, calibration data, and a score on data that calibration has not seen."""

from __future__ import annotations

import wave
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
    every_curve: bool = True
    """Whether curves that name no tasks are measured on it."""

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

    def held_out(self) -> Sequence[Feeds]:
        """Stories that the score is taken on."""
        return [{"tokens": story[None]} for story in self._stories[1::2]]

    def score(self, path: Path) -> float:
        session = _open(path)
        losses = []
        for feeds in self.held_out():
            story = feeds["tokens"][0]
            logits = session.run(None, feeds)[0][0].astype(np.float64)
            shifted = logits - logits.max(-1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            losses.append(-logs[np.arange(1, len(story) - 1), story[2:]])
        return float(np.mean(losses))


class _Agreement(Task):
    """How often the largest output is that of the float model, in percent."""

    unit = "% top-1"
    every_curve = False

    @abstractmethod
    def held_out(self) -> Sequence[Feeds]:
        """What predictions are compared on."""

    def score(self, path: Path) -> float:
        before, after = _open(self.path), _open(path)
        same = [
            before.run(None, feeds)[0].argmax(-1) == after.run(None, feeds)[0].argmax(-1)
            for feeds in self.held_out()
        ]
        return float(100 * np.mean(np.concatenate([found.reshape(-1) for found in same])))


class StoriesAgreement(_Agreement):
    """The tiny language model: tokens that it finds likeliest, on its own stories."""

    name, model = "stories-top1", "stories260k_prefill"

    def calibration(self) -> Sequence[Feeds]:
        return Stories(self.shared).calibration()

    def held_out(self) -> Sequence[Feeds]:
        return Stories(self.shared).held_out()


class SpeechTransformer(_Agreement):
    """Keywords heard in windows of one second of speech: the first half of it is for calibration."""

    name, model = "speech-top1", "kwt1_speech_transformer"
    _RATE, _STEP = 16000, 2500

    def _windows(self, part: slice) -> Sequence[Feeds]:
        with wave.open(str(self.shared / "data" / "vad_test.wav")) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        half = (sound.astype(np.float32) / 32768).reshape(2, -1)[part].reshape(-1)
        starts = range(0, len(half) - self._RATE + 1, self._STEP)
        return [{"input": half[None, i : i + self._RATE]} for i in starts]

    def calibration(self) -> Sequence[Feeds]:
        return self._windows(slice(0, 1))

    def held_out(self) -> Sequence[Feeds]:
        return self._windows(slice(1, 2))


class MobileNetV2(_Agreement):
    """Photographs, cut out at five places and mirrored; every other photograph is for calibration."""

    name, model = "mobilenetv2-top1", "mobilenetv2_10_224"
    _SIZE = 224

    def _cuts(self, first: int) -> Sequence[Feeds]:
        from PIL import Image

        feeds = list[Feeds]()
        for file in sorted((self.shared / "data" / "images_cc").glob("*.jpg"))[first::2]:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"), np.float32) / np.float32(127.5) - 1
            down, right = pixels.shape[0] - self._SIZE, pixels.shape[1] - self._SIZE
            for y, x in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
                cut = pixels[y : y + self._SIZE, x : x + self._SIZE].transpose(2, 0, 1)[None]
                feeds += [{"input": np.ascontiguousarray(each)} for each in (cut, cut[..., ::-1])]
        return feeds

    def calibration(self) -> Sequence[Feeds]:
        return self._cuts(0)

    def held_out(self) -> Sequence[Feeds]:
        return self._cuts(1)


TASKS: Mapping[str, type[Task]] = {
    task.name: task
    for task in (
        *(Resnet20, Resnet56, Resnet8, KeywordSpotting, Stories),
        *(StoriesAgreement, SpeechTransformer, MobileNetV2),
    )
}


def _open(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # products with dequantised weights in float32, as ONNX defines: else their inputs are rounded to int8
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
