"""What was read from a task's data: facts by name, and the sentence that each makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..words import catalogue

# Values by fact, in the order of telling; strict JSON, stored unchanged in result.json. The
# catalogue holds a sentence per fact, in its section "data". A value is a number, a text or a list;
# a pair in a list reads "name (number)". The value "because" names a sentence of its own,
# `because_...`.
Description = Mapping[str, Mapping[str, Any]]
MOST_SHOWN = 8  # the most entries of a list


def lines(description: Description, language: str = "en") -> list[str]:
    """A sentence per fact. Names in it are the user's: escape them for where they are shown.

    >>> lines({"split": {"train": 120, "validation": 40, "test": 40}})
    ['120 examples to train, 40 to validate, 40 to test.']
    """
    texts, found = catalogue(language)["data"], []
    for name, values in description.items():
        shown = {key: listed(value, language) for key, value in values.items()}
        if "because" in values:
            shown["because"] = texts[f"because_{values['because']}"].format(**shown)
        found.append(texts[name].format(**shown))
    return found


def listed(value: Any, language: str) -> Any:
    """A list in words, cut where it is long; any other value as it is."""
    if not isinstance(value, list):
        return value
    words = catalogue(language)["list"]
    parts = [words["pair"].format(*v) if isinstance(v, list) else str(v) for v in value]
    left_out = [words["more"].format(len(parts))] if len(parts) > MOST_SHOWN else []
    return words["and"].join(parts[:MOST_SHOWN] + left_out)
