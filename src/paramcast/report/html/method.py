"""The method: arms, protocol and specification."""

from __future__ import annotations

import json

from ...study.judging.table import CONTROL
from ...study.words import Words
from .comparison import Cell, bases
from .load import Stored


def arms(cells: list[Cell], words: Words) -> list[tuple[str, str, str]]:
    """The name, role and description of every arm."""
    found: dict[str, tuple[str, str, str]] = {}
    for arm in (arm for cell in cells for arm in cell.arms):
        role = words(f"role.{arm.role}")
        described = words.either(f"method.{arm.row['family']}", "")  # a table may name anything
        found[arm.name] = (arm.name, role, described)
    return list(found.values())


def protocol(cells: list[Cell], words: Words) -> list[str]:
    """Sentences on how the comparison was made."""
    # the cells of a study may be tuned or not; the first that is stands for all
    tunings = [cell.result["learning_rates"] for cell in cells]
    first = next(((len(t["tried"]), t["seeds"]) for t in tunings if t["tried"]), None)
    longest = max((cell.result["looks"] for cell in cells), key=len)
    own = "_own" * (cells[0].made == "_own")
    keys = [f"paired{own}", f"test{own}", "looks", "interval", "diverged"]
    if cells[0].result["question"] == "table":
        pairs = "table_paired" if cells[0].metric.paired else "table_unpaired"
        keys = ["table", pairs, "interval", "table_diverged"]
    # after the interval: speed, controls, and what ran
    if cells[0].result["lazy"] and keys[0] != "table":
        keys.insert(4, "lazy")
    if any(arm.role == CONTROL for cell in cells for arm in cell.arms):
        keys.insert(4, "controls")
    if any(arm.early for cell in cells for arm in cell.arms):
        keys.insert(4, "speed")
    how, base = words("protocol.given"), bases(cells, words)
    if first is not None:
        how = words(f"protocol.tuned{own}", points=first[0], seeds=first[1], base=base)
    # n seeds and the level of the intervals, look by look
    looks = words("page.comma").join(
        words(
            "protocol.look", seeds=f"{look['seeds']:.0f}", level=f"{100 * look['confidence']:.4g}"
        )
        for look in longest
    )
    said = [words(f"protocol.{key}", looks=looks, base=base) for key in keys]
    if keys[0] == "table":
        return [*said, words("note.data")]
    return [how, *said, words(f"note.data{own}")]


def specification(stored: Stored) -> str:
    """The specification, as JSON."""
    cells = stored.result["cells"]
    if stored.kind != "study":
        return json.dumps(cells[0]["specification"], indent=1, ensure_ascii=False)
    several = [{"comparison": i, **cell["specification"]} for i, cell in enumerate(cells, 1)]
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in several)
