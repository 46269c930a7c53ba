"""Downloads from a real server: whole and right, or one sentence and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from paramcast.errors import TaskError
from paramcast.study.tasks.data.download import Remote, download

CONTENT = bytes(range(256)) * 12_000  # three chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Home(BaseHTTPRequestHandler):
    """A public home with moods: the path says how the answer goes wrong."""

    asked: list[str] = []  # noqa: RUF012 - one for the whole test

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kind = self.path.strip("/").partition("/")[0]
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/whole/file.bin")
            self.end_headers()
            return
        if kind == "lost":
            self.send_error(404)
            return
        body = {
            "changed": CONTENT[:-1] + b"x",
            "short": CONTENT[:-5],
            "long": CONTENT + b"more",
        }.get(kind, CONTENT)
        self.send_response(200)
        if kind != "silent":  # "broken": promises all, then hangs up
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind in ("broken", "silent", "reset"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if kind == "reset":
                linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the connection that we closed
            return

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Home) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    Home.asked.clear()


def remote(home: str, kind: str, **changes: Any) -> Remote:
    settings = {"url": f"{home}/{kind}/file.bin", "sha256": SHA256, "size": len(CONTENT)}
    return Remote(**(settings | changes))


def left(folder: Path) -> list[str]:
    """What lies in a folder, lock files aside."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("kind", ["whole", "moved"])
def test_a_file_is_fetched_once(
    home: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = download(remote(home, kind), tmp_path / "a" / "b")
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["file.bin"]
    told = capsys.readouterr().err
    assert told.count("(3.1 MB)") == told.count("\n") == 1
    asked = len(Home.asked)
    assert download(remote(home, kind), tmp_path / "a" / "b") == target
    assert (len(Home.asked), capsys.readouterr().err) == (asked, "")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("changed", rf"gave an unexpected file \(sha256 .*, needed {SHA256}\); nothing"),
        ("short", r"gave 3071995 bytes where 3072000 were expected; try again later"),
        ("long", r"gave more bytes where 3072000 were expected"),
        ("silent", r"gave 1536000 bytes where 3072000 were expected"),
        ("broken", r"gave 1536000 bytes where|cannot be downloaded \(.*\); try again later"),
        ("reset", r"cannot be downloaded \(.*\); try again later|gave \d+ bytes where"),
        ("lost", r"lost/file.bin cannot be downloaded \(Not Found\); try again later"),
    ],
)
def test_what_goes_wrong_leaves_nothing(home: str, kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=message):
        download(remote(home, kind), tmp_path)
    assert left(tmp_path) == []
    # and the next attempt is a fresh one
    assert download(remote(home, "whole"), tmp_path).read_bytes() == CONTENT


def test_no_more_than_the_expected_bytes_are_read(home: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="gave more bytes where 10 were expected"):
        download(remote(home, "whole", size=10), tmp_path)


def test_an_interrupt_leaves_nothing(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)  # all is written, nothing is in place yet
    with pytest.raises(KeyboardInterrupt):
        download(remote(home, "whole"), tmp_path)
    assert left(tmp_path) == []


def test_two_at_once_fetch_once(home: str, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=download, args=[remote(home, "whole"), tmp_path]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left(tmp_path) == ["file.bin"]
    assert len(Home.asked) == 1


def test_an_address_at_which_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(TaskError, match=r"cannot be downloaded \(.*refused"):
            download(remote(f"http://127.0.0.1:{port}", "whole"), tmp_path)
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_written(home: str, tmp_path: Path, unprivileged: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TaskError, match=r"file.bin cannot be written to .*file"):
        download(remote(home, "whole"), tmp_path / "file")
    folder, nobody = unprivileged
    os.mkdir(folder / "closed", 0o555)
    with nobody(), pytest.raises(TaskError, match=r"cannot be written to .*Permission denied"):
        download(remote(home, "whole"), folder / "closed")
