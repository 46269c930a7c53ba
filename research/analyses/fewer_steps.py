"""Whether a method with fewer steps ends as well as the best base with all of them."""

from __future__ import annotations

import re
import statistics

from paramcast.errors import StudyError
from paramcast.study.judging.looks import planned
from paramcast.study.judging.stats import compare
from paramcast.study.judging.verdict import PERCENT
from paramcast.study.stored import ArmResult, Judged, Result

from .maps import points, short
from .page import Page, made_by, spread

Cells = list[Judged]
HEADER = ("steps", "method", "schedule", "lr", "minus the base at T", "relation")


def analyse(result: Result) -> Page:
    """Each task's arms at T' steps against its base at T, and the first method against the others.

    Of each task, T is the length of the longest cells, and the base of the first of them is the one
    to beat; all other cells have T' steps. With v_s the value of an arm at seed s, plus = better:

        margin         m = (mean of the base at T - mean of the base at T') / 2
        to the base    v_s(arm at T') - v_s(base at T), and its relation within m
        standardised   z_s = mean over tasks of (v_s(first) - v_s(other)) / sd of the base at T

    with 95 % t intervals over the seeds (of the bar, those of its look in the first table). The
    base at T' has the schedule of the base at T. "First" is the first predictor of the study, or
    its first average if it has none; it must beat all other arms in the mean over tasks.

    Raises:
        StudyError: a task without shorter cells of one length, or without the base's schedule among
            them; no judged method.
    """
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    for note in result["notes"]:
        page.say(note)
    looks = result["name"].startswith("bar-judge")
    names = list(dict.fromkeys(cell["settings"]["task"] for cell in result["cells"]))
    tasks = {
        name: _Task(
            [cell for cell in result["cells"] if cell["settings"]["task"] == name],
            name,
            looks=looks,
        )
        for name in names
    }
    for name, task in tasks.items():
        page.say(task.heading(name))
        page.table((*HEADER[:4], task.metric.name, *HEADER[4:]), task.rows())
    judged = [name for cell in result["cells"] for name in cell["verdicts"]]
    if not judged:
        raise StudyError("fewer-steps needs a predictor or an average among the methods")
    rows = (row for cell in result["cells"] for row in cell["table"])
    first = next((row["method"] for row in rows if row["role"] == "predictor"), judged[0])
    page.say(
        f"**{first} minus each other arm at T'**, in standard deviations of the base at T, mean "
        f"over {len(tasks)} tasks, 95 % intervals over seeds"
    )
    page.table(("other arm", *tasks, "mean over tasks", "relation"), _against(first, tasks))
    return page


