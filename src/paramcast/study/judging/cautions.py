"""What can be said of a comparison before anything is trained: whether it can be judged at all."""

from __future__ import annotations

from ..plan import Plan
from ..stored import Note
from ..tasks.task import Prepared
from .verdict import PERCENT

POINTS_MARGIN, RELATIVE_MARGIN = 0.005, 0.05
"""The usual margin: half a point of a metric in per cent, 5 % of the base's median of any other."""
UNEVEN_FROM = 0.9
"""The accuracy of a constant prediction from which accuracy says little."""


def example_share(prepared: Prepared) -> float:
    """What one test example is worth: of a metric in per cent as such, of a mean as a share of it.

    A balanced accuracy gives every class the same weight, so that an example of the rarest weighs
    most. 0 for a ranking and for a user's function, of which it is not known.
    """
    targets, metric = prepared.test.targets, prepared.task.metric
    if metric == "accuracy":
        return 1.0 / targets.numel()
    if metric in ("balanced_accuracy", "f1"):
        counts = targets.flatten().bincount()
        counts = counts[counts > 0]
        return 1.0 / (len(counts) * int(counts.min()))
    if metric in ("log_loss", "mse", "rmse", "mae", "r2"):
        return 1.0 / len(prepared.test)
    return 0.0


def cautions(plan: Plan) -> list[Note]:
    """What the test split cannot show, and a metric that suits it better; a note each."""
    prepared, o = plan.prepared, plan.options
    name, test, found = prepared.metric_name, prepared.test, []
    share = example_share(prepared) / plan.pooled
    margin: float | None
    if o.margin is None:
        margin = POINTS_MARGIN if name in PERCENT else RELATIVE_MARGIN
    else:
        margin = o.margin / 100 if o.relative_margin or name in PERCENT else None
    relative = o.relative_margin or name not in PERCENT
    if margin is not None and share / 2 > margin:
        splits = o.source.kind in ("table", "images") and not o.splits
        facts = {"n": len(test), "share": share, "margin": margin, "relative": relative}
        found.append({"note": "coarse_splits", **facts, "splits": 12} if splits
                     else {"note": "coarse", **facts})  # fmt: skip
    constant = prepared.constant(test)["metric"] if name == "accuracy" else 0.0
    if constant >= UNEVEN_FROM:
        found.append({"note": "uneven", "constant": constant})
    return found
