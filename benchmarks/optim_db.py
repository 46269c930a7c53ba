"""The table of torch's own optimizer test data, wrapped with PLP, as Markdown.

python benchmarks/optim_db.py > docs/optim_db.md
"""

import sys
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "torch_suite"))

from optim_cases import CHECKS, Outcome, cases, outcome, page


def worst(outcomes: list[Outcome]) -> Outcome:
    """What one case counts as: a failure of any check is a failure."""
    order = ("passed", "refused", "as bare", "failed")
    return max(outcomes, key=lambda one: order.index(one.kind))


def main() -> None:
    torch.set_num_threads(1)
    kinds: dict[str, Counter[str]] = {}
    reasons: dict[str, None] = {}
    for case in cases():
        result = worst([outcome(case, check) for check in CHECKS])
        kinds.setdefault(case.info.name, Counter())[result.kind] += 1
        if result.kind == "refused":
            reasons[result.why] = None
        if result.kind == "failed":
            print(f"{case.name}: {result.why}", file=sys.stderr)
    print(page(kinds, sorted(reasons)), end="")


if __name__ == "__main__":
    main()
