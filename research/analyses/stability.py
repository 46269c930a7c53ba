"""Why insertions can destabilise: predicted edges, and real runs up to and beyond them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from edge import edge, spectral_radius
from paramcast.predictors import Affine, Midline
from paramcast.study.judging.table import LR_MATCHED
from paramcast.study.judging.verdict import PERCENT
from paramcast.study.stored import ArmResult, Judged, Result
from paramcast.study.training.methods import parse_methods

from .maps import differences, mean_of, short
from .page import Page, made_by, spread

MOMENTA, HORIZONS, CYCLES = (0.0, 0.5, 0.9, 0.99), (0.5, 1.0, 1.5, 2.5), (3, 6, 12, 30)
USUAL_MOMENTUM = 0.9


def analyse(result: Result) -> Page:
    """The edge of every rule on a quadratic; learning rate times sharpness in real runs beside it;
    and the loss jump at insertions against the final result."""
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    page.say("**The edge on a quadratic**: largest stable learning rate x curvature "
             "(`edge` in research/edge.py)")  # fmt: skip
    page.table(("rule", *(f"momentum {m}" for m in MOMENTA)), _edges())
    page.figure("radius", "Spectral radius per step on a quadratic, momentum 0.9", _draw_radius)
    page.say(
        "**Real runs.** Sharpness is the largest Hessian eigenvalue of the training loss that was "
        "seen in the run; where it sits at its edge, learning rate x sharpness is the edge."
    )
    groups: dict[str, list[Judged]] = {}
    for cell in result["cells"]:
        settings = {k: v for k, v in cell["settings"].items() if k != "lr" and v is not None}
        groups.setdefault(", ".join(f"{k} {short(v)}" for k, v in settings.items()), []).append(
            cell
        )
    for label, cells in groups.items():
        page.say(f"**{label}**, n = {cells[0]['seeds']} seeds")
        page.table(
            ("lr", "method", "result", "minus base", "diverged", "lr x sharpness", "edge",
             "loss jump per insertion", "insertions that lower the loss"),
            [_row(cell, row) for cell in cells for row in cell["table"] if _has_edge(row)],
        )  # fmt: skip
    _say_jumps(page, result["cells"])
    return page


def _has_edge(row: ArmResult) -> bool:
    """Whether the row is the bare base or a predictor with fixed weights."""
    bare = row["family"] in ("base", LR_MATCHED)
    return bare or (row["role"] == "predictor" and isinstance(_predictor(row), Affine))


def _predictor(row: ArmResult) -> Any:
    return parse_methods(row["method"])[0].predictor() if row["role"] == "predictor" else None


def _edges() -> list[list[str]]:
    rows = [["no prediction", *(f"{edge(None, m):.2f}" for m in MOMENTA)]]
    for every, horizon in itertools.product(CYCLES, HORIZONS):
        predictor = Midline(every=every, horizon=horizon)
        values = (f"{edge(predictor, m):.2f}" for m in MOMENTA)
        rows.append([f"plp, every {every}, horizon {horizon:g}", *values])
    return rows


def _row(cell: Judged, row: ArmResult) -> list[str]:
    momentum = cell["settings"]["momentum"]
    at = edge(_predictor(row), USUAL_MOMENTUM if momentum is None else momentum)
    sharpness = mean_of(row, "sharpness_most")
    jump, down = (mean_of(row, n) for n in ("jump_loss", "jump_lowers_loss"))
    base = row is cell["table"][0]
    return [
        f"{row['lr']:.4g}",
        row["method"],
        f"{100 * row['mean']:.2f} %" if cell["metric"].name in PERCENT else f"{row['mean']:.4g}",
        "" if base else spread(differences(cell, row["method"])),
        str(row["diverged"] or ""),
        "" if sharpness is None else f"{(row['lr'] or 0.0) * sharpness:.3g}",
        f"{at:.2f}",
        "" if jump is None else f"{jump:+.2g}",
        "" if down is None else f"{100 * down:.0f} %",
    ]


def _say_jumps(page: Page, cells: list[Judged]) -> None:
    from scipy.stats import spearmanr

    jumps, ends = [], []
    for cell in cells:
        for row in cell["table"]:
            found = mean_of(row, "jump_loss")
            if row["role"] == "predictor" and found is not None:
                jumps.append(found)
                ends.append(float(np.mean(differences(cell, row["method"]))))
    if len(jumps) < 4:
        return
    found = spearmanr(jumps, ends)
    page.say(
        f"**The loss jump at insertions against the final result**, over {len(jumps)} cells and "
        f"methods: Spearman's correlation {found.statistic:+.2f} (p {found.pvalue:.2g}). Where an "
        f"insertion raises the training loss on average ({sum(j > 0 for j in jumps)} of them), the "
        f"median result is {_median(ends, [j > 0 for j in jumps])} against the base; where it "
        f"lowers it, {_median(ends, [j <= 0 for j in jumps])}."
    )


def _median(values: list[float], chosen: list[bool]) -> str:
    own = [v for v, take in zip(values, chosen, strict=True) if take]
    return f"{np.median(own):+.2f}" if own else "none"


def _draw_radius() -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6))
    panel = figure.subplots()
    x = np.geomspace(1e-3, 5, 400)
    rules: list[tuple[str, Affine | None, int]] = [("no prediction", None, 1)]
    rules += [(f"plp, every {k}", Midline(every=k), k) for k in CYCLES]
    for label, rule, every in rules:
        radii = [spectral_radius(rule, float(v), USUAL_MOMENTUM) ** (1 / every) for v in x]
        panel.plot(x, radii, label=label, linewidth=1.2)
    panel.axhline(1, color="gray", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_ylim(0.85, 1.3)
    panel.set_xlabel("learning rate x curvature")
    panel.set_ylabel("spectral radius per step")
    panel.legend(fontsize=8)
    return figure
