"""What was read of a task's data: facts by name, and the sentence that each makes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

Description = Mapping[str, Mapping[str, Any]]
"""Values by fact, in the order of telling; strict JSON, kept as it is in pilot.json.

`description.json` holds a sentence per fact and language. A value is a number, a text or a list;
a pair in a list reads "name (number)". The value "because" is the name of a sentence of its own,
`because_...`.
"""
MOST_SHOWN = 8
"""Of a list's entries."""


def lines(description: Description, language: str = "en") -> list[str]:
    """A sentence per fact. Names in it are the user's: escape them for where they are shown.

    >>> lines({"split": {"train": 120, "validation": 40, "test": 40}})
    ['120 examples to train, 40 to validate, 40 to test.']
    """
    return [_sentence(name, values, language) for name, values in description.items()]


def _sentence(name: str, values: Mapping[str, Any], language: str) -> str:
    shown = {key: _text(value, language) for key, value in values.items()}
    if "because" in values:
        reason = _catalogue()[f"because_{values['because']}"][language]
        shown["because"] = reason.format(**shown)
    return _catalogue()[name][language].format(**shown)


def _text(value: Any, language: str) -> Any:
    if not isinstance(value, list):
        return value
    comma, pair, more = {
        "en": (", ", "{} ({})", "... ({} in all)"),
        "ja": ("、", "{}（{}）", "…（全 {} 件）"),  # noqa: RUF001 - full-width on purpose
    }[language]
    parts = [pair.format(*each) if isinstance(each, list) else str(each) for each in value]
    left_out = [more.format(len(parts))] if len(parts) > MOST_SHOWN else []
    return comma.join(parts[:MOST_SHOWN] + left_out)


@functools.cache
def _catalogue() -> dict[str, dict[str, str]]:
    text = files("paramcast.study.tasks").joinpath("description.json").read_text("utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded
