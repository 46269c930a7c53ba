"""The page on this machine: real sockets, and a real browser."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from synthetic import EVIL, write_pilot

from paramcast.report.watch import server as module
from paramcast.report.watch.server import Server, serve
from paramcast.report.watch.watching import Watching
from paramcast.study.live import Live, Telling
from paramcast.study.spec import RunSpec


@pytest.fixture
def begin() -> Iterator[Callable[..., Server]]:
    """begin(folder): a server of it, ended with the test."""
    begun: list[Server] = []

    def run(folder: Path, every: float = 0.05) -> Server:
        server = Server(Watching(folder), 0, every)
        begun.append(server)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return server

    yield run
    for server in begun:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(begin: Callable[..., Server], pilot: Path) -> Server:
    return begin(pilot)


def ask(
    server: Server, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of an answer; `_` in a header's name stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def raw(server: Server, request: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# --- requests -------------------------------------------------------------------------------------


def test_it_listens_on_the_loopback_interface_only(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_and_the_view_are_served_with_strict_headers(server: Server) -> None:
    for path, kind in (
        ("/", "text/html"), ("/watch.js", "text/javascript"), ("/watch.css", "text/css"),
        ("/plotly.js", "text/javascript"), ("/view.json", "application/json"),
    ):  # fmt: skip
        status, headers, content = ask(server, path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert int(headers["Content-Length"]) == len(content) > 0
        assert headers["Server"].strip() == "paramcast"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
    view = json.loads(content)
    assert (view["name"], view["state"]) == (EVIL, "finished")
    assert "<script src=" in ask(server)[2].decode()
    assert "http" not in ask(server)[2].decode()


def test_head_sends_no_content_and_what_is_known_is_not_sent_again(server: Server) -> None:
    status, headers, content = ask(server, "/watch.js", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 1000
    status, _, content = ask(server, "/watch.js", If_None_Match=headers["ETag"])
    assert (status, content) == (304, b"")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8807", "127.0.0.1.evil.example", "localhost.evil.example",
     "evil.example:127.0.0.1", "[::1]:8807", "0.0.0.0:8807", "127.0.0.2", "localhost:",
     "localhost:x", "", " localhost evil.example"],
)  # fmt: skip
def test_another_host_is_refused(server: Server, host: str) -> None:
    """A name that an attacker points at this machine (DNS rebinding)."""
    for path in ("/", "/view.json"):
        status, _, content = ask(server, path, Host=host)
        assert status == 421
        assert EVIL.encode() not in content


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:9000"])
def test_this_machine_is_served_whatever_the_port(server: Server, host: str) -> None:
    """An SSH tunnel has another port at its other end."""
    assert ask(server, "/view.json", Host=host)[0] == 200
    assert ask(server, "/view.json", Host=host, Origin=f"http://{host.lower()}")[0] == 200


def test_a_request_without_or_with_two_hosts_is_refused(server: Server) -> None:
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"421"
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(server, two).split()[1] == b"421"
    proxied = b"GET http://evil.example/view.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(server, proxied).split()[1] == b"404"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://evil.example", "null", "http://localhost:1", ""]
)
def test_another_origin_is_refused(server: Server, origin: str) -> None:
    status, headers, content = ask(server, "/view.json", Origin=origin)
    assert status == 403
    assert b"phases" not in content
    assert "Access-Control-Allow-Origin" not in headers


def test_what_another_site_embeds_is_refused_and_a_link_is_followed(server: Server) -> None:
    embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    assert ask(server, "/view.json", **embedded)[0] == 403
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(server, "/", **link)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/../watch.js",
     "/watch.js/", "/watch.html", "/pilot.db", "/..%5c..%5cetc", "/view.json/..", "/%00",
     "/watch.js?x=../../etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_served(server: Server, path: str) -> None:
    status, _, content = ask(server, path)
    assert (status, content) == (404, b"there is no such page\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_get_and_head_are_answered(server: Server, method: str) -> None:
    status, headers, content = ask(server, "/view.json", method)
    assert status == 501
    assert "Access-Control-Allow-Methods" not in headers
    assert b"phases" not in content


@pytest.mark.parametrize("cell", ["0", "1", "99999", "-1", "1e9", "²", "x" * 3000, "", "0&cell=1"])
def test_any_comparison_that_is_asked_for_is_answered(server: Server, cell: str) -> None:
    from urllib.parse import quote

    status, _, content = ask(server, f"/view.json?cell={quote(cell, safe='&=')}")
    assert status == 200
    assert json.loads(content)["cell"] == 0


def test_nonsense_does_not_end_it(server: Server) -> None:
    for bytes_ in (b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000,
                   b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"):  # fmt: skip
        answer = raw(server, bytes_)
        assert b"phases" not in answer
    assert ask(server)[0] == 200


# --- load -----------------------------------------------------------------------------------------


def test_a_hundred_requests_at_once_are_answered_alike(server: Server) -> None:
    server.every = 60.0
    begun = threading.Barrier(100)

    def one(_: int) -> tuple[int, bytes]:
        begun.wait()
        return ask(server, "/view.json")[::2]

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(one, range(100)))
    assert {status for status, _ in answers} == {200}
    assert len({content for _, content in answers}) == 1


def test_slow_clients_keep_nobody_waiting_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there is room for send nothing, a byte, or read nothing; then one asks."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    slow, sent = [], (b"", b"G", b"GET /plotly.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for i in range(module.CONNECTIONS):
        slow.append(socket.create_connection(("127.0.0.1", server.server_port)))
        slow[-1].sendall(sent[i % 3])
    assert ask(server, "/view.json")[0] == 200
    for client in slow:
        client.close()


def test_a_client_that_goes_away_is_no_error(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(b"GET /plotly.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask(server)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_said_and_the_usual_one_gives_way(
    pilot: Path, server: Server, monkeypatch: pytest.MonkeyPatch, paramcast: Any
) -> None:
    ran = paramcast("watch", pilot, "--web", "--port", server.server_port)
    assert (ran.code, ran.out) == (2, "")
    assert f"--port {server.server_port} cannot be had" in ran.err
    said: list[str] = []
    monkeypatch.setattr(module, "PORT", server.server_port)
    monkeypatch.setattr(Server, "serve_forever", lambda self: said.append(self.url))
    serve(Watching(pilot), None, 1.0, said.append)
    assert f":{server.server_port}/" not in said[0]
    assert said[1] in said[0]


# --- the browser ----------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """visit(server): its page; nothing may be asked of anyone else or logged as an error."""
    wrong: list[str] = []
    contexts = []

    def opened(server: Server, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith((server.url, "data:")) or wrong.append(r.url))
        page.goto(server.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def test_the_page_refreshes_itself_from_waiting_to_the_verdict(
    begin: Callable[..., Server], visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(begin(tmp_path))
    page.get_by_text("holds no pilot or study yet").wait_for()
    write_pilot(tmp_path / "made", name=EVIL, methods="plp", seeds=6,
                failed=((0, "ValueError: <b>no</b>"),))  # fmt: skip
    verdict = tmp_path / "made" / "pilot.json"
    verdict.rename(tmp_path / "later")
    spec = RunSpec(
        task="t", fingerprint="f", method="plp", base="sgd", lr=0.1, schedule="cosine", epochs=2,
        batch_size=8, share=1.0, phase="final", seed=77, device="cpu", versions="v",
    )  # fmt: skip
    with Live(tmp_path / "made") as driver:
        tell = Telling(str(driver.path), spec, 150)
        tell({"step": 30, "validation_loss": 0.5})
        page.locator("#state", has_text="running").wait_for()
        page.get_by_text("30 of 150").wait_for()
        tell({"step": 60, "validation_loss": 0.4})
        page.get_by_text("60 of 150").wait_for()
        assert page.locator("#running tbody tr").count() == 1
        assert not page.locator("#verdict").is_visible()
    shutil.move(tmp_path / "later", verdict)
    page.locator("#state", has_text="finished").wait_for()
    assert page.locator("#verdict li").count() == 2
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator("img").count() == 0
    assert "<b>no</b>" in page.locator("#events").inner_text()
    assert page.locator("#curves .plot").evaluate("p => p.data.length") == 8
    assert page.locator("#arms tbody tr").count() == 8
    page.get_by_role("button", name="training loss").click()
    pressed = page.locator("button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["training loss"]
    assert "training loss" in page.locator("#curves .plot").evaluate(
        "p => p.layout.yaxis.title.text"
    )


def test_another_comparison_of_a_study_is_chosen_and_kept(
    begin: Callable[..., Server], visit: Callable[..., Any], study: Path
) -> None:
    server = begin(study)
    page = visit(server, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.locator("#arms tbody tr").first.wait_for()
    other = 1 - json.loads(ask(server, "/view.json")[2])["cell"]
    asked = f"{server.url}view.json?cell={other}"
    page.locator("select").select_option(str(other))
    with page.expect_response(lambda answer: answer.url == asked) as waiting:
        pass
    assert waiting.value.json()["cell"] == other
    assert page.locator("select").input_value() == str(other)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_a_page_of_another_site_reads_nothing(
    server: Server, browser: Any, begin: Callable[..., Server], tmp_path: Path
) -> None:
    """From another port of this machine, which is another origin."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(begin(tmp_path).url)
    asked = "u => fetch(u, {mode: 'no-cors'}).then(r => r.type + r.status, () => 'refused')"
    assert page.evaluate(asked, server.url + "view.json") == "refused"
    context.close()
