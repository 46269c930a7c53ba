"""What a pilot notes beside its table: rates at an end of those tried, and gates that refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import write_pilot

from paramcast.study.judging.sentences import note
from paramcast.study.judging.verdict import Metric
from paramcast.study.spec import OPEN
from paramcast.study.words import Words
from runs import cell

ALL = {"seeds": 4, "methods": "plp", "trial_seeds": 1}
METRIC = Metric("accuracy", True, 0.005)


def said(found: dict[str, Any], start: str) -> list[str]:
    """The notes whose key starts so, in words."""
    notes = [each for each in found["notes"] if each["note"].startswith(start)]
    return [note(each, METRIC, Words("en")) for each in notes]


# drawn outcomes are best at a rate of 0.05
@pytest.mark.parametrize(
    ("low", "high", "trials", "end", "what"),
    [
        (0.1, 1.0, 8, "lowest", "below: --lr-range 0.01:1."),
        (0.001, 0.01, 8, "highest", "above: --lr-range 0.001:0.1."),
        (0.1, 1.0, 4, "lowest", "the next one is 2.2 times as large: the best may lie between"),
        (0.001, 0.01, 4, "highest", "upward only if the highest is still the best"),
    ],
)
def test_a_rate_at_an_end_names_the_end_and_what_would_find_a_better_one(
    low: float, high: float, trials: int, end: str, what: str, tmp_path: Path
) -> None:
    found = cell(write_pilot(tmp_path, lr_range=(low, high), trials=trials, **ALL))
    (told,) = said(found, end)
    assert what in told
    assert ("--trials 8, without --quick" in told) == (trials < 8)
    assert said(found, {"lowest": "highest", "highest": "lowest"}[end]) == []


def test_a_best_rate_inside_the_range_is_no_reason_to_widen_it(tmp_path: Path) -> None:
    found = cell(write_pilot(tmp_path, lr_range=(0.005, 0.5), trials=8, **ALL))
    assert said(found, "lowest") == said(found, "highest") == []


def test_around_a_tuned_base_the_range_is_not_the_users(tmp_path: Path) -> None:
    found = cell(write_pilot(tmp_path, tuned_base=0.4, trials=4, **ALL))
    (told,) = said(found, "lowest")
    assert "tried around --tuned-base" in told
    assert "--lr-range" not in told


def test_a_budget_that_leaves_out_speed_is_the_reason_and_no_other(tmp_path: Path) -> None:
    """At no effect the verdict on quality leaves speed open; 16 trainings are those of quality."""
    options = {"methods": "plp", "lr": 0.05, "lazy": True, "speed": OPEN, "effects": {"plp": 0.0}}
    found = cell(write_pilot(tmp_path, **options, max_runs=16))
    assert [*found["verdicts"]["plp"]] == ["quality"]
    assert found["verdicts"]["plp"]["quality"].kind == "no difference"
    assert said(found, "budget") == [
        "The budget ended the comparison after 16 trainings. With a larger one the same command "
        "goes on from there."
    ]
    assert said(found, "speed") == []


def test_a_gate_that_refused_nearly_all_is_named_with_how_many(tmp_path: Path) -> None:
    """Counted over the final runs at full length; a run without predictions does not count."""
    for written, expected in ((0, "plp: 0 of 400 predictions"), (2, "plp: 16 of 400"), (3, "")):
        counts = {"made": 50, "written": written}
        found = cell(write_pilot(tmp_path / str(written), methods="plp", predictions=counts))
        told = said(found, "refused")
        assert len(told) == bool(expected)
        assert all(text.startswith(expected) for text in told)
