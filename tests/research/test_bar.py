"""The bar: rows that are kept, stages that are narrowed, rules of selection by pencil."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bar
import kept
import selection
import sensitivity
from paramcast.study.grid.file import StudyFile, read
from paramcast.study.store.store import Store
from runs import run_spec

SPEC = run_spec(
    task="a, \"b\"", fingerprint="f", base="adamw", lr=0.1 + 0.2, beta2=0.99, weight_decay=1e-17,
    channels_last=True, code="sha256 1", method="x.py:f(a=1, b=2)", versions="p 1, t 2",
)  # fmt: skip
OUTCOME: dict[str, Any] = {
    "status": "done", "divergence": None, "steps": 12, "seconds": 0.1 + 0.7, "peak_memory": 3.0,
    "metric_name": "accuracy", "measures": {}, "learned": False, "train_loss": None, "gap": 1 / 3,
    "validation": {"metric": 2 / 3, "loss": 1e-300, "top1_error": 1 / 3},
    "test": {"metric": 0.5, "loss": 7.0, "top1_error": 0.5, "top5_error": 0.1},
}  # fmt: skip


def stored(folder: Path, *runs: tuple[Any, dict[str, Any]]) -> Store:
    store = Store(folder / "runs.db")
    for spec, outcome in runs:
        store.put(spec, {**outcome, "curve": []}, {})
    return store


def test_a_run_comes_back_from_its_row_as_it_was(tmp_path: Path) -> None:
    diverged = {**OUTCOME, "status": "diverged", "divergence": {"how": "step", "step": 3}}
    del diverged["learned"], diverged["test"]
    tuned = replace(SPEC, phase="tune", beta2=None)
    runs = {SPEC.key: OUTCOME, tuned.key: diverged}
    file = tmp_path / "rows.csv"
    with contextlib.closing(stored(tmp_path, (SPEC, OUTCOME), (tuned, diverged))) as store:
        assert kept.keep(store, file) == 2
    (tmp_path / "new").mkdir()
    with contextlib.closing(Store(tmp_path / "new" / "runs.db")) as store:
        assert kept.restore(file, store) == (2, 0)
        assert store.outcomes(runs) == runs
        before = file.read_bytes()
        kept.keep(store, file)
    assert file.read_bytes() == before


def test_rows_of_other_code_are_left_out_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    with contextlib.closing(stored(tmp_path, (SPEC, OUTCOME))) as store:
        kept.keep(store, file)
    changed = file.read_text().replace("sha256 1", "sha256 2")
    file.write_text(changed)
    (tmp_path / "new").mkdir()
    with contextlib.closing(stored(tmp_path / "new", (SPEC, OUTCOME))) as store:
        assert kept.restore(file, store) == (0, 1)


@pytest.mark.parametrize("stage", bar.stages())
def test_every_stage_is_a_study_of_each_of_its_tasks(stage: str) -> None:
    assert bar.having(stage)
    for task in bar.having(stage):
        study = read(bar.text_of(stage, task), task)
        assert study.name == f"bar-{stage}-{task}"
        assert {name for grid in study.grid for name in grid.task} <= {
            bar.TASKS[task], f"{bar.TASKS[task]}:task"
        }  # fmt: skip


def test_a_stage_with_fewer_seeds_or_methods() -> None:
    text = bar.text_of("judge", "digits")

    def seen(study: StudyFile) -> set[str]:
        return {name for grid in study.grid for name in grid.methods}

    few = read(bar.narrowed(text, 6, None), "s")
    assert {grid.seeds for grid in few.grid} == {6}
    assert seen(few) == seen(read(text, "s"))
    window = "primal-averaging(window=20, beta=0.8, eta=0)"
    assert seen(read(bar.narrowed(text, None, f"ema, {window}"), "s")) == {
        "ema", "primal-averaging(beta=0.8, eta=0, window=20)"
    }  # fmt: skip
    lookahead = read(bar.narrowed(text, None, "lookahead"), "s")
    assert all(grid.base == ["muon"] for grid in lookahead.grid)  # those without it are left out
    assert seen(read(bar.narrowed(text, None, ""), "s")) == set()


# --- rules of selection ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vertex", "reach", "chosen"),
    [(2.0, 1, 4), (2.4, 1, 5), (2.6, 2, 5), (0.0, 1, 0), (-3.0, 1, 0), (9.0, 2, 12)],
)
def test_a_parabola_by_pencil(vertex: float, reach: int, chosen: int) -> None:
    """Every second of 13 rates is seen; the vertex becomes the nearest of the 13."""
    values = (np.arange(7) - vertex) ** 2 + 5
    assert selection.parabola(values, reach) == chosen


def test_a_parabola_that_opens_downward_is_not_followed() -> None:
    assert selection.parabola(np.array([1.0, 1.5, 1.2, 0.0]), 1) == 6


def rows(noise: float, best: int = 6) -> dict[tuple[float, int], dict[str, str]]:
    draw = np.random.default_rng(0)
    found = {}
    for i in range(13):
        for seed in range(8):
            value = 0.9 - 0.001 * (i - best) ** 2 + noise * draw.normal()
            found[float(2 ** (i / 2)), seed] = {
                "metric_name": "accuracy", "validation_metric": str(value),
                "validation_loss": str(1 - value), "test_metric": str(value),
            }  # fmt: skip
    return found


def test_what_a_rule_costs_where_the_answer_is_known() -> None:
    sure = selection.Arm("a", [float(2 ** (i / 2)) for i in range(13)], rows(0.0))
    for rule in selection.RULES.values():
        assert selection.cost(sure, rule) == (0.0, 0.0)
        assert selection.null(sure, rule) == (0.0, 0.0)
        assert selection.protocol(sure, sure, alike=rule) == (0.0, 0.0, 0.0)
    assert selection.protocol(sure, sure) == (0.0, 0.0, 0.0)
    noisy = selection.Arm("a", sure.rates, rows(0.01))
    costs = [selection.cost(noisy, rule)[0] for rule in selection.RULES.values()]
    assert min(costs) > 0


def test_the_best_rate_between_two_that_are_seen_is_found_by_a_parabola_alone() -> None:
    arm = selection.Arm("a", [float(2 ** (i / 2)) for i in range(13)], rows(0.0, best=5))
    assert selection.cost(arm, selection.RULES["best point, loss"])[0] == pytest.approx(0.001)
    assert selection.cost(arm, selection.RULES["parabola of 5, loss"])[0] == 0.0


def test_what_multiples_of_a_rate_cost_by_pencil() -> None:
    """A loss of 0.001 for each squared half factor of 2: rates sqrt(2) apart."""
    base = selection.Arm("a", [float(2 ** (i / 2)) for i in range(13)], rows(0.0))
    best, costs, span = sensitivity.lost(base)
    assert best == 8.0
    assert costs == pytest.approx([0.036, 0.016, 0.004, 0.0, 0.004, 0.016, 0.036])
    assert span == pytest.approx(2.0)  # one rate on either side costs 0.001, the next 0.004
    method = selection.Arm("b", base.rates, rows(0.0, best=8))
    assert sensitivity.transferred(method, base, 2.0) == pytest.approx((0.0, 0.0))
    assert sensitivity.transferred(method, base, 1.0) == pytest.approx((0.004, -0.004))
    assert sensitivity.transferred(method, base, 1024.0) == pytest.approx(
        (0.016, -0.016)
    )  # the end
