"""The Japanese README says what the English one says: code, tables, numbers, links."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, JAPANESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.ja.md"))
BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
NUMBER = r"[+\u2212]?\d+(?:[.,/]\d+)+|\d{2,}"  # a single digit may be a word: "two cores"


def links(text, other):
    found = re.findall(r"\]\(([^)]+)\)", text)
    assert found.pop(0) == other  # at the top, to the other language
    return Counter(found)


def rows(text):
    """Of tables, without the words: each row's cells, each cell's numbers."""
    lines = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    return [[re.findall(NUMBER, cell) for cell in line.split("|")] for line in lines]


def prose(text):
    return BLOCK.sub("", text)


@pytest.mark.parametrize(
    "part",
    [
        lambda text: BLOCK.findall(text),
        lambda text: Counter(re.findall(r"`[^`\n]+`", prose(text))),
        lambda text: re.findall(r"^#+ ", prose(text), re.MULTILINE),
        lambda text: rows(prose(text)),
        lambda text: Counter(re.findall(NUMBER, prose(text))),
    ],
    ids=["blocks", "code in the text", "headings", "tables", "numbers"],
)
def test_both_have_the_same(part):
    assert part(ENGLISH)
    assert part(ENGLISH) == part(JAPANESE)


def test_both_have_the_same_links():
    assert links(ENGLISH, "README.ja.md") == links(JAPANESE, "README.md")
