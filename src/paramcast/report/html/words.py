"""The catalogue of a language: every word of the report, and what a stored sentence is in it."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from ...errors import StudyError

LANGUAGES = ("en", "ja")
MOST_CHARACTERS = 1000
"""Of a sentence that is translated; ours are shorter."""
NUMBER = r"[-+.0-9einfa]+"
COMPARED = rf"{NUMBER} [^()]+ \(plus = better; [^()]*\)"


class Words:
    """Text by key, in one language.

    `words("facts.seeds", n=8)` is the text of that key. `words.said(sentence)` is a sentence that
    the pilot stored in English: the catalogue's "said" entries are its patterns, and whatever a
    pattern holds is looked up in turn. What no pattern fits (a user's own words) stays as it is.

    Raises:
        StudyError: another language.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise StudyError(f"--lang must be one of {', '.join(LANGUAGES)}, got {language!r}")
        self.language = language
        self._texts = catalogue(language)
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        if language != "en":
            self._patterns = [(k, _pattern(t)) for k, t in catalogue("en")["said"].items()]
        self._known: dict[str, str] = {}

    def __call__(self, key: str, **values: Any) -> str:
        section, _, name = key.partition(".")
        text = str(self._texts[section][name])
        return text.format(**values) if values else text

    def section(self, name: str) -> dict[str, str]:
        return dict(self._texts[name])

    def either(self, key: str, otherwise: str) -> str:
        """The text of a key, or another where the catalogue has none."""
        section, _, name = key.partition(".")
        return str(self._texts[section].get(name, otherwise))

    def said(self, sentence: str) -> str:
        """A stored sentence in this language."""
        if sentence not in self._known:
            self._known[sentence] = self._translate(sentence)
        return self._known[sentence]

    def _translate(self, sentence: str) -> str:
        if len(sentence) > MOST_CHARACTERS:  # matching takes time by the cube of the length
            return sentence
        for key, pattern in self._patterns:
            found = pattern.fullmatch(sentence)
            if found:
                parts = {name: self._translate(part) for name, part in found.groupdict().items()}
                return str(self._texts["said"][key]).format(**parts)
        return sentence


def catalogue(language: str) -> dict[str, dict[str, str]]:
    """The whole catalogue of a language: sections of texts by name."""
    text = files("paramcast.report.html").joinpath(f"text/{language}.json").read_text("utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded


def _pattern(template: str) -> re.Pattern[str]:
    """A template as a pattern with a group per name: n_... holds a number, numbers a comparison."""
    parts = re.split(r"\{(\w+)\}", template)
    text = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            text += re.escape(part)
        else:
            kind = NUMBER if part.startswith("n_") else COMPARED if "numbers" in part else ".+?"
            text += f"(?P<{part}>{kind})"
    return re.compile(text, re.DOTALL)
