"""Key figures and return on investment of a pilot's methods, from its stored rows."""

from .inputs import Estimate as Estimate
from .inputs import Inputs as Inputs
from .inputs import defaults as defaults
from .inputs import open_inputs as open_inputs
from .inputs import read_inputs as read_inputs
from .inputs import template as template
from .returns import summary as summary
from .rows import read as read

__all__ = [
    "Estimate",
    "Inputs",
    "defaults",
    "open_inputs",
    "read",
    "read_inputs",
    "summary",
    "template",
]
