"""What is predicted: one small class per predictor."""

from .adaptive import RRE as RRE
from .adaptive import Aitken as Aitken
from .adaptive import ForwardEMA as ForwardEMA
from .adaptive import OuterNesterov as OuterNesterov
from .adaptive import PrimalAveraging as PrimalAveraging
from .base import Predictor as Predictor
from .base import Workspace as Workspace
from .controls import RandomDirection as RandomDirection
from .controls import SignFlipped as SignFlipped
from .fixed import READINGS as READINGS
from .fixed import Affine as Affine
from .fixed import Interpolate as Interpolate
from .fixed import LeastSquares as LeastSquares
from .fixed import Midline as Midline
from .fixed import Quadratic as Quadratic
from .fixed import Secant as Secant

__all__ = [
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
