"""What terminals of different widths show, against screens that a person has looked at.

After a change that is meant: `pytest tests/report/test_screens.py --write-screens`, and look.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from synthetic import write_pilot

from paramcast.report import study as cells
from paramcast.report.columns import ALWAYS, Column, fitted
from paramcast.report.terminal import show
from paramcast.report.watch import terminal
from paramcast.report.watch.board import Board
from paramcast.study.store.live import InProgress
from paramcast.study.stored import read_result
from runs import cell

SCREENS = Path(__file__).parent / "screens"
Same = Callable[[str, str], None]


@pytest.fixture
def same(request: pytest.FixtureRequest) -> Same:
    """Compares a screen with the one that is kept under its name."""

    def check(name: str, screen: str) -> None:
        screen = "".join(f"{line.rstrip()}\n" for line in screen.splitlines())
        kept = SCREENS / f"{name}.txt"
        if request.config.getoption("--write-screens"):
            kept.write_text(screen, encoding="utf-8")
        assert screen == kept.read_text(encoding="utf-8")

    return check


def on(width: int, *drawn: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(*drawn)
    return out.getvalue()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens") / "digits"
    write_pilot(folder, methods="demon, plp", effects={"plp": 0.012})
    return folder


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_pilot(tuned: Path, width: int, same: Same) -> None:
    result = read_result(tuned)
    result["out"] = "paramcast-runs/digits"
    screen = io.StringIO()
    show(result, Console(file=screen, width=width))
    same(f"pilot-{width}", screen.getvalue().replace(str(tuned), "paramcast-runs/digits"))


@pytest.mark.parametrize("width", [80, 140])
def test_a_study_of_several_cells(study: Path, width: int, same: Same) -> None:
    result = read_result(study)
    result["out"] = "runs/grid"
    screen = io.StringIO()
    cells.show(result, Console(file=screen, width=width))
    same(f"study-{width}", screen.getvalue())


@pytest.mark.parametrize("width", [60, 80])
def test_the_comparison_is_whole_where_there_is_little_room(tuned: Path, width: int) -> None:
    result = read_result(tuned)
    text = (SCREENS / f"pilot-{width}.txt").read_text(encoding="utf-8")
    for row in cell(result)["table"]:
        line = next(line for line in text.splitlines() if line.startswith(f"{row['method']}  "))
        assert f"{100 * row['mean']:.2f} ± " in line
        if width > 60:
            assert f" {row['lr']:.4g} " in line
        if row["to_base"]:
            c = row["to_base"]
            assert f"{100 * c.mean:+.2f} ({100 * c.low:+.2f} to {100 * c.high:+.2f})" in line


def watched(of: Path, width: int, **changes: Any) -> str:
    """A folder as `paramcast watch` shows it."""
    board = Board(of)
    look = board.look()._replace(**changes)
    out = io.StringIO()
    console = Console(width=width, file=out)
    console.print(terminal.draw(board, look, console))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_pilot_that_is_watched(
    tuned: Path, width: int, same: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Board, "seconds_per_run", lambda _: 340 / 16)
    losses = (0.9, 0.5, 0.3, 0.2)
    spec = {"task": "digits", "base": "sgd", "method": "random-jump:plp", "lr": 0.0711, "seed": 3,
            "phase": "final", "share": 0.8}  # fmt: skip
    curve = [{"step": 30 * i, "validation_loss": loss} for i, loss in enumerate(losses)]
    screen = watched(
        tuned, width, folder="paramcast-runs/digits", state="running",
        planned={"final": 96}, running=[InProgress("key", spec, 150, curve)],
    )  # fmt: skip
    assert max(map(len, screen.splitlines())) <= width
    same(f"watch-{width}", screen)


def test_the_least_important_columns_are_left_out_first() -> None:
    columns = [
        Column("name", ["a", "b"]),
        Column("first to go", ["123456", ""], 9),
        Column("second", ["1234567", ""], 5),
        Column("stays", ["12345", ""], ALWAYS),
    ]
    table, left = fitted(columns, 80)
    assert left == []
    assert on(80, table).splitlines()[0].split() == ["name", "first", "to", "go", "second", "stays"]
    # 1 + 2 + 6 + 2 + 7 + 2 + 5, with a heading that is folded
    table, left = fitted(columns, 25)
    assert left == []
    assert "first to" not in on(25, table)
    assert fitted(columns, 24)[1] == ["first to go"]
    table, left = fitted(columns, 10)
    assert left == ["first to go", "second"]
    assert "12345" in on(10, table)
