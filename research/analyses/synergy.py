"""Whether PLP adds more to another base than to SGD."""

from __future__ import annotations

from paramcast.errors import StudyError
from paramcast.study.stored import Judged, Result

from .maps import differences, matched_of
from .page import Page, made_by, spread


def analyse(result: Result) -> Page:
    """Synergy of X = (PLP over X - X) - (PLP over SGD - SGD), paired by seed, per task.

    Raises:
        StudyError: a task without a cell of base sgd, or several cells of one task and base.
    """
    page = Page([f"{result['question']}\n\n{made_by(result)}"])
    for task in dict.fromkeys(cell["settings"]["task"] for cell in result["cells"]):
        cells: dict[str, Judged] = {}
        for cell in result["cells"]:
            if cell["settings"]["task"] == task:
                if cell["settings"]["base"] in cells:
                    raise StudyError("synergy needs one cell per task and base, there are several")
                cells[cell["settings"]["base"]] = cell
        if "sgd" not in cells:
            raise StudyError(f"synergy needs a cell of base sgd, task {task} has none")
        page.say(f"**{task}**, n = {cells['sgd']['seeds']} seeds, points, 95 % intervals")
        page.table(
            ("base X", "X", "PLP over X, minus X", "minus X at lr x G", "synergy", "verdict"),
            [_row(name, cell, cells["sgd"]) for name, cell in cells.items()],
        )
    return page


def _row(name: str, cell: Judged, sgd: Judged) -> list[str]:
    own, reference = differences(cell, "plp"), differences(sgd, "plp")
    synergy = [a - b for a, b in zip(own, reference, strict=True)]
    return [
        name,
        f"{100 * cell['table'][0]['mean']:.2f}",
        spread(own),
        spread(differences(cell, "plp", matched_of(cell, "plp"))),
        "" if cell is sgd else spread(synergy),
        cell["verdicts"]["plp"]["quality"].kind,
    ]
