"""Griffe reads Google's docstrings; what ours do differently is put into that form here."""

import re
from typing import Any

import griffe

SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +\S.*)*)$", re.MULTILINE)
"""Arguments that share a line: "start, stop: the cycles", with what continues it."""


class Ours(griffe.Extension):
    """ "Example:" is Griffe's "Examples:", which is shown as code; each argument has a line."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Before the docstring is parsed."""
        if obj.docstring is not None:
            text = re.sub(r"^Example::?$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = SHARED.sub(_apart, text)


def _apart(found: re.Match[str]) -> str:
    indent, names, text = found.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))
