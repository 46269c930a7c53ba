"""What can be said of a comparison before anything is trained: whether it can be judged at all."""

from __future__ import annotations

from ..plan import Plan
from ..tasks.task import Prepared
from .verdict import PERCENT, Metric

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


def cautions(plan: Plan) -> list[str]:
    """What the test split cannot show, and a metric that suits it better; one sentence each."""
    prepared, o = plan.prepared, plan.options
    name, test, found = prepared.metric_name, prepared.test, []
    metric = Metric(name, prepared.higher_is_better, 0.0)
    share, splits = example_share(prepared) / plan.pooled, ""
    if o.source.kind in ("table", "images") and not plan.options.splits:
        splits = "use --splits 12, "
    margin = RELATIVE_MARGIN if o.margin is None and name not in PERCENT else None
    if name in PERCENT and not o.relative_margin:
        margin = POINTS_MARGIN if o.margin is None else o.margin / 100
    elif o.relative_margin and o.margin is not None:
        margin = o.margin / 100
    if margin is not None and share / 2 > margin:
        say = metric.amount if name in PERCENT and not o.relative_margin else _per_cent
        found.append(
            f"One of the {len(test)} test examples is worth {say(share)}, so a margin of "
            f"{say(margin)} can never be met and 'no difference' never shown: {splits}"
            "add test examples, or widen --margin."
        )
    constant = prepared.constant(test)["metric"] if name == "accuracy" else 0.0
    if constant >= UNEVEN_FROM:
        found.append(
            f"A constant answer is right on {metric.value(constant)} of the test examples, so "
            "accuracy says little: judge by --metric balanced_accuracy or --metric auroc."
        )
    return found


def _per_cent(value: float) -> str:
    return f"{100 * value:.3g} %"
