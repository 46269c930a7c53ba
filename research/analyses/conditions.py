"""When does predicting help? Straightness of the base's path against what PLP gains."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from paramcast.errors import StudyError
from paramcast.study.judging.stats import interval
from paramcast.study.stored import Judged, Result

from .maps import differences, matched_of, mean_of
from .page import Page, made_by

METHOD = "plp"


class Data(NamedTuple):
    """One row per cell.

    Attributes:
        names, features: what one run of the base shows, (cells, features).
        gain, matched, excess: PLP - base, base at lr x G - base, and their difference.
        clear: 1 where the interval of the gain lies above 0, -1 below, 0 neither.
        groups: the data set of each cell.
    """

    names: list[str]
    features: np.ndarray
    gain: np.ndarray
    matched: np.ndarray
    excess: np.ndarray
    clear: np.ndarray
    groups: np.ndarray


class Rule(NamedTuple):
    """PLP helps where the feature is above (or below) a threshold."""

    feature: str
    above: bool
    threshold: float

    def __str__(self) -> str:
        return f"{self.feature} {'>' if self.above else '<='} {self.threshold:.3g}"


def analyse(result: Result) -> Page:
    """Correlations, a rule of one threshold validated on left-out data sets, and the larger step.

    Raises:
        StudyError: fewer than 8 cells, runs without the probe "linearity", or one data set only.
    """
    data = gather(result["cells"])
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    total, helps, hurts = len(data.gain), int((data.clear > 0).sum()), int((data.clear < 0).sum())
    page.say(
        f"{total} cells, {result['cells'][0]['seeds']} seeds each. PLP - base is clearly above 0 "
        f"(95 % interval) in {helps}, clearly below in {hurts}, neither in {total - helps - hurts}."
    )
    page.say(
        "**How straight the base's path is**: mean over cells, in brackets how many have windows "
        "that long; whole run and its quarters"
    )
    page.table(("measure", "whole run", "1st", "2nd", "3rd", "4th"), _phases(result["cells"]))
    page.say("**By layer** (base, whole run, mean over the task's cells)")
    page.table(("task", "parameter", "R^2 over 10 steps", "R^2 over 30", "cosine over 10"),
               _layers(result["cells"]))  # fmt: skip
    page.say("**Spearman's correlation over cells** with PLP's gain and with PLP minus lr x G")
    page.table(("measure of the base", "with the gain", "with the excess over lr x G"),
               _correlations(data))  # fmt: skip
    _say_rules(page, data)
    _say_larger_step(page, data)
    page.figure("gain", "PLP's gain against straightness, and against the larger step's gain",
                lambda: _draw(data))  # fmt: skip
    return page


def gather(cells: list[Judged]) -> Data:
    """The cells that have the method, its control, and the base's straightness."""
    usable = [c for c in cells if METHOD in c["verdicts"] and matched_of(c, METHOD)]
    features = [_features(cell) for cell in usable]
    names = [n for n in (features[0] if features else {}) if all(n in f for f in features)]
    groups = np.array([re.split(r"[/@]", c["settings"]["task"])[0] for c in usable])
    if len(usable) < 8 or not names or len(set(groups)) < 2:
        raise StudyError(
            "conditions needs at least 8 cells of two data sets with method plp and "
            'probes = ["linearity"]'
        )
    gain = [differences(cell, METHOD) for cell in usable]
    matched = [differences(cell, str(matched_of(cell, METHOD))) for cell in usable]
    bounds = [interval(values) for values in gain]
    return Data(
        names,
        np.array([[f[name] for name in names] for f in features]),
        np.array([mean for mean, _, _ in bounds]),
        np.array([interval(values)[0] for values in matched]),
        np.array([interval(a)[0] - interval(b)[0] for a, b in zip(gain, matched, strict=True)]),
        np.array([int(low > 0) - int(high < 0) for _, low, high in bounds]),
        groups,
    )


def _features(cell: Judged) -> dict[str, float]:
    found = cell["table"][0]["measures"]
    return {
        n: v["mean"]
        for n, v in found.items()
        if v["mean"] is not None and ":" not in n and re.search(r"_\d+(@4)?$", n)
    }


def fit(features: np.ndarray, helps: np.ndarray, names: list[str]) -> Rule | None:
    """The one threshold with the fewest errors; None where all cells are of one kind."""
    from sklearn.tree import DecisionTreeClassifier

    if len(set(helps.tolist())) < 2:
        return None
    tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(features, helps)
    if tree.tree_.node_count == 1:
        return None
    left, right = tree.tree_.value[1][0], tree.tree_.value[2][0]
    column = int(tree.tree_.feature[0])
    above = bool(right[1] / right.sum() > left[1] / left.sum())
    return Rule(names[column], above, float(tree.tree_.threshold[0]))


def apply(rule: Rule | None, features: np.ndarray, names: list[str], most: bool) -> np.ndarray:
    """Which cells the rule says are helped; without a rule all are what most are."""
    if rule is None:
        return np.full(len(features), most)
    above = features[:, names.index(rule.feature)] > rule.threshold
    return above if rule.above else ~above


