"""The method: arms, protocol, specification, and the command that repeats the comparison."""

from __future__ import annotations

import json

from ...study.words import Words
from .comparison import CONTROL, Cell
from .load import Stored


def arms(cells: list[Cell], words: Words) -> list[tuple[str, str, str]]:
    """The name, role and description of every arm."""
    found: dict[str, tuple[str, str, str]] = {}
    for arm in (arm for cell in cells for arm in cell.arms):
        role, described = words(f"role.{arm.role}"), words(f"method.{arm.row['family']}")
        found[arm.name] = (arm.name, role, described)
    return list(found.values())


def protocol(cells: list[Cell], words: Words) -> list[str]:
    """Sentences on how the comparison was made."""
    # the cells of a study may be tuned or not; the first that is stands for all
    tunings = [cell.result["specification"]["tuning"] for cell in cells]
    first = next((tuning for tuning in tunings if tuning is not None), None)
    keys = ["paired", "test", "interval", "diverged", "data"]
    # after the interval: speed, then controls
    if any(arm.role == CONTROL for cell in cells for arm in cell.arms):
        keys.insert(3, "controls")
    if any(arm.early for cell in cells for arm in cell.arms):
        keys.insert(3, "speed")
    how = words("protocol.given")
    if first is not None:
        how = words("protocol.tuned", points=first[2], seeds=first[3])
    level = f"{100 * min(cell.result['confidence'] for cell in cells):.4g}"
    return [how, *(words(f"protocol.{key}", level=level) for key in keys)]


def specification(stored: Stored) -> str:
    """The specification, as JSON."""
    if stored.kind == "pilot":
        return json.dumps(stored.result["specification"], indent=1, ensure_ascii=False)
    several = [{"comparison": i, **cell["specification"]}
               for i, cell in enumerate(stored.result["cells"], 1)]  # fmt: skip
    return "\n".join(json.dumps(one, ensure_ascii=False) for one in several)


def command(stored: Stored) -> str:
    """The command that repeats or continues the comparison."""
    if stored.kind == "pilot":
        return str(stored.result["command"])
    return f"paramcast study resume {stored.result['out']}"
