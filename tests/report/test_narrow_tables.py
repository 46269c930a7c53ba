"""A pilot's tables in a narrow terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import write_pilot

from paramcast.report.terminal import show
from paramcast.study.store.folder import to_json
from paramcast.study.stored import read_result
from runs import cell


def shown(folder: Path, width: int) -> list[str]:
    screen = io.StringIO()
    result = read_result(folder)
    show(result, Console(file=screen, width=width))
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100])
def test_no_figure_of_a_narrow_table_is_cut(tmp_path: Path, width: int) -> None:
    result = write_pilot(tmp_path)
    lines = shown(tmp_path, width)
    assert not any("…" in line for line in lines)
    for row in cell(result)["table"]:
        ours = (line.split() for line in lines if line.startswith(f"{row['method']} "))
        cells = next(cells for cells in ours if cells[-1] == "0/8")
        assert cells[1] == f"{row['lr']:.4g}"
        assert cells[-2] == f"{row['peak_memory'] / 2**20:.0f}"


def test_a_long_name_takes_more_lines(tmp_path: Path) -> None:
    result = write_pilot(tmp_path)
    cell(result)["table"][1]["method"] = "outer-nesterov(k=5, outer_momentum=0.9)-lr-matched"
    (tmp_path / "result.json").write_text(to_json(result))
    lines = shown(tmp_path, 80)
    assert sum(line.startswith("outer-") for line in lines) == 2  # in two tables
    assert not any("…" in line for line in lines)