def left_out(data: Data, helps: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Rules fitted without each data set, and the errors there of rule and of majority."""
    rules, wrong, majority = [], [], []
    for group in sorted(set(data.groups)):
        test = data.groups == group
        most = bool(helps[~test].mean() > 0.5)
        rule = fit(data.features[~test], helps[~test], data.names)
        rules.append(f"without {group}: {rule or 'no rule'}")
        wrong.append(apply(rule, data.features[test], data.names, most) != helps[test])
        majority.append(helps[test] != most)
    return rules, np.concatenate(wrong), np.concatenate(majority)


def _say_rules(page: Page, data: Data) -> None:
    page.say("**A rule of thumb: does it help?** One threshold on one measure of a run without PLP")
    rows = []
    for question, helps in (
        ("PLP clearly above the base", data.clear > 0),
        ("PLP clearly below the base", data.clear < 0),
        ("PLP above the base at lr x G (mean)", data.excess > 0),
    ):
        rule = fit(data.features, helps, data.names)
        most = bool(helps.mean() > 0.5)
        inside = apply(rule, data.features, data.names, most) != helps
        rules, wrong, majority = left_out(data, helps)
        rows.append([question, str(rule or "no rule"), _rate(inside), _rate(wrong),
                     _rate(majority), "; ".join(rules)])  # fmt: skip
    page.table(("question", "rule, fitted on all", "errors where fitted", "errors on left-out data",
                "errors of the most frequent answer", "rules fitted without"), rows)  # fmt: skip


def _say_larger_step(page: Page, data: Data) -> None:
    from scipy import stats

    line = stats.linregress(data.matched, data.gain)
    half = stats.t.ppf(0.975, len(data.gain) - 2) * line.stderr
    spread = np.abs(data.gain - data.gain.mean()).mean()
    page.say(
        "**The larger step predicts it better than any straightness:** PLP's gain = "
        f"{line.intercept:+.2f} + {line.slope:.2f} (+-{half:.2f}) x the gain of lr x G, "
        f"R^2 = {line.rvalue**2:.2f} over {len(data.gain)} cells; the mean distance of PLP's gain "
        f"from that of lr x G is {np.abs(data.excess).mean():.2f}, from its own mean {spread:.2f}."
    )


def _rate(wrong: np.ndarray) -> str:
    from scipy.stats import binomtest

    found = binomtest(int(wrong.sum()), len(wrong)).proportion_ci(method="wilson")
    share = 100 * wrong.mean()
    return f"{share:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _phases(cells: list[Judged]) -> list[list[str]]:
    names = [f"{kind}_{w}" for kind in ("r2", "cosine") for w in (3, 10, 30, 100, 300)]
    rows = [
        [name, *(_mean(cells, f"{name}{part}") for part in ("", "@1", "@2", "@3", "@4"))]
        for name in names
    ]
    return [row for row in rows if any(row[1:])]


def _mean(cells: list[Judged], name: str) -> str:
    found = [mean_of(c["table"][0], name) for c in cells]
    known = [value for value in found if value is not None]
    return f"{np.mean(known):.3f} ({len(known)})" if known else ""


def _layers(cells: list[Judged]) -> list[list[str]]:
    rows = []
    for task in dict.fromkeys(cell["settings"]["task"] for cell in cells):
        own = [cell for cell in cells if cell["settings"]["task"] == task]
        layers = [n.partition(":")[2] for n in own[0]["table"][0]["measures"] if "r2_10:" in n]
        for layer in layers:
            values = [_mean(own, f"{name}:{layer}") for name in ("r2_10", "r2_30", "cosine_10")]
            rows.append([task, layer, *values])
    return rows


def _correlations(data: Data) -> list[list[str]]:
    from scipy.stats import spearmanr

    rows = []
    for name, column in zip(data.names, data.features.T, strict=True):
        texts = []
        for target in (data.gain, data.excess):
            if np.ptp(column) == 0 or np.ptp(target) == 0:
                texts.append("constant")
                continue
            found = spearmanr(column, target)
            texts.append(f"{found.statistic:+.2f} (p {found.pvalue:.2g})")
        rows.append([name, *texts])
    return rows


def _draw(data: Data) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8))
    left, right = figure.subplots(1, 2)
    name = "cosine_10" if "cosine_10" in data.names else data.names[0]
    for group, marker in zip(sorted(set(data.groups)), "osv^D*", strict=False):
        own = data.groups == group
        straight = data.features[own, data.names.index(name)]
        left.plot(straight, data.gain[own], marker, label=group, alpha=0.7)
        right.plot(data.matched[own], data.gain[own], marker, label=group, alpha=0.7)
    low, high = min(data.matched.min(), data.gain.min()), max(data.matched.max(), data.gain.max())
    right.plot([low, high], [low, high], "-", color="gray", linewidth=1)
    left.set_xlabel(f"{name} of the base's path")
    right.set_xlabel("gain of the base at lr x G, points")
    for panel in (left, right):
        panel.axhline(0, color="gray", linewidth=0.5)
        panel.set_ylabel("gain of PLP, points")
        panel.set_yscale("symlog", linthresh=1)
        panel.legend(fontsize=8)
    right.set_xscale("symlog", linthresh=1)
    figure.tight_layout()
    return figure