class _Task:
    """A task's cells: the longest ones, and those with fewer steps."""

    def __init__(self, cells: Cells, name: str, *, looks: bool = False) -> None:
        most = max(cell["settings"]["epochs"] for cell in cells)
        self.longest = [cell for cell in cells if cell["settings"]["epochs"] == most]
        self.short = [cell for cell in cells if cell["settings"]["epochs"] < most]
        fewer = sorted({cell["settings"]["epochs"] for cell in self.short})
        if len(fewer) != 1:
            raise StudyError(
                "fewer-steps needs, of each task, cells of T epochs and others of one lower "
                f"number; task {name} has cells of {', '.join(map(str, [most, *fewer]))}"
            )
        self.long = self.longest[0]
        self.metric = self.long["metric"]
        self.base: str = self.long["table"][0]["method"]
        self.to_beat = self._better(self.long["table"][0])
        self.arms: dict[tuple[str, str], list[float]] = {}  # by method and schedule
        own = self.long["settings"]["schedule"]
        for cell in self.short:
            schedule = cell["settings"]["schedule"]
            for row in cell["table"]:
                values = self._better(row)
                for known in (schedule, OWN) if schedule == own else (schedule,):
                    self.arms[self._anonymous(row["method"], cell), known] = values
        if (BASE, OWN) not in self.arms:
            raise StudyError(
                f"fewer-steps needs the base's own schedule, {own}, among the shorter cells of "
                f"task {name}"
            )
        self.margin = (statistics.mean(self.to_beat) - statistics.mean(self.arms[BASE, OWN])) / 2
        self.sd = statistics.stdev(self.to_beat)
        self.level = LEVELS.get(len(self.to_beat), 0.95) if looks else 0.95

    def _better(self, row: ArmResult) -> list[float]:
        """Values by seed, in points."""
        return [points(self.metric) * value for value in row["values"]]

    def _anonymous(self, method: str, cell: Judged) -> str:
        """The name that a method has whatever the base is called; over another base, with its name.

        Knobs that a task sets, such as its weight decay, are left out.
        """
        base = cell["table"][0]["method"]
        method = re.sub(r", (beta2|weight_decay)=[0-9.e-]+", "", method)
        if base != self.base:
            return method if method.startswith(base) else f"{method} over {base}"
        return BASE + method[len(base) :] if method.startswith(base) else method

    def heading(self, name: str) -> str:
        t, fewer = self.long["settings"], self.short[0]["settings"]["epochs"]
        return (
            f"**{name}**, base {self.base} ({t['schedule']}), batch size {t['batch_size']}, "
            f"T = {t['epochs']} epochs, T' = {fewer}, n = {len(self.to_beat)} seeds, "
            f"margin {self.margin:.2f}"
        )

    def rows(self) -> list[list[str]]:
        return [
            self._row(steps, cell, row)
            for steps, cells in (("T", self.longest), ("T'", self.short))
            for cell in cells
            for row in cell["table"]
        ]

    def _row(self, steps: str, cell: Judged, row: ArmResult) -> list[str]:
        schedule, over = cell["settings"]["schedule"], cell["table"][0]["method"]
        own = over == self.base or row["method"].startswith(over)
        name = row["method"] if own else f"{row['method']} over {over}"
        values = self._better(row)
        percent = self.metric.name in PERCENT
        value = f"{100 * row['mean']:.2f}" if percent else f"{row['mean']:.5g}"
        diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        cells = [steps, name, schedule, short(row["lr"]), value + diverged]
        if row is self.long["table"][0]:
            return [*cells, "", ""]
        differences = [a - b for a, b in zip(values, self.to_beat, strict=True)]
        relation = _relation(differences, self.margin, self.level)
        return [*cells, spread(differences, level=self.level), relation]


BASE, OWN = "base", "the base's schedule"
LEVELS = {look.seeds: look.confidence for look in planned(24)}
"""Of the intervals of a study that is looked at after 6, 12 and 24 seeds."""
NOTHING = 1e-12
"""A margin within which no difference lies."""


def _relation(differences: list[float], margin: float = 0.0, level: float = 0.95) -> str:
    least = max(margin, NOTHING)
    return compare(differences, least, confidence=level, cross_check=False).relation


def _against(first: str, tasks: dict[str, _Task]) -> list[list[str]]:
    """The first method minus each arm that all tasks have, standardised."""
    every = list(tasks.values())
    rows = []
    for other in every[0].arms:
        if other[0] == first or not all(other in task.arms for task in every):
            continue
        own = (other[0], OWN)
        if other != own and all(task.arms.get(own) is task.arms[other] for task in every):
            continue  # on every task this schedule is the base's own, and the arm has its row
        by_task = [_standardised(task, first, other) for task in every]
        mean = [statistics.mean(at_seed) for at_seed in zip(*by_task, strict=True)]
        means = [f"{statistics.mean(values):+.2f}" for values in by_task]
        rows.append([", ".join(other), *means, spread(mean), _relation(mean)])
    return rows


def _standardised(task: _Task, first: str, other: tuple[str, str]) -> list[float]:
    mine = next(values for (method, _), values in task.arms.items() if method == first)
    return [(a - b) / task.sd for a, b in zip(mine, task.arms[other], strict=True)]
