"""The synergy of PLP with other bases, from a finished `hybrids` study, as a Markdown table.

    paramcast study run hybrids --out FOLDER
    python benchmarks/synergy.py FOLDER

Synergy of X = (PLP over X - X) - (PLP over SGD - SGD), paired by seed, with 95 % t intervals.
"""

from __future__ import annotations

import sys
from pathlib import Path

from paramcast.study.stats import interval
from paramcast.study.studies.export import read_result


def gaps(cell: dict, other: int) -> list[float]:
    """PLP minus another row of the table, in points, by seed."""
    rows = {row["method"]: row["values"] for row in cell["table"]}
    pairs = zip(rows["plp"], list(rows.values())[other], strict=True)
    return [100 * (a - b) for a, b in pairs]


def text(differences: list[float]) -> str:
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(*interval(differences))


def main(folder: str) -> None:
    result = read_result(Path(folder))
    cells = {cell["settings"]["base"]: cell for cell in result["cells"]}
    base, matched = 0, 1  # rows of each table
    print("| base X | X, % | PLP over X, minus X | minus X at lr x G | synergy | verdict |")
    print("|---|---|---|---|---|---|")
    for name, cell in cells.items():
        own = gaps(cell, base)
        synergy = [a - b for a, b in zip(own, gaps(cells["sgd"], base), strict=True)]
        verdict = cell["verdicts"]["plp"]["quality"]["kind"]
        print(
            f"| {name} | {100 * cell['table'][base]['mean']:.2f} | {text(own)} | "
            f"{text(gaps(cell, matched))} | {'' if name == 'sgd' else text(synergy)} | {verdict} |"
        )
    where = result["environment"]
    print(
        f"\n{cells['sgd']['seeds']} seeds; {where['cpus']} cores ({where['cpu']}), one thread per "
        f"run, torch {where['torch']}, Python {where['python']}, paramcast {where['paramcast']}"
    )


if __name__ == "__main__":
    main(sys.argv[1])
