"""Engines run many specifications, on this machine or on a Ray cluster."""

from .base import ATTEMPTS as ATTEMPTS
from .base import Engine as Engine
from .base import Finished as Finished
from .base import Job as Job
from .local import LocalEngine as LocalEngine

__all__ = ["ATTEMPTS", "Engine", "Finished", "Job", "LocalEngine"]
