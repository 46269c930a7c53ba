"""What became of a run, as reports say it; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_LEARNED = "not_learned"
"""What a finished run is called that is no better than a constant prediction."""


def status_of(outcome: Mapping[str, Any]) -> str:
    """What became of a run: its stored status, or NOT_LEARNED.

    A training of the user's does not tell whether it has learned.
    """
    done, learned = outcome["status"] == "done", outcome.get("learned", True)
    return NOT_LEARNED if done and not learned else str(outcome["status"])
