"""paramcast: predict parameters during neural-network training, and judge whether it helps."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import anomalies as anomalies
    from . import averaging as averaging
    from . import errors as errors
    from . import gates as gates
    from . import monitors as monitors
    from . import predictors as predictors
    from . import schedules as schedules
    from .combining.combine import combine as combine
    from .errors import ParamcastError as ParamcastError
    from .events import ForecastEvent as ForecastEvent
    from .forecast import PLP as PLP
    from .forecast import Forecast as Forecast
    from .interactive.judge import judge as judge
    from .interactive.pilot import pilot as pilot
    from .trials import Trial as Trial
    from .trials import trial as trial

__version__ = "0.1.0"

__all__ = [
    "PLP",
    "Forecast",
    "ForecastEvent",
    "ParamcastError",
    "Trial",
    "anomalies",
    "averaging",
    "combine",
    "errors",
    "gates",
    "judge",
    "monitors",
    "pilot",
    "predictors",
    "schedules",
    "trial",
]

_MODULE_OF = {
    "PLP": "forecast",
    "Forecast": "forecast",
    "ForecastEvent": "events",
    "ParamcastError": "errors",
    "Trial": "trials",
    "trial": "trials",
    "combine": "combining.combine",
    "judge": "interactive.judge",
    "pilot": "interactive.pilot",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `paramcast --help` does not wait for torch."""
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
