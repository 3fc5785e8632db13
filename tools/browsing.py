"""A page in headless Chromium that answers requests; it and all it needs is served on this machine alone."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import quote, unquote

from gossamer.runtime.errors import JobError, OptionError

__all__ = ["BrowserChannel", "find_browser"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
)
# Isolation gives the page fine timers and memory that threads share.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}
TYPES = {
    ".html": "text/html",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
_POLL_SECONDS = 1.0


def find_browser() -> str:
    """The path of Chromium. Raises OptionError where it is not installed."""
    found = next((path for name in BROWSERS if (path := which(name))), None)
    if found is None:
        raise OptionError("Chromium is not installed", advice="install it (Debian: apt install chromium)")
    return found


class BrowserChannel:
    """A page that fetches requests and posts answers.

    `web` holds page.html and engines, `packages` is node_modules, `runtime` our JavaScript. Raises
    OptionError without Chromium.
    """

    def __init__(self, web: Path, packages: Path, runtime: Path, model: Path) -> None:
        browser = find_browser()
        self.scratch = Path(tempfile.mkdtemp(prefix="gossamer-"))
        self._model = model.resolve()
        folders = {"web": web, "packages": packages, "runtime": runtime, "scratch": self.scratch}
        self._server = _Server({**folders, "model": self._model.parent})
        profile = f"--user-data-dir={self.scratch / 'profile'}"
        page = f"http://127.0.0.1:{self._server.server_address[1]}/web/page.html"
        self._process = subprocess.Popen(
            [browser, *FLAGS, profile, page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        weakref.finalize(self, _end, self._process, self._server, self.scratch)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `request`. Raises JobError when the browser died."""
        self._server.requests.put(json.dumps(request).encode())
        while True:
            try:
                answer: dict[str, Any] = json.loads(self._server.answers.get(timeout=_POLL_SECONDS))
            except queue.Empty:
                if self._process.poll() is not None:
                    code = self._process.returncode
                    raise JobError("the browser died", got=f"exit status {code}") from None
            else:
                return answer

    def address(self, file: Path) -> str:
        """The address of `file`, which is the model or lies in `scratch`."""
        if file.resolve() == self._model:
            return f"/model/{quote(self._model.name)}"
        return f"/scratch/{file.name}"


def _end(process: subprocess.Popen[bytes], server: ThreadingHTTPServer, scratch: Path) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    server.shutdown()
    server.server_close()
    shutil.rmtree(scratch, ignore_errors=True)


class _Server(ThreadingHTTPServer):
    """Listens on this machine alone; `folders` are what it serves, by the first part of an address."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = folders
        self.requests: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[bytes] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that went away is no failure; one that is needed is missed by its answers."""


class _Handler(BaseHTTPRequestHandler):
    """GET /ask waits for a request, POST /answer takes one's answer, PUT writes to scratch."""

    server: _Server

    def do_GET(self) -> None:
        if self.path == "/ask":
            self._send(200, self.server.requests.get(), ".json")
            return
        file = self._file()
        if file is None or not file.is_file():
            self._send(404, b"", ".html")
        else:
            self._send(200, file.read_bytes(), file.suffix)

    def do_POST(self) -> None:
        self.server.answers.put(self._body())
        self._send(200, b"", ".html")

    def do_PUT(self) -> None:
        file = self._file()
        if file is None or file.parent != self.server.folders["scratch"].resolve():
            self._send(403, b"", ".html")
        else:
            file.write_bytes(self._body())
            self._send(200, b"", ".html")

    def _file(self) -> Path | None:
        """What the address names, inside its folder."""
        folder, _, rest = unquote(self.path).lstrip("/").partition("/")
        root = self.server.folders.get(folder)
        if root is None:
            return None
        file = (root / rest).resolve()
        return file if file.is_relative_to(root.resolve()) else None

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _send(self, status: int, body: bytes, suffix: str) -> None:
        self.send_response(status)
        headers = {**HEADERS, "Content-Type": TYPES.get(suffix, "application/octet-stream")}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: stderr holds errors alone."""
