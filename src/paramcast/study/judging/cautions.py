"""What a comparison cannot show, known before anything is trained."""

from __future__ import annotations

from ..plan import Plan
from ..stored import Note
from ..tasks.task import Prepared
from .verdict import PERCENT

POINTS_MARGIN, RELATIVE_MARGIN = 0.005, 0.05
"""The default margin: half a point of a metric in per cent, 5 % of the base's median of others."""
UNEVEN_FROM = 0.9
"""From this accuracy of a constant prediction, accuracy says little."""


def example_share(prepared: Prepared) -> float:
    """What one test example is worth: in the metric's own unit if in per cent, of a mean its share.

    0 for a ranking and for a user's function, where this is not known.
    """
    targets, metric = prepared.test.targets, prepared.task.metric
    if metric == "accuracy":
        return 1.0 / targets.numel()
    if metric in ("balanced_accuracy", "f1"):
        counts = targets.flatten().bincount()
        counts = counts[counts > 0]  # all classes weigh the same: the rarest one's examples most
        return 1.0 / (len(counts) * int(counts.min()))
    if metric in ("log_loss", "mse", "rmse", "mae", "r2"):
        return 1.0 / len(prepared.test)
    return 0.0


def cautions(plan: Plan) -> list[Note]:
    """Notes on what the test split cannot show, and on a metric that suits it better."""
    prepared, o = plan.prepared, plan.options
    name, test, found = prepared.metric_name, prepared.test, []
    share = example_share(prepared) / plan.pooled
    # the margin in the unit of `share`; not known if given in the unit of a mean
    margin: float | None
    if o.margin is None:
        margin = POINTS_MARGIN if name in PERCENT else RELATIVE_MARGIN
    else:
        margin = o.margin / 100 if o.relative_margin or name in PERCENT else None
    relative = o.relative_margin or name not in PERCENT
    # half an example, the least width of an interval, is more than the margin
    if margin is not None and share / 2 > margin:
        splits = o.source.kind in ("table", "images") and not o.splits
        facts = {"n": len(test), "share": share, "margin": margin, "relative": relative}
        found.append({"note": "coarse_splits", **facts, "splits": 12} if splits
                     else {"note": "coarse", **facts})  # fmt: skip
    # almost all examples are of one class
    constant = prepared.constant(test)["metric"] if name == "accuracy" else 0.0
    if constant >= UNEVEN_FROM:
        found.append({"note": "uneven", "constant": constant})
    return found
