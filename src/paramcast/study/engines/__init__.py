"""Engines: who runs many specifications, on this machine or on a Ray cluster."""

from .base import Engine as Engine
from .base import Finished as Finished
from .base import Job as Job
from .local import LocalEngine as LocalEngine

__all__ = ["Engine", "Finished", "Job", "LocalEngine"]
