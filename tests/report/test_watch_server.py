"""The report served while runs finish: real sockets, the real command, and a real browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browsing import opening
from synthetic import ENVIRONMENT, EVIL, draw, write_pilot, write_study

from paramcast.report.html.write import content as report
from paramcast.report.watch import server as module
from paramcast.report.watch import terminal
from paramcast.report.watch.board import Board
from paramcast.report.watch.page import build
from paramcast.report.watch.server import Server, serve
from paramcast.study.search import parse_search
from paramcast.study.store.live import Live
from paramcast.study.store.store import Store
from runs import cell, stored_spec

PAGE = "<!DOCTYPE html>the report"
LIVE = {"every": 0.1, "tag": '"tag"'}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.show(PAGE, "tag")
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    with server:
        yield server
        server.shutdown()


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


def test_the_page_is_served_with_strict_headers_and_only_where_it_changed(server: Server) -> None:
    for path, kind in (("/", "text/html"), ("/plotly.js", "text/javascript")):
        status, headers, content = ask(server, path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert int(headers["Content-Length"]) == len(content) > 0
        assert headers["Server"].strip() == "paramcast"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        status, head, content = ask(server, path, "HEAD")
        assert (status, head["Content-Length"], content) == (200, headers["Content-Length"], b"")
        status, _, content = ask(server, path, If_None_Match=headers["ETag"])
        assert (status, content) == (304, b"")
    assert ask(server)[2] == PAGE.encode()
    assert ask(server)[1]["ETag"] == '"tag"'


STRANGERS = [  # names that an attacker points at this machine (DNS rebinding)
    "evil.example", "evil.example:8807", "127.0.0.1.evil.example", "localhost.evil.example",
    "evil.example:127.0.0.1", "[::1]:8807", "0.0.0.0:8807", "127.0.0.2", "localhost:",
    "localhost:x", "", " localhost evil.example",
]  # fmt: skip
HERE = ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:9000"]  # a tunnel has other ports
OTHERS = ["https://evil.example", "http://evil.example", "null", "http://localhost:1", ""]
PATHS = [
    "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/", "/.",
    "/plotly.js/", "/report.html", "/runs.db", "/..%5c..%5cetc", "/plotly.js/..", "/%00",
    "/plotly.js?x=../../etc/passwd",
]  # fmt: skip
EMBEDDED = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]
ANSWERS: list[tuple[int, str, str, dict[str, str]]] = [
    *((421, path, "GET", {"Host": host}) for host in STRANGERS for path in ("/", "/other")),
    *((200, "/", "GET", {"Host": host}) for host in HERE),
    *((200, "/", "GET", {"Host": host, "Origin": f"http://{host.lower()}"}) for host in HERE),
    *((403, "/", "GET", {"Origin": origin}) for origin in OTHERS),
    (403, "/", "GET", EMBEDDED),
    (200, "/", "GET", EMBEDDED | {"Sec_Fetch_Mode": "navigate"}),  # a link is followed
    *((404, path, "GET", {}) for path in PATHS),
    *((501, "/", method, {}) for method in METHODS),
]


@pytest.mark.parametrize(("status", "path", "method", "headers"), ANSWERS)
def test_only_this_machine_gets_the_page_and_nothing_else(
    server: Server, status: int, path: str, method: str, headers: dict[str, str]
) -> None:
    answered, told, content = ask(server, path, method, **headers)
    assert (answered, b"report" in content) == (status, status == 200)
    assert not any(name.startswith("Access-Control") for name in told)


def test_a_request_without_or_with_two_hosts_is_refused(server: Server) -> None:
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"421"
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(server, two).split()[1] == b"421"
    proxied = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(server, proxied).split()[1] == b"404"


def test_nonsense_does_not_end_it(server: Server) -> None:
    for bytes_ in (b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000,
                   b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"):  # fmt: skip
        answer = raw(server, bytes_)
        assert PAGE.encode() not in answer
    assert ask(server)[0] == 200


# --- load -----------------------------------------------------------------------------------------


def test_a_hundred_requests_at_once_beside_slow_clients_are_answered_alike(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """Slow ones send nothing, a byte, or read nothing; others go away, which is no error."""
    slow, sent = [], (b"", b"G", b"GET /plotly.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for i in range(60):
        slow.append(socket.create_connection(("127.0.0.1", server.server_port)))
        slow[-1].sendall(sent[i % 3])
    begun = threading.Barrier(100)

    def one(_: int) -> tuple[int, bytes]:
        begun.wait()
        return ask(server, "/")[::2]

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(one, range(100)))
    assert {*answers} == {(200, PAGE.encode())}
    for client in slow:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert ask(server)[0] == 200
    assert capfd.readouterr() == ("", "")


# --- the page before the verdict ------------------------------------------------------------------


def running(folder: Path, **changes: Any) -> Path:
    """A pilot of 10 + 48 runs without its verdict, of 10 + 96 planned; its result is beside."""
    write_pilot(folder, methods="plp", seeds=6, **changes)
    (folder / "result.json").rename(folder.with_name("verdict"))
    store = Store(folder / "runs.db")
    store.set_about("planned", {"tuning": 10, "final": 96, "seeds": 12, "price": [30, 66, 219]})
    store.close()
    return folder


def add_run(folder: Path, database: str = "runs.db", seed: int = 77, **values: Any) -> None:
    """One more final run of plp, like one that is there, with another seed."""
    store = Store(folder / database)
    wanted = ("plp", "final", 1.0)
    known = [s for s, _ in store.runs() if (s["method"], s["phase"], s["share"]) == wanted]
    spec = stored_spec({**known[0], "seed": seed})
    outcome = draw(spec, 60, 10, {})
    store.put(spec, outcome | values, ENVIRONMENT)
    store.close()


def page_of(folder: Path, language: str = "en") -> str:
    board = Board(folder, language=language)
    return build(board, board.look(), "", LIVE)


@pytest.mark.parametrize(
    ("language", "none", "done"),
    [("en", "No verdict yet", "58 of 106"), ("ja", "判定はまだありません", "106 件中 58 件")],
)
def test_before_the_end_it_says_how_far_it_is_and_reads_no_verdict(
    language: str, none: str, done: str, tmp_path: Path
) -> None:
    page = page_of(running(tmp_path / "made"), language)
    assert none in page
    assert done in page
    assert re.search("usually takes 66 runs, at most 219|通常 66 回、最大 219 回", page)
    data = json.loads(re.findall('id="data">(.*?)</script>', page)[0])
    curves, tuning, predictions = data["cells"][0]["charts"]
    assert [trace["name"] for trace in curves["views"][0]["data"]] == [
        "sgd", "sgd-lr-matched", "plp", "random-jump of plp",
    ]  # fmt: skip
    assert "band" not in str(curves["views"])
    assert [trace["name"] for trace in tuning["views"][0]["data"]] == ["sgd", "plp"]
    assert ["star" in t["marker"]["symbol"] for t in tuning["views"][0]["data"]] == [True, True]
    assert predictions["views"][0]["data"]
    assert len(data["runs"]) == 58
    assert {tuple(run["methods"]) for run in data["runs"]} == {
        (trace["name"],) for trace in curves["views"][0]["data"]
    }
    assert "paired" not in page


def test_while_rates_are_tuned_there_are_their_losses_and_no_curve(tmp_path: Path) -> None:
    write_pilot(tmp_path / "whole", methods="plp", seeds=2)
    source = Store(tmp_path / "whole" / "runs.db", write=False)
    store = Store(tmp_path / "runs.db")
    store.adopt("specification", source.about("specification"))
    for spec, outcome in source.runs():
        if spec["phase"] == "tune":
            made = stored_spec(spec)
            store.put(made, {**outcome, "curve": []}, ENVIRONMENT)
    source.close()
    store.close()
    data = json.loads(re.findall('id="data">(.*?)</script>', page_of(tmp_path))[0])
    (tuning,) = data["cells"][0]["charts"]
    assert [trace["name"] for trace in tuning["views"][0]["data"]] == ["sgd", "plp"]
    assert "'star'" not in str(tuning["views"])


def test_what_is_searched_beside_the_rate_is_shown_and_makes_no_comparison(tmp_path: Path) -> None:
    searched = (parse_search("momentum=0.8,0.9"), parse_search("weight_decay=1e-5:1e-2"))
    folder = running(tmp_path / "made", search=searched)
    board = Board(folder)
    board.look()
    assert len(board.cells) == 1
    columns = {c.heading: c.cells for c in terminal._tuning(board.latest)}
    assert [*columns["method"]] == ["sgd", "plp"]
    said = r"momentum=0\.[89]\nweight_decay=[\de.-]+"
    assert all(re.fullmatch(said, str(each)) for each in columns["searched"])
    data = json.loads(re.findall('id="data">(.*?)</script>', page_of(folder))[0])
    tuning = next(c for c in data["cells"][0]["charts"] if c["id"] == "tuning")
    beside = re.compile(r"0\.\d+ \(momentum=0\.[89], weight_decay=[\de.-]+\)")
    assert all(beside.fullmatch(row[1]) for row in tuning["table"]["rows"])


def test_looking_shows_no_test_value_and_is_not_a_look(tmp_path: Path) -> None:
    """Who reads a verdict after every few seeds finds differences that are not there."""
    folder = running(tmp_path / "made")
    seen = {"metric": 0.87654, "loss": 0.43219}
    add_run(folder, validation=seen, test={"metric": 0.98765, "loss": 0.12399}, gap=0.31113)
    before = {file.name: file.read_bytes() for file in folder.glob("pilot.*")}
    page = page_of(folder)
    assert "0.8765" in page
    assert "0.4322" in page
    assert not re.search("0[.]9876|0[.]9877|98[.]7|0[.]1239|0[.]124|0[.]3111", page)
    store = Store(folder / "runs.db", write=False)
    assert store.looks() == [6]
    store.close()
    assert {file.name: file.read_bytes() for file in folder.glob("pilot.*")} == before


def test_what_cannot_be_read_is_said_in_the_page(tmp_path: Path) -> None:
    """A verdict of one seed has no report; the page says so and goes on asking."""
    write_pilot(tmp_path, methods="plp", seeds=2)
    result = json.loads((tmp_path / "result.json").read_text())
    for row in cell(result)["table"]:
        row["values"], row["early_values"] = row["values"][:1], row["early_values"][:1]
    cell(result)["seeds"] = 1
    (tmp_path / "result.json").write_text(json.dumps(result))
    page = page_of(tmp_path)
    assert "has fewer than 2 seeds" in page
    assert '"live":{"every":0.1' in page


# --- beginning and end ----------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said_and_the_usual_one_gives_way(
    pilot: Path, server: Server, monkeypatch: pytest.MonkeyPatch, paramcast: Any
) -> None:
    ran = paramcast("watch", pilot, "--web", "--port", server.server_port)
    assert (ran.code, ran.out) == (2, "")
    assert f"--port {server.server_port} cannot be had" in ran.err
    said: list[str] = []
    monkeypatch.setattr(module, "PORT", server.server_port)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)
    serve(Board(pilot), None, 0.1, said.append)
    assert said[0].startswith("http://127.0.0.1:")
    assert f":{server.server_port}/" not in said[0]


def test_it_prints_its_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    folder = running(tmp_path / "made")
    words = ["watch", folder, "--web", "--port", "0", "--lang", "ja"]
    process = subprocess.Popen(
        [sys.executable, "-m", "paramcast", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"http://127[.]0[.]0[.]1:(\d+)/ shows the report so far", line)
    assert found, line
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    connection.request("GET", "/")
    assert "106 件中 58 件" in connection.getresponse().read().decode()
    connection.close()
    process.send_signal(signal.SIGINT)
    assert (*process.communicate(timeout=30), process.returncode) == ("", "", 0)


# --- the browser ----------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    with opening(browser) as opened:
        yield opened


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], tuple[str, list[str]]]]:
    """begin(folder): the address, and what else is said; it ends with the test if its pilot has."""
    monkeypatch.setattr(module, "LAST_SECONDS", 1e9)
    monkeypatch.setattr(module, "BUILD_SHARE", 1.0)
    threads = []

    def run(folder: Path) -> tuple[str, list[str]]:
        said: list[str] = []
        ready = threading.Event()

        def say(text: str) -> None:
            said.append(text)
            ready.set()

        thread = threading.Thread(target=serve, args=[Board(folder), 0, 0.1, say], daemon=True)
        thread.start()
        assert ready.wait(30)
        threads.append(thread)
        return said[0].split()[0], said

    yield run
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_the_page_goes_from_waiting_to_the_report_and_ends_with_the_pilot(
    begin: Callable[..., Any], visit: Callable[..., Any], tmp_path: Path
) -> None:
    url, said = begin(tmp_path / "served")
    page = visit(url)
    page.get_by_text("holds no pilot or study yet").wait_for()
    made = running(tmp_path / "made", name=EVIL, failed=((0, "ValueError: <b>no</b>"),))
    with Live(made):
        (tmp_path / "served").symlink_to(made)
        page.get_by_text("Runs done: 58 of 106").wait_for()
        assert page.locator("h1").inner_text() == f"{EVIL} while it runs"
        assert page.locator(".facts").inner_text().split()[:2] == ["State", "running"]
        assert page.locator("img").count() == 0
        assert "<b>no</b>" in page.locator("#failed").inner_text()
        page.locator("#curves .plot svg").first.wait_for()
        assert page.locator("#curves .plot").evaluate("p => p.data.length") == 4
        assert page.locator("#how, #download, .badge").count() == 0
        add_run(made)
        page.get_by_text("Runs done: 59 of 106").wait_for()
    page.get_by_text("Nobody is at work on it").wait_for()
    store = Store(made / "runs.db")
    store.set_about("planned", {"tuning": 16, "final": 49, "seeds": 6})
    store.close()
    shutil.move(tmp_path / "verdict", made / "result.json")
    page.locator("#summary .badge").first.wait_for()
    assert page.locator("#effect .plot").count() == 1
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=30)
    connection.request("GET", "/")
    assert connection.getresponse().read() == report(tmp_path / "served", "en", "html")
    connection.close()
    assert said[1].startswith(f"{EVIL} has finished; its report stays here")
    assert f"`paramcast report {tmp_path / 'served'}` writes it" in said[1]


def test_another_comparison_of_a_study_is_chosen_and_kept(
    begin: Callable[..., Any], visit: Callable[..., Any], tmp_path: Path
) -> None:
    write_study(tmp_path)
    verdict = tmp_path / "result.json"
    verdict.rename(tmp_path / "later")
    page = visit(begin(tmp_path)[0], viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.locator("#pick").select_option("1")
    page.get_by_text("Runs done: 144").wait_for()
    add_run(tmp_path, "runs.db")
    page.get_by_text("Runs done: 145").wait_for()
    assert page.locator("#pick").input_value() == "1"
    assert page.locator("#curves .plot").evaluate("p => p.data.length") == 12
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
    (tmp_path / "later").rename(verdict)
    page.locator("#whole").wait_for()


def test_a_page_of_another_site_reads_nothing(server: Server, browser: Any) -> None:
    """From another port of this machine, which is another origin."""
    other = Server()
    other.show("<!DOCTYPE html>another site", "x")
    threading.Thread(target=other.serve_forever, args=[0.02], daemon=True).start()
    with other:
        context = browser.new_context()
        page = context.new_page()
        page.goto(other.url)
        asked = "u => fetch(u, {mode: 'no-cors'}).then(r => r.type + r.status, () => 'refused')"
        assert page.evaluate(asked, server.url) == "refused"
        context.close()
        other.shutdown()
