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

COMPARED: Mapping[str, type[Predictor]] = MappingProxyType(
    {
        "plp": Midline,
        "secant": Secant,
        "least-squares": LeastSquares,
        "lookahead": Interpolate,
        "quadratic": Quadratic,
        "outer-nesterov": OuterNesterov,
        "forward-ema": ForwardEMA,
        "primal-averaging": PrimalAveraging,
        "rre": RRE,
        "aitken": Aitken,
    }
)
"""The predictors that comparisons know by name (`paramcast methods` says what each does)."""
