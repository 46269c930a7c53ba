"""What is predicted: one rule, one file."""

from collections.abc import Mapping
from types import MappingProxyType

from .affine import Affine as Affine
from .aitken import Aitken as Aitken
from .base import Predictor as Predictor
from .base import Workspace as Workspace
from .controls import RandomDirection as RandomDirection
from .controls import SignFlipped as SignFlipped
from .forward_ema import ForwardEMA as ForwardEMA
from .lines import LeastSquares as LeastSquares
from .lines import Quadratic as Quadratic
from .lines import Secant as Secant
from .lookahead import Interpolate as Interpolate
from .outer_nesterov import OuterNesterov as OuterNesterov
from .plp import READINGS as READINGS
from .plp import Midline as Midline
from .primal_averaging import PrimalAveraging as PrimalAveraging
from .rre import RRE as RRE

__all__ = [
    "COMPARED",
    "READINGS",
    "RRE",
    "Affine",
    "Aitken",
    "ForwardEMA",
    "Interpolate",
    "LeastSquares",
    "Midline",
    "OuterNesterov",
    "Predictor",
    "PrimalAveraging",
    "Quadratic",
    "RandomDirection",
    "Secant",
    "SignFlipped",
    "Workspace",
]

COMPARED: Mapping[str, tuple[type[Predictor], str]] = MappingProxyType(
    {
        "plp": (Midline, "Parameters Linear Prediction: midline of three points"),
        "secant": (Secant, "straight on from the last point"),
        "least-squares": (LeastSquares, "least-squares line over a window"),
        "lookahead": (Interpolate, "Lookahead: part of the way back every k steps"),
        "quadratic": (Quadratic, "parabola through the last three points"),
        "outer-nesterov": (OuterNesterov, "Nesterov momentum on whole cycles (SNOO)"),
        "forward-ema": (ForwardEMA, "gradients taken ahead, along an average"),
        "primal-averaging": (
            PrimalAveraging,
            "gradients taken near an average, the base without momentum",
        ),
        "rre": (RRE, "reduced rank extrapolation"),
        "aitken": (Aitken, "per tensor, the limit of a geometric sequence"),
    }
)
"""The predictors that comparisons know by name, with one line about each."""
