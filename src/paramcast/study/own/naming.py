"""The base of a user's training by the name of its optimizer, which its runs have told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..judging.table import BASE, LR_MATCHED
from ..judging.verdict import Verdict
from ..stored import Judged

UNTOLD = ("", "GradientTransformation", "GradientTransformationExtraArgs")
"""Names that say nothing: of a command without `trial.wrap`, and of any optax transformation."""


def with_base(judged: Judged, optimizer: str) -> Judged:
    """The result with the optimizer's name, such as AdamW, for the arm that is called "base".

    Args:
        judged: a comparison whose base may have no name of its own.
        optimizer: the class of what the training gave to `trial.wrap`; "" if it gave nothing.
    """
    # an arm of that name would be confused with it
    known = {row["method"] for row in judged["table"]}
    if judged["table"][0]["method"] != BASE or optimizer in UNTOLD or optimizer in known:
        return judged

    def named(arm: str) -> str:
        of_base = arm == BASE or arm.startswith(f"{BASE}-{LR_MATCHED}")
        return optimizer + arm.removeprefix(BASE) if of_base else arm

    def facts(of: dict[str, Any]) -> dict[str, Any]:
        lists = {key: [*map(named, of[key])] for key in ("arms", "controls") if key in of}
        counts = {"by_arm": {named(arm): n for arm, n in of.get("by_arm", {}).items()}}
        return of | lists | (counts if "by_arm" in of else {})

    def verdict(v: Verdict) -> Verdict:
        pairs = tuple(replace(pair, a=named(pair.a), b=named(pair.b)) for pair in v.comparisons)
        return replace(
            v, base=named(v.base), control=named(v.control), facts=facts(v.facts),
            comparisons=pairs,
        )  # fmt: skip

    return {
        **judged,
        "table": [{**row, "method": named(row["method"])} for row in judged["table"]],
        "verdicts": {
            method: {question: verdict(v) for question, v in answers.items()}
            for method, answers in judged["verdicts"].items()
        },
        "notes": [facts(note) for note in judged["notes"]],
    }
