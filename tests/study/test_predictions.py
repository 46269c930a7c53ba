"""What is stored of a run's predictions, and that looking at them changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_loop import spec, timeless

from paramcast.events import ForecastEvent
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Prepared
from paramcast.study.training import loop
from paramcast.study.training.predictions import Predictions

Make = Callable[..., Prepared]


def event(step: int, jump: float, **numbers: Any) -> ForecastEvent:
    return ForecastEvent(step, step // 3, True, "predicted", jump, 1.0, **numbers)


def test_each_point_tells_of_the_predictions_since_the_point_before() -> None:
    watch = Predictions()
    refused = event(12, 1.0, relative_jump=0.004, fired=(("jump", "skip"), ("loss", "pause")))
    for each in (
        event(3, 1.0, relative_jump=0.001, cosine=0.5, error=0.75),
        event(6, 1.0, relative_jump=0.003, cosine=-0.25, error=None),
        event(9, 1.0, relative_jump=0.005),
        refused._replace(applied=False),
        event(15, float("nan"), fired=(("non-finite", "skip"),))._replace(applied=False),
    ):
        watch(each)
    curve: list[dict[str, Any]] = [{"step": step} for step in (2, 9, 10, 14)]
    watch.note(curve)
    none = {"count": 0, "scored": 0}
    assert [point["predictions"] for point in curve] == [
        none,
        {
            "count": 3, "accepted": 1.0, "relative_jump": 0.003, "scored": 2, "cosine": 0.125,
            "error": 0.75,
            "anomalies": [{"rule": "jump", "action": "none", "step": 6, "count": 2}],
        },
        none,
        {
            "count": 2, "accepted": 0.0, "relative_jump": 0.004, "scored": 0,
            "anomalies": [
                {"rule": "jump", "action": "skip", "step": 12, "count": 1},
                {"rule": "loss", "action": "pause", "step": 12, "count": 1},
                {"rule": "non-finite", "action": "skip", "step": 15, "count": 1},
            ],
        },
    ]  # fmt: skip


@pytest.mark.parametrize(("cycles", "every"), [(5, 4), (249, 4), (500, 10)])
def test_few_are_scored_and_the_memory_of_scoring_is_known(cycles: int, every: int) -> None:
    watch = Predictions().begin([torch.zeros(3, 5), torch.zeros(2)], cycles)
    assert (watch.every, watch.memory) == (every, 2 * 17 * 4)


@pytest.mark.parametrize("method", ["plp", "random-jump:plp", "rre"])
def test_watching_changes_no_number(
    prepared: Make, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = prepared(epochs=20)
    watched = timeless(loop.run(spec(task, method), task))
    noted = [point.pop("predictions") for point in watched["curve"]]
    build = loop.build
    monkeypatch.setattr(loop, "build", lambda *args: build(*args[:7], None, *args[8:]))
    assert timeless(loop.run(spec(task, method), task)) == watched
    assert sum(each["count"] for each in noted) >= 2
    if method == "plp":
        assert [each["count"] for each in noted[:4]] == [1, 1, 2, 1]  # after steps 3, 6, 9, 12, ...
        assert sum(each["count"] for each in noted) == 80 // 3
        assert sum(each["scored"] for each in noted) == 80 // 3 // 4
        assert all(-1 <= each["cosine"] <= 1 for each in noted if each["scored"])


@pytest.mark.parametrize(
    ("method", "phase"), [("base", "final"), ("ema", "final"), ("plp", "tune")]
)
def test_nothing_is_noted_without_predictions_or_while_tuning(
    prepared: Make, method: str, phase: str
) -> None:
    task = prepared()
    curve = loop.run(spec(task, method, phase=phase), task)["curve"]
    assert all("predictions" not in point for point in curve)


def test_a_run_that_breaks_off_notes_the_rule_that_fired(prepared: Make) -> None:
    task = prepared(model=lambda: torch.nn.Linear(4, 3), batch_size=4)
    outcome = loop.run(spec(task, "plp", lr=1e30), task)
    assert outcome["status"] == "diverged"
    fired = outcome["curve"][-1]["predictions"]["anomalies"]
    assert {"non-finite"} <= {each["rule"] for each in fired}


def test_a_stream_notes_them_by_segment() -> None:
    task = load(find("digits-drift"), "cpu")
    curve = loop.run(spec(task, "plp", epochs=1), task)["curve"]
    steps = [point["step"] for point in curve]
    counts = [point["predictions"]["count"] for point in curve]
    assert counts == [b // 3 - a // 3 for a, b in zip([0, *steps], steps, strict=False)]
