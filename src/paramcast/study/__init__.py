"""The fair comparison: tasks, methods, runs, statistics and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tasks.task import Task as Task

__all__ = ["Task"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts without torch."""
    if name == "Task":
        from .tasks.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
