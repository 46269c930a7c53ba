"""The catalogue of a language: every word of the verdicts and the report, by key."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

from ..errors import StudyError

LANGUAGES = ("en", "ja")


class Words:
    """Look up texts by key, in one language: `words("facts.paired", n=8)`.

    Raises:
        StudyError: there is no catalogue of that language.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise StudyError(f"--lang must be one of {', '.join(LANGUAGES)}, got {language!r}")
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, **values: Any) -> str:
        section, _, name = key.partition(".")
        text = str(self._texts[section][name])
        # a template is returned as it is for whoever fills it in later
        return text.format(**values) if values or "{{" in text else text

    def section(self, name: str) -> dict[str, str]:
        return dict(self._texts[name])

    def either(self, key: str, otherwise: str) -> str:
        """The text of a key, or `otherwise` where the catalogue does not have it."""
        section, _, name = key.partition(".")
        return str(self._texts[section].get(name, otherwise))


@functools.cache
def catalogue(language: str) -> dict[str, dict[str, str]]:
    """Load the catalogue of a language: sections of texts by name."""
    text = files("paramcast.study").joinpath(f"text/{language}.json").read_text("utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded
