"""The report on this machine while runs finish: rebuilt when one ends, gone when all have.

It listens on the loopback interface only, serves two addresses and nothing from the file system.
A page of another site must not read it through the user's browser: a request whose Host is not
this machine (DNS rebinding), or that another origin sent, is refused.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...errors import StudyError
from ..html.page import plotly_js
from .board import Board
from .page import NOTHING, build

PORT, ADDRESS = 8807, "127.0.0.1"
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
"""Any port: it may be another one here than at the other end of an SSH tunnel."""
SILENT_SECONDS = 10.0
"""How long a client may be silent."""
LAST_SECONDS = 120.0
"""How long the finished report is served: browsers run a hidden page's timer once a minute."""
BUILD_SHARE = 0.1
"""Of one core, at most: the runs need it more."""
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest stands in the page itself
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Server(ThreadingHTTPServer):
    """Serves the page that it was shown last.

    Args:
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.answers: dict[str, tuple[bytes, str, str]] = {}  # by path: content, type, tag
        plotly = plotly_js().encode()
        tag = hashlib.sha256(plotly).hexdigest()[:16]
        self.answers["/plotly.js"] = plotly, "text/javascript", f'"{tag}"'

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def show(self, page: str, tag: str) -> None:
        self.answers["/"] = page.encode(), "text/html", f'"{tag}"'

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has gone is not an error."""


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD, one request a connection; other methods get a 501."""

    server: Server
    timeout = SILENT_SECONDS
    server_version, sys_version = "paramcast", ""

    def do_GET(self) -> None:
        refused = self._refusal()
        content, kind, tag = self.server.answers.get(self.path, (b"", "", ""))
        if refused is not None:
            self._send(*refused)
        elif not tag:
            self._send(404, b"there is no such page\n")
        elif self.headers.get("If-None-Match") == tag:
            self._send(304, b"", kind, tag)
        else:
            self._send(200, content, kind, tag)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refusal(self) -> tuple[int, bytes] | None:
        """Why a request is refused, if it is."""
        # a name that was pointed at this machine (DNS rebinding) is not one of ours
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            return 421, b"this page is for this machine only: open it as localhost\n"
        # a page of another site may link here, but not embed or read
        origin = self.headers.get("Origin")
        foreign = origin is not None and origin.lower() != f"http://{hosts[0].lower()}"
        site = self.headers.get("Sec-Fetch-Site", "none")
        if foreign or (site == "cross-site" and self.headers.get("Sec-Fetch-Mode") != "navigate"):
            return 403, b"not for pages of other sites\n"
        return None

    def _send(
        self, status: int, content: bytes, kind: str = "text/plain", tag: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store" if tag is None else "no-cache")
        if tag is not None:
            self.send_header("ETag", tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def serve(board: Board, port: int | None, every: float, say: Callable[[str], None]) -> None:
    """Serve until the pilot or study has finished, or Ctrl-C.

    Args:
        board: of the pilot or study, in the language of the page.
        port: None for the usual one, or a free one where that is taken.
        every: seconds between looks, at least.
        say: told the page's address, and why it ends.

    Raises:
        StudyError: the port cannot be had.
    """
    with _bound(port) as server:
        threading.Thread(target=server.serve_forever, args=[0.1], daemon=True).start()
        try:
            _follow(server, board, every, say)
        finally:
            server.shutdown()


def _follow(server: Server, board: Board, every: float, say: Callable[[str], None]) -> None:
    """Show each new state; the finished report stays for a while."""
    seen: Any = None
    finished_at = math.inf
    while time.monotonic() < finished_at + LAST_SECONDS:
        begun, look, reason = time.monotonic(), NOTHING._replace(folder=board.folder), ""
        try:
            look = board.look()
        except StudyError as error:
            reason = str(error)
        now = look.state, reason, look.planned, len(board.runs), len(board.failures)
        # a page is built only when something has changed
        if now != seen:
            tag = secrets.token_hex(8)
            live = {"every": every, "tag": f'"{tag}"'}
            server.show(build(board, look, reason, live), tag)
        if seen is None:
            say(f"{server.url} shows the report so far, on this machine only; Ctrl-C ends it")
        # browsers that look now and then still find the report
        if look.state != "finished":
            finished_at = math.inf
        elif finished_at == math.inf:
            finished_at = begun
            say(
                f"{look.name} has finished; its report stays here for {LAST_SECONDS:.0f} s, and "
                f"`paramcast report {shlex.quote(str(look.folder))}` writes it"
            )
        seen = now
        time.sleep(max(every, (time.monotonic() - begun) / BUILD_SHARE))


def _bound(port: int | None) -> Server:
    try:
        return Server(PORT if port is None else port)
    except OSError as error:
        if port is None:
            return Server()
        raise StudyError(
            f"--port {port} cannot be had ({error.strerror}); give another one, or 0 for a free one"
        ) from None
