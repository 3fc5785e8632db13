"""Engines written in JavaScript, in Node or in Chromium."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from gossamer.runtime.errors import OptionError
from gossamer.runtime.node import node_command

from .engine import Tensor
from .remote import PipeChannel, RemoteEngine

__all__ = ["PACKAGES", "WEB", "open_javascript"]

WEB = Path(__file__).parent / "peers" / "web"
PACKAGES = WEB / "node_modules"


def open_javascript(
    engine: str,
    place: str,
    model: Path,
    threads: int,
    inputs: Sequence[Tensor] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    library: str | None = None,
) -> RemoteEngine:
    """Open `model` by peers/web/ENGINE.mjs; `place` is "node" or "chromium".

    `library` is the file under node_modules that the engine imports, None our own runtime. Raises OptionError
    where something is not installed, JobError where the engine does not take the model.
    """
    if library is not None and not (PACKAGES / library).is_file():
        raise OptionError(
            f"{engine} is not installed", expected=PACKAGES / library, advice=f"run npm ci --prefix {WEB}"
        )
    if place == "chromium":
        from .browsing import BrowserChannel

        channel: PipeChannel | BrowserChannel = BrowserChannel(WEB, PACKAGES, runtime(), model)
        address = f"/packages/{library}" if library else "/runtime/gossamer.js"
    else:
        channel = PipeChannel([*node_command(), WEB / "node.mjs"])
        address = (PACKAGES / library if library else runtime() / "gossamer.js").as_uri()
    return RemoteEngine(channel, engine, model, threads, inputs, outputs, {"library": address})


def runtime() -> Path:
    """The folder of our JavaScript runtime."""
    return Path(str(files("gossamer.runtime"))) / "web" / "dist"
