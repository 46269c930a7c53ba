"""paramcast: predict parameters during neural-network training, and judge whether it helps."""

from . import errors as errors
from . import predictors as predictors
from . import schedules as schedules
from .errors import ParamcastError as ParamcastError
from .events import ForecastEvent as ForecastEvent
from .forecast import PLP as PLP
from .forecast import Forecast as Forecast

__version__ = "0.1.0"

__all__ = [
    "PLP",
    "Forecast",
    "ForecastEvent",
    "ParamcastError",
    "errors",
    "predictors",
    "schedules",
]
