"""The conformance suite that we ship, run on everything that we ship: one row each."""

import copy

from paramcast.anomalies import Anomaly
from paramcast.averaging import EMA, LAWA, SWA, PolynomialDecay, Trend
from paramcast.gates import (
    After,
    Agreement,
    Before,
    Every,
    LossCheck,
    MaxRelativeJump,
)
from paramcast.testing import AverageConformance, GateConformance, PredictorConformance
from reference import FAMILY

PREDICTORS = {
    row.name.title().replace("-", ""): lambda row=row: copy.deepcopy(row.predictor)
    for row in FAMILY
}
GATES = {
    "After": lambda: After(steps=4),
    "Before": lambda: Before(share=0.5),
    "Every": lambda: Every(2),
    "Agreement": lambda: Agreement(0.2),
    "MaxRelativeJump": lambda: MaxRelativeJump(0.01),
    "LossCheck": lambda: LossCheck(_constant_loss),
    "Combined": lambda: After(steps=2) & Every(2) & Agreement(-0.5),
    "Anomaly": lambda: Anomaly(jump=0.05, disagreement=2, drift=2.0, pause=1),
}
AVERAGES = {
    "EMA": lambda: EMA(0.7),
    "EMAHalfLife": lambda: EMA(half_life=3),
    "EMAShare": lambda: EMA(share=0.2),
    "SWA": lambda: SWA(start_share=0.3, every=2),
    "LAWA": lambda: LAWA(last=3, every=2),
    "PolynomialDecay": PolynomialDecay,
    "Trend": Trend,
}


def _constant_loss() -> float:
    return 1.0


def _rows(base, method, table):
    """One test class per row, whose `method` makes the part."""
    for name, make in table.items():
        yield f"Test{name}", type(f"Test{name}", (base,), {method: lambda _, make=make: make()})


globals().update(_rows(PredictorConformance, "predictor", PREDICTORS))
TestRandom.random = True  # noqa: F821 - made by the line above
globals().update(_rows(GateConformance, "gate", GATES))
globals().update(_rows(AverageConformance, "average", AVERAGES))
