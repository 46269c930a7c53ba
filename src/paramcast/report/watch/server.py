"""The page on this machine: the same view as the terminal's, in a browser that refreshes it.

It listens on the loopback interface only, serves a fixed list of addresses and nothing from the
file system, and reads. A page of another site must not read it through the user's browser: a
request whose Host is not this machine (DNS rebinding), or that another origin sent, is refused.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from ...errors import StudyError
from ..html.page import plotly_js
from .watching import Watching

PORT, ADDRESS = 8807, "127.0.0.1"
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
"""Any port: it may be another one here than at the other end of an SSH tunnel."""
CONNECTIONS, SILENCE, PATIENCE = 64, 10.0, 30.0
"""Requests answered at once; seconds for which a client may be silent, and may take in all."""
POLICY = (  # Plotly writes styles of its own
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
    "style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


class Server(ThreadingHTTPServer):
    """Serves one pilot or study.

    Args:
        watching: what.
        port: 0 for a free one.
        every: seconds for which an answer is given again.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, watching: Watching, port: int = 0, every: float = 2.0) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.every, self._watching = every, watching
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self._lock = threading.Lock()
        self._answers: dict[int | None, tuple[float, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for room before another thread is begun: who comes next waits in the queue."""
        self._room.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = threading.Timer(PATIENCE, _cut, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has gone is no error."""

    def answer(self, cell: int | None) -> bytes:
        """The view as JSON; it is read at most once in `every` seconds, however many ask."""
        with self._lock:
            made, answer = self._answers.get(cell, (0.0, b""))
            if not answer or time.monotonic() - made >= self.every:
                if len(self._answers) > CONNECTIONS:
                    self._answers.clear()
                answer = json.dumps(self._view(cell), allow_nan=False).encode()
                self._answers[cell] = (time.monotonic(), answer)
            return answer

    def _view(self, cell: int | None) -> dict[str, Any]:
        try:
            return {**self._watching.view(cell), "every": self.every}
        except StudyError as error:
            return {"waiting": str(error), "every": self.every}


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of a few addresses, one request a connection; other methods get a 501."""

    server: Server
    timeout = SILENCE
    server_version, sys_version = "paramcast", ""

    def do_GET(self) -> None:
        refused = self._refusal()
        if refused is not None:
            self._send(*refused)
            return
        path, _, query = self.path.partition("?")
        if path == "/view.json":
            cell = parse_qs(query).get("cell", [""])[0]
            number = int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 6 else None
            self._send(200, self.server.answer(number), "application/json", "no-store")
        elif self.path in _pages():
            content, kind, tag = _pages()[self.path]
            if self.headers.get("If-None-Match") == tag:
                self._send(304, b"", kind, "no-cache", tag)
            else:
                self._send(200, content, kind, "no-cache", tag)
        else:
            self._send(404, b"there is no such page\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refusal(self) -> tuple[int, bytes] | None:
        """Why a request is refused, if it is."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            return 421, b"this page is for this machine only: open it as localhost\n"
        origin = self.headers.get("Origin")
        foreign = origin is not None and origin.lower() != f"http://{hosts[0].lower()}"
        site = self.headers.get("Sec-Fetch-Site", "none")
        if foreign or (site == "cross-site" and self.headers.get("Sec-Fetch-Mode") != "navigate"):
            return 403, b"not for pages of other sites\n"
        return None

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str = "text/plain",
        cache: str = "no-store",
        tag: str | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", cache)
        if tag is not None:
            self.send_header("ETag", tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def serve(watching: Watching, port: int | None, every: float, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        port: None for the usual one, or a free one where that is taken.
        say: told the page's address.

    Raises:
        StudyError: the port cannot be had.
    """
    _pages()  # before the first visitor: what is not installed is said here
    try:
        server = _bound(watching, port, every)
    except OSError as error:
        raise StudyError(
            f"--port {port} cannot be had ({error.strerror}); give another one, or 0 for a free one"
        ) from None
    with server:
        say(f"{server.url} shows it, on this machine only; Ctrl-C ends the page")
        server.serve_forever()


def _bound(watching: Watching, port: int | None, every: float) -> Server:
    if port is not None:
        return Server(watching, port, every)
    try:
        return Server(watching, PORT, every)
    except OSError:
        return Server(watching, 0, every)


def _cut(connection: Any) -> None:
    """End a connection that takes too long."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@functools.cache
def _pages() -> dict[str, tuple[bytes, str, str]]:
    """Content, type and tag of each address."""
    folder = files("paramcast.report.watch").joinpath("static")
    texts = {f"/watch.{end}": folder.joinpath(f"watch.{end}").read_text("utf-8") for end in TYPES}
    texts["/"] = texts.pop("/watch.html")
    texts["/plotly.js"] = plotly_js()
    found = {}
    for path, text in texts.items():
        content = text.encode()
        kind = TYPES[path.rpartition(".")[2] or "html"] if path != "/" else TYPES["html"]
        found[path] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found
