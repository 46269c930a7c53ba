"""What a comparison cannot show, known before anything is trained."""

from __future__ import annotations

from ..plan import Plan
from ..stored import Note
from .margin import POINTS_MARGIN, RELATIVE_MARGIN
from .verdict import PERCENT

UNEVEN_FROM = 0.9
"""From this accuracy of a constant prediction, accuracy says little."""


def cautions(plan: Plan) -> list[Note]:
    """Notes on what the test split cannot show, and on a metric that suits it better."""
    subject, o = plan.subject, plan.options
    name, found = subject.metric_name, []
    share = subject.example_share / plan.pooled
    # the margin in the unit of `share`; not known if given in the unit of a mean
    margin: float | None
    if o.margin is None:
        margin = POINTS_MARGIN if name in PERCENT else RELATIVE_MARGIN
    else:
        margin = o.margin / 100 if o.relative_margin or name in PERCENT else None
    relative = o.relative_margin or name not in PERCENT
    # half an example, the least width of an interval, is not less than the margin
    if margin is not None and share / 2 >= margin:
        ready = o.splits or "images_splits" in subject.description  # or the folders are the splits
        splits = o.source.kind in ("table", "images") and not ready
        facts = {"n": subject.sizes.test, "share": share, "margin": margin, "relative": relative}
        found.append({"note": "coarse_splits", **facts, "splits": 12} if splits
                     else {"note": "coarse", **facts})  # fmt: skip
    # almost all examples are of one class
    constant = subject.constant_value if name == "accuracy" else None
    if constant is not None and constant >= UNEVEN_FROM:
        found.append({"note": "uneven", "constant": constant})
    # a training of the user's that is judged by what chose its learning rates
    chooses = subject.description.get("own_tunes", {}).get("tune_by")
    if o.tuned and chooses and chooses == subject.description["own_results"]["metric"]:
        found.append({"note": "judged_tunes", "metric": chooses})
    return found
