"""Put verdicts, notes and reasons into words; no other module turns a judged fact into a sentence.

The catalogue (`study/text/LANGUAGE.json`) has a text for each rule and each advice. In it {p}, {b}
and {c} are the predictor, the base and the control that the verdict names; {p_b} is the comparison
of the first two in numbers, {p_b_by} its size alone, and {p_early_b} the same with 80 % of the
steps for the predictor. A text gives only the comparison that decided in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..words import Words
from .stats import FEWEST, UNCLEAR, Comparison
from .verdict import EARLY, Metric, Verdict


def kind(verdict: Verdict, words: Words) -> str:
    """The verdict in a word or two, such as "no difference"."""
    return words(f"kind.{verdict.kind}")


def sentence(verdict: Verdict, metric: Metric, words: Words) -> str:
    """The reason for a verdict; its word is `kind`."""
    return words(f"verdict.{verdict.rule}", **_values(verdict, metric, words))


def advice(verdict: Verdict, metric: Metric, words: Words) -> str:
    """What to do next, without the command that extends the pilot."""
    values = _values(verdict, metric, words)
    said = [words(f"advice.{key}", **values) for key in verdict.advice]
    return words("page.space").join(said)


def caution(verdict: Verdict, metric: Metric, words: Words) -> str:
    """What the verdict leaves open, "" for nothing."""
    values = _values(verdict, metric, words)
    said = [words(f"caution.{key}", **values) for key in verdict.cautions]
    return words("page.space").join(said)


def note(stored: Mapping[str, Any], metric: Metric, words: Words) -> str:
    """The text of a note such as {"note": "lowest", "arms": ["sgd"], "range": [1e-5, 1]}."""
    values = {name: value for name, value in stored.items() if name != "note"}
    comma = words("page.comma")
    for name in ("share", "margin", "half"):
        if name in values:
            values[name] = amount(values[name], metric, words)
    # a margin in per cent has no unit of the metric
    if stored.get("relative"):  # both are in per cent of the base's value
        values |= {name: f"{100 * stored[name]:.3g} %" for name in ("share", "margin")}
    if "constant" in values:
        values["constant"] = metric.value(values["constant"])
    if "range" in values:
        values["low"], values["high"] = (f"{lr:.4g}" for lr in values["range"])
    if "ratios" in values:
        values["ratios"] = comma.join(f"{name} {x:.2f}" for name, x in values["ratios"].items())
    if "by_arm" in values:
        values["by_arm"] = _counts(values["by_arm"], words)
    if "arms" in values:
        values["names"] = comma.join(values["arms"])
    return words(f"note.{stored['note']}", **values)


def divergence(outcome: Mapping[str, Any], words: Words) -> str:
    """How a run diverged; "" if it did not."""
    found = outcome.get("divergence")
    if not found:
        return ""
    values = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in found.items()}
    return words(f"reason.{found['how']}", **values)


def amount(value: float, metric: Metric, words: Words) -> str:
    """The size of a difference, without its sign."""
    if metric.percent:
        return words("unit.amount", x=f"{100 * abs(value):.2f}")
    return f"{abs(value):.3g}"


def describe(c: Comparison, metric: Metric, words: Words) -> str:
    """A comparison in numbers: difference, interval, n."""
    return words(
        "verdict.numbers",
        mean=metric.signed(c.mean),
        unit=words("unit.points") if metric.percent else metric.name,
        level=f"{100 * c.confidence:.3g}",
        low=metric.signed(c.low),
        high=metric.signed(c.high),
        n=c.n,
    )


def _counts(by_arm: Mapping[str, int], words: Words) -> str:
    """How many runs of each arm, such as "sgd 3, plp 1"."""
    return words("page.comma").join(f"{name} {n}" for name, n in by_arm.items())


def _values(verdict: Verdict, metric: Metric, words: Words) -> dict[str, Any]:
    """The values that the texts of a verdict may name."""
    p, b, facts = verdict.predictor, verdict.base, verdict.facts
    values: dict[str, Any] = {
        **facts, "p": p, "b": b, "c": verdict.control, "few": FEWEST,
        "early": f"{100 * EARLY:.0f}", "saved": f"{100 * (1 - EARLY):.0f}",
        "needed": verdict.needed, "margin": amount(metric.margin, metric, words),
    }  # fmt: skip
    if "lr" in facts:
        values["lr"] = f"{facts['lr']:.4g}"
    if "controls" in facts:
        values["controls"] = words("page.comma").join(facts["controls"])
    if "by_arm" in facts:
        values["by_arm"] = _counts(facts["by_arm"], words)
    if "mean" in facts and metric.constant is not None:
        values["mean"], values["constant"] = map(metric.value, (facts["mean"], metric.constant))

    # every comparison between the arms named, such as p_early_b
    letters = {verdict.control: "c", p: "p", b: "b"}
    for pair in verdict.comparisons:
        if pair.a in letters and pair.b in letters:
            ends = ((pair.a, pair.a_share), (pair.b, pair.b_share))
            name = "_".join(letters[arm] + "_early" * (share == EARLY) for arm, share in ends)
            c = pair.comparison
            values[name] = describe(c, metric, words)
            values[f"{name}_by"] = amount(c.mean, metric, words)
            if name == "p_early_b" and c.relation != UNCLEAR:
                values["ends"] = words(f"ends.{c.relation}")
                values["lead"] = words("verdict.lead", **values)

    # the comparison that is unclear, and the differences that it could show
    if verdict.blocking is not None:
        c = verdict.comparisons[verdict.blocking].comparison
        apart = max(metric.margin, metric.half_example)
        values["sd"] = amount(c.sd, metric, words)
        values["apart"] = amount(apart, metric, words)
    if verdict.extension is not None:
        values["seeds"] = verdict.extension.seeds
        values["seconds"] = f"{max(1.0, verdict.extension.seconds):.0f}"
    return values
