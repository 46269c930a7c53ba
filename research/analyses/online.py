"""What restarting a method at drift changes, and what the streams measured."""

from __future__ import annotations

from paramcast.errors import StudyError
from paramcast.study.stored import ArmResult, Judged, Result
from paramcast.study.training.methods import ON_DRIFT, parse_methods

from .maps import differences, rows_of, short
from .page import Page, spread

MEASURES = (
    ("forgetting", "forgetting, points", 100, 1),
    ("recovery", "steps to recover", 1, 1),
    ("unrecovered", "not recovered", 1, 2),
    ("level_before", "level before a drift, %", 100, 1),
    ("detection_delay", "noticed after", 1, 1),
    ("missed_drifts", "missed", 1, 2),
    ("false_alarms", "false alarms", 1, 2),
)
"""Name, heading, factor and digits."""
COMPARED = ("forgetting", "recovery")


def analyse(result: Result) -> Page:
    """Two tables: each reacting method minus the same without; measures, two of them compared.

    Raises:
        StudyError: the study has no streams.
    """
    page, cells = Page(), result["cells"]
    if not any("recovery" in row["measures"] for cell in cells for row in cell["table"]):
        raise StudyError("online needs tasks with a stream, such as digits-drift; there are none")
    page.say("What a restart at drift changes: minus the same method without it (for state-reset, "
             "the base), paired by seed, in points, 95 % intervals")  # fmt: skip
    page.table(
        ("task", "base", "method", "lr", "its lr without", "minus without"),
        [row for cell in cells for row in _restarts(cell)],
    )
    page.say("What was measured: means; where there is a bracket, the paired difference to the "
             "base with its 95 % interval")  # fmt: skip
    page.table(
        ("task", "base", "method", *(heading for _, heading, _, _ in MEASURES)),
        [row for cell in cells for row in _measured(cell)],
    )
    return page


def without_reaction(label: str) -> str | None:
    """The same method without its reaction to drift; "" for the base, None if it has none.

    Example:
        >>> without_reaction("plp(horizon=0.5, on_drift='reset')")
        'plp(horizon=0.5)'
    """
    (method,) = parse_methods(label)
    if not method.on_drift:
        return None
    if method.name == "state-reset":
        return ""
    return type(method)(method.name, tuple(k for k in method.knobs if k[0] != ON_DRIFT)).label


def _restarts(cell: Judged) -> list[list[str]]:
    rows, found = rows_of(cell), []
    base = cell["table"][0]["method"]
    for name in _methods(cell):
        plain = without_reaction(name)
        plain = base if plain == "" else plain
        if plain in rows:
            gap = spread(differences(cell, name, plain))
            rates = (short(rows[name]["lr"]), short(rows[plain]["lr"]))
            found.append([*_where(cell), name, *rates, gap])
    return found


def _measured(cell: Judged) -> list[list[str]]:
    rows = rows_of(cell)
    return [
        [*_where(cell), name, *(_measure(rows[name], *measure) for measure in MEASURES)]
        for name in (cell["table"][0]["method"], *_methods(cell))
    ]


def _measure(row: ArmResult, name: str, heading: str, factor: float, digits: int) -> str:
    found = row["measures"].get(name)
    if found is None or found["mean"] is None:
        return ""
    text = f"{factor * found['mean']:.{digits}f}"
    if name not in COMPARED or found["to_base"] is None or row["to_base"] is None:
        return text
    mean, low, high = (factor * found["to_base"][key] for key in ("mean", "low", "high"))
    return f"{text} [{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})]"


def _methods(cell: Judged) -> list[str]:
    """The methods that the study named: no base, no controls made from a predictor."""
    return [r["method"] for r in cell["table"][1:] if not r["control_of"]]


def _where(cell: Judged) -> tuple[str, str]:
    return cell["settings"]["task"], cell["settings"]["base"]
