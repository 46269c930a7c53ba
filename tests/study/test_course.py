"""The course of a comparison: which runs it asks for, when it looks, and what a budget allows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paramcast.errors import StudyError
from paramcast.study.course import Course
from paramcast.study.judging.looks import extended, planned, shared
from paramcast.study.plan import Plan
from paramcast.study.price import affordable, price
from paramcast.study.result import summarise
from paramcast.study.spec import RunSpec
from runs import drawn, follow

Planned = Callable[..., Plan]


@pytest.fixture
def course(plan: Planned, task_file: Callable[..., Path]) -> Callable[..., Any]:
    """course(effects, methods=..., **options): a course to its end, and the runs it asked for."""
    file = task_file()

    def make(effects: dict[str, float], spread: float = 0.001, **options: Any) -> Any:
        settings = {"methods": "plp", "lr": 0.1, "seeds": 24, "margin": 2.0} | options
        asked: list[RunSpec] = []

        def run(specs: list[RunSpec]) -> dict[str, Any]:
            assert not {spec.key for spec in specs} & {spec.key for spec in asked}  # none twice
            asked.extend(specs)
            return draw(specs)

        draw = drawn(effects, spread)
        made, _ = follow(plan(file, **settings), run)
        assert made.trainings == len(asked)
        return made, asked

    return make


def arms(asked: list[RunSpec]) -> Counter[tuple[str, float]]:
    """Final runs by method and share; the larger step is the base at another rate."""
    return Counter(
        ("larger" if s.method == "base" and s.lr != 0.1 else s.method, s.share)
        for s in asked
        if s.phase == "final"
    )


# --- looks --------------------------------------------------------------------------------------


def test_looks_by_pencil() -> None:
    assert planned(24) == [(6, 0.99), (12, 0.98), (24, 0.97)]
    assert planned(12) == [(6, 0.99), (12, 0.96)]
    assert planned(30) == [(7, 0.99), (15, 0.98), (30, 0.97)]
    assert [planned(n) for n in (2, 8, 11)] == [[(2, 0.95)], [(8, 0.95)], [(11, 0.95)]]
    assert shared(planned(24)[0], 2) == pytest.approx(0.995)
    assert extended(planned(24), 24) == planned(24)
    assert extended(planned(24), 96) == [*planned(24), (48, 0.99), (96, 0.99)]
    assert [extended(planned(24), n) for n in (6, 12, 30, 192)] == [None] * 4


def test_what_is_clear_at_the_first_look_ends_there(course: Any) -> None:
    made, asked = course({"plp": -0.05})
    assert made.verdicts["plp"]["quality"].kind == "harmful"
    assert arms(asked) == {("base", 1.0): 6, ("plp", 1.0): 6}
    assert [look.seeds for look in made.taken] == [6]


def test_what_stays_unclear_is_looked_at_to_the_last_seed(course: Any) -> None:
    made, asked = course({}, spread=0.05)
    assert made.verdicts["plp"]["quality"].kind == "inconclusive"
    assert [look.seeds for look in made.taken] == [6, 12, 24]
    assert arms(asked) == {("base", 1.0): 24, ("plp", 1.0): 24}
    (quality,) = made.verdicts["plp"].values()
    assert {(p.comparison.n, round(p.comparison.confidence, 9)) for p in quality.comparisons} == {
        (24, 0.97)
    }


def test_a_verdict_that_is_settled_stays_while_another_goes_on(course: Any) -> None:
    made, asked = course(
        {"plp": -0.5, "lookahead": 0.0}, methods="plp, lookahead", spread=0.02, speed="never"
    )
    seeds = {m: own["quality"].comparisons[0].comparison.n for m, own in made.verdicts.items()}
    assert seeds["plp"] == 6 < seeds["lookahead"]
    assert arms(asked)["plp", 1.0] == 6
    assert arms(asked)["base", 1.0] == arms(asked)["lookahead", 1.0] == seeds["lookahead"]


# --- arms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "more", "advice"),
    [
        (0.014, [48, 96], "extend"),
        (0.02, [48, 96], "extend_even"),
        (0.03, [48, 96], "beyond"),
        (0.03, [], "used"),
    ],
)
def test_more_seeds_are_advised_where_they_are_allowed_and_enough(
    plan: Planned, task_file: Callable[..., Path], spread: float, more: list[int], advice: str
) -> None:
    planned = plan(task_file(), methods="plp", lr=0.1, seeds=24, margin=1.0)
    course, outcomes = follow(planned, drawn({}, spread))
    verdict = summarise(planned, course, outcomes, more, 2)["verdicts"]["plp"]["quality"]
    assert verdict.advice[-1] == advice
    assert (verdict.extension is None) == (advice == "used")
    within = {"extend": (24, 48), "extend_even": (48, 96)}.get(advice, (96, math.inf))
    assert not more or within[0] < verdict.needed <= within[1]


def test_controls_run_only_where_the_predictor_is_better(course: Any) -> None:
    made, asked = course({"plp": 0.05})
    assert made.verdicts["plp"]["quality"].kind == "adopt"
    assert "speed" not in made.verdicts["plp"]  # whether to adopt is settled
    runs = {(m, 1.0): 6 for m in ("base", "plp", "larger", "random-jump:plp")}
    assert arms(asked) == runs


def test_the_first_control_that_explains_the_gain_ends_the_search_for_others(course: Any) -> None:
    made, asked = course({"plp": 0.05, "random-jump:plp": 0.05})
    verdict = made.verdicts["plp"]["quality"]
    assert (verdict.kind, verdict.control) == ("use the control instead", "random-jump")
    asked_methods = [s.method for s in asked if s.seed == 0]
    assert asked_methods == ["base", "plp", "base", "random-jump:plp"]


def test_fewer_steps_are_tried_where_the_quality_is_the_same(course: Any) -> None:
    made, asked = course({})
    assert {q: v.kind for q, v in made.verdicts["plp"].items()} == {
        "quality": "no difference", "speed": "not faster",
    }  # fmt: skip
    # with as few steps as good as with all: is the base, too?
    assert arms(asked) == {(m, share): 6 for m in ("base", "plp") for share in (1.0, 0.8)}


def test_every_arm_runs_where_that_was_asked(course: Any) -> None:
    _, asked = course({"plp": -0.05}, lazy=False, speed="always")
    methods = ("base", "plp", "larger", "random-jump:plp")
    assert arms(asked) == {(m, share): 6 for m in methods for share in (1.0, 0.8)}


def test_a_control_with_a_rate_of_its_own_is_tuned_only_if_it_is_needed(course: Any) -> None:
    _, asked = course({}, methods="plp, nesterov", lr=None, trials=2, trial_seeds=1)
    assert "nesterov" not in {s.method for s in asked}
    _, asked = course({"plp": 0.05}, methods="plp, nesterov", lr=None, trials=2, trial_seeds=1)
    own = [(s.phase, s.seed) for s in asked if s.method == "nesterov"]
    assert own == [*[("tune", 0)] * 2, *[("final", seed) for seed in range(6)]]


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"lr": 0.1}, {"methods": "plp, lookahead, demon, nesterov, sign-flipped"},
    {"speed": "never"}, {"lazy": False, "speed": "always"}, {"tuned_base": 0.05},
])  # fmt: skip
@pytest.mark.parametrize("effects", [{}, {"plp": 0.05}, {"plp": -0.05}, {"plp": 0.003}])
def test_no_course_takes_less_or_more_than_its_price(
    course: Any, options: dict[str, Any], effects: dict[str, float]
) -> None:
    settings = {"lr": None, "trials": 8, "trial_seeds": 3} | options
    made, asked = course(effects, spread=0.01, **settings)
    least, usual, most = price(made.plan.options)
    assert least <= len(asked) <= most
    assert least <= usual <= most


def test_the_default_price_by_pencil(plan: Planned, task_file: Callable[..., Path]) -> None:
    options = plan(task_file(), "plp", trials=8, trial_seeds=3, seeds=24).options
    # 12 + 8 tuning runs, two arms, six seeds; at most 12 + 15, four arms with T and 0.8 T
    assert price(options).least == 12 + 8 + 2 * 6
    assert price(options).most == 12 + 15 + 4 * 2 * 24
    clear = plan(task_file(), "plp", lr=0.1, seeds=24).options
    assert price(clear).least == 12


@pytest.mark.parametrize("runs", [25, 37, 40, 60, 90, 150])
@pytest.mark.parametrize("effects", [{}, {"plp": 0.05}, {"plp": 0.004}])
def test_a_budget_is_never_exceeded(course: Any, runs: int, effects: dict[str, float]) -> None:
    settings = {"lr": None, "trials": 8, "trial_seeds": 3, "max_runs": runs}
    made, asked = course(effects, spread=0.01, **settings)
    assert len(asked) <= runs
    assert made.verdicts["plp"]["quality"].kind
    assert made.search_size in ((8, 3), (4, 2))


def test_a_budget_without_room_for_controls_says_so(course: Any) -> None:
    made, asked = course({"plp": 0.05}, max_runs=17)
    verdict = made.verdicts["plp"]["quality"]
    assert (verdict.kind, verdict.rule) == ("inconclusive", "unchecked")
    assert verdict.facts["controls"] == ["sgd-lr-matched", "random-jump"]
    assert (len(asked), made.stopped) == (12, True)


def test_a_budget_of_time_is_counted_by_the_first_run(course: Any) -> None:
    # each run takes a second
    made, _ = course({}, lr=None, trials=8, trial_seeds=3, budget=60.0)
    assert made.search_size == (8, 3)
    made, asked = course({}, lr=None, trials=8, trial_seeds=3, budget=40.0)
    assert made.search_size == (4, 2)
    assert len(asked) <= 40


def test_a_budget_below_the_smallest_comparison_is_refused(
    plan: Planned, task_file: Callable[..., Path]
) -> None:
    options = plan(task_file(), "plp", trials=8, trial_seeds=3, seeds=24).options
    # 6 + 6 tuning runs and 12 final ones
    assert affordable(options, 24) == (4, 2)
    with pytest.raises(
        StudyError, match="allows 23 trainings, and the smallest comparison may take 24"
    ):
        affordable(options, 23)
    # the same with its controls: 12 more; then the whole search
    assert affordable(options, 12 + 15 + 4 * 6) == (8, 3)
    assert affordable(options, 12 + 15 + 4 * 6 - 1) == (4, 2)


def test_a_course_goes_on_as_if_it_had_never_stopped(
    plan: Planned, task_file: Callable[..., Path]
) -> None:
    planned_ = plan(task_file(), "plp", trials=4, trial_seeds=2, seeds=24, margin=0.5)
    draw = drawn({"plp": 0.004}, 0.01)
    whole, outcomes = follow(planned_, draw)
    # a second one that finds all outcomes there asks for the same and says the same
    again, _ = follow(planned_, lambda specs: {spec.key: outcomes[spec.key] for spec in specs})
    assert isinstance(whole, Course)
    assert (again.verdicts, again.taken, again.chosen) == (
        whole.verdicts,
        whole.taken,
        whole.chosen,
    )
