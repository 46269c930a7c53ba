"""The tables of results/online.md, from a finished `online` study, as Markdown.

    paramcast study run online --out FOLDER
    python benchmarks/online.py FOLDER

Differences are paired by seed; intervals are Student's t, 95 %.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from paramcast.study.stats import interval
from paramcast.study.studies.export import read_result

MEASURES = (
    ("forgetting", "forgetting", 100, 1),
    ("recovery", "steps to recover", 1, 1),
    ("unrecovered", "not recovered", 1, 2),
    ("level_before", "level before a drift, %", 100, 1),
    ("detection_delay", "noticed after", 1, 1),
    ("missed_drifts", "missed", 1, 2),
    ("false_alarms", "false alarms", 1, 2),
)
"""Name, heading, factor and digits."""


def signed(low_high: Any, factor: float = 100, digits: int = 2) -> str:
    mean, low, high = (factor * value for value in low_high)
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def gap(row: dict[str, Any], other: dict[str, Any]) -> str:
    pairs = zip(row["values"], other["values"], strict=True)
    return signed(interval([a - b for a, b in pairs]))


def title(cell: dict[str, Any]) -> str:
    return f"{cell['settings']['task']}, {cell['settings']['base']}"


def results(cell: dict[str, Any]) -> None:
    """A row per method: the result, and what it is minus the base and minus lr x G."""
    base, rows = cell["table"][0], {row["method"]: row for row in cell["table"]}
    for name, row in rows.items():
        if "lr-matched" in name:
            continue
        matched = rows.get(f"{base['method']}-lr-matched of {name}") or rows.get(
            f"{base['method']}-lr-matched"
        )
        verdict = cell["verdicts"].get(name, {}).get("quality", {}).get("kind", "")
        words = [
            title(cell),
            name,
            f"{row['lr']:.4f}",
            f"{100 * row['mean']:.2f}",
            "" if row is base else gap(row, base),
            gap(row, matched) if name in cell["verdicts"] and matched else "",
            verdict + (f", {row['diverged']} diverged" if row["diverged"] else ""),
        ]
        print(f"| {' | '.join(words)} |")


def resets(cell: dict[str, Any]) -> None:
    """What restarting the cycle changes: each reacting predictor minus the same without."""
    rows = {row["method"]: row for row in cell["table"]}
    for name, row in rows.items():
        plain = rows.get(name.partition("(on_drift")[0])
        if plain is not None and plain is not row and "lr-matched" not in name:
            same = "the same" if row["lr"] == plain["lr"] else f"{row['lr']:.4f}"
            print(f"| {title(cell)} | {name} | {same} | {gap(row, plain)} |")


def measures(cell: dict[str, Any]) -> None:
    """The other measures of each method, and of the judged ones the difference to the base."""
    for row in cell["table"]:
        if "lr-matched" in row["method"]:
            continue
        words = [title(cell), row["method"]]
        for name, _, factor, digits in MEASURES:
            found = row["measures"].get(name)
            text = "" if found is None else f"{factor * found['mean']:.{digits}f}"
            if found and name in ("forgetting", "recovery") and row["to_base"]:
                differences = (found["to_base"][key] for key in ("mean", "low", "high"))
                text += f"; {signed(differences, factor, digits)}"
            words.append(text)
        print(f"| {' | '.join(words)} |")


def main(folder: str) -> None:
    result = read_result(Path(folder))
    print("| cell | method | lr | result, % | minus the base | minus lr x G | verdict |")
    print("|---|---|---|---|---|---|---|")
    for cell in result["cells"]:
        results(cell)
    print("\n| cell | method | lr | minus the same without |\n|---|---|---|---|")
    for cell in result["cells"]:
        resets(cell)
    print(f"\n| cell | method | {' | '.join(heading for _, heading, _, _ in MEASURES)} |")
    print(f"|{'---|' * (2 + len(MEASURES))}")
    for cell in result["cells"]:
        measures(cell)
    where = result["environment"]
    print(
        f"\n{result['cells'][0]['seeds']} seeds; {where['cpus']} cores ({where['cpu']}), one "
        f"thread per run, torch {where['torch']}, Python {where['python']}, paramcast "
        f"{where['paramcast']}; {result['wall_seconds']:.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1])
