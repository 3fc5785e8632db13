"""Engines in processes of other programs, which answer requests in JSON.

    {"open": {"engine", "model", "threads"}}           {"inputs": [...]} or {}
    {"feeds": [{"name", "type", "shape", "address"}]}   {}
    {"turn": seconds}                                  {"times": [nanoseconds]}
    {"compute": [{"name", "address"}]}                 {"outputs": [{"type", "shape"}]}

Tensors travel as files with their bytes; an address is what the other side reads or writes it by. A request
that fails is answered with {"error": text}.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from gossamer.runtime.errors import JobError

from .engine import Tensor

__all__ = ["Channel", "PipeChannel", "RemoteEngine"]

Array = np.ndarray[Any, Any]


class Channel(Protocol):
    """A way to ask the other process; `scratch` is a folder that both sides reach."""

    scratch: Path

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises JobError when it died."""
        ...

    def address(self, file: Path) -> str:
        """By what name the other side reads or writes `file`."""
        ...


class PipeChannel:
    """A child process that reads requests and writes answers, one on a line."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="gossamer-"))
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long; a pipe would fill up
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        weakref.finalize(self, _end, self._process, self._words, self.scratch)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `request`. Raises JobError when the process died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._words.seek(0)
            words = self._words.read().strip().splitlines()
            last = f" ({words[-1]})" if words else ""
            raise JobError("the engine's process died", got=f"exit status {code}{last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def address(self, file: Path) -> str:
        """The path itself: the process runs on this machine."""
        return str(file.resolve())


def _end(process: subprocess.Popen[str], words: IO[str], scratch: Path) -> None:
    process.kill()
    process.communicate()
    words.close()
    shutil.rmtree(scratch, ignore_errors=True)


class RemoteEngine:
    """An engine at the other end of a channel; it measures by itself, so that no request is part of a time.

    Without `inputs` they are what the other side says. Raises JobError where it does not open the model.
    """

    def __init__(
        self,
        channel: Channel,
        engine: str,
        model: Path,
        threads: int,
        inputs: Sequence[Tensor] | None,
        outputs: Sequence[str] | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = str(model)
        self._channel, self._fed = channel, False
        wanted = {"engine": engine, "model": channel.address(model), "threads": threads, **(options or {})}
        opened = self._ask({"open": wanted})
        self.inputs = list(inputs) if inputs is not None else [_tensor(i) for i in opened["inputs"]]
        self.output_names = list(outputs) if outputs is not None else list(opened["outputs"])

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Every output, in the order of `output_names`. Raises JobError."""
        self._feed(feeds)
        files = [self._channel.scratch / f"output{i}" for i in range(len(self.output_names))]
        wanted = [
            {"name": name, "address": self._channel.address(file)}
            for name, file in zip(self.output_names, files, strict=True)
        ]
        answer = self._ask({"compute": wanted})
        return [
            np.fromfile(file, spec["type"]).reshape(spec["shape"])
            for file, spec in zip(files, answer["outputs"], strict=True)
        ]

    def turn(self, feeds: Mapping[str, Array], seconds: float) -> list[int]:
        """Nanoseconds of each run of one turn, after an untimed one; `feeds` are those of the first turn."""
        if not self._fed:
            self._feed(feeds)
        return [round(time) for time in self._ask({"turn": seconds})["times"]]

    def _feed(self, feeds: Mapping[str, Array]) -> None:
        wanted = []
        for index, tensor in enumerate(self.inputs):
            file = self._channel.scratch / f"input{index}"
            array = np.ascontiguousarray(feeds[tensor.name])
            file.write_bytes(array.tobytes())
            described = {"name": tensor.name, "type": array.dtype.name, "shape": list(array.shape)}
            wanted.append({**described, "address": self._channel.address(file)})
        self._ask({"feeds": wanted})
        self._fed = True

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._channel.ask(request)
        if "error" in answer:
            raise JobError(
                "the engine failed", where=self.name, got=" ".join(str(answer["error"]).split())[:400]
            )
        return answer


def _tensor(spec: dict[str, Any]) -> Tensor:
    return Tensor(spec["name"], spec["type"], tuple(spec["shape"]))
