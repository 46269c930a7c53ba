"""A report as Markdown, for a mail."""

from __future__ import annotations

from typing import Any

from ...study.words import Words

COLUMNS = ("comparison", "method", "lr", "searched", "value", "n", "early", "minus_base", "p",
           "minus_matched", "diverged", "verdict")  # fmt: skip
"""What is not too wide for a mail."""


def markdown(data: dict[str, Any], words: Words) -> str:
    """The report as Markdown: verdicts, facts, table, return, protocol, and the command."""
    table = data["table"]
    places = [i for i, name in enumerate(table["names"]) if name in COLUMNS]
    head = [table["head"][i] for i in places]
    rows = [[row["cells"][i] for i in places] for row in table["rows"]]
    colon = words("page.colon")
    parts = [f"# {_md(data['question'])}"]
    if data["asked"]:
        parts.append(_md(data["asked"]))
    # verdicts first, then the facts and numbers behind them
    for v in data["verdicts"]:
        if v["word"]:
            asked = f"{v['method']}{words('page.comma')}{v['about']}{colon}"
            parts.append(_md(f"{asked}{v['word']}"))
        parts.append(f"**{_md(v['sentence'])}**")
        if v["caution"]:
            parts.append(f"{words('page.caution')}{colon}{_md(v['caution'])}")
        parts.append(f"{words('page.next')}{colon}{_md(v['next'])}")
        if v["command"]:
            parts.append(_code(v["command"]))
    parts += [
        "\n".join(f"- {_md(label)}{colon}{_md(value)}" for label, value, _ in data["facts"]),
        _table(head, rows),
        "\n".join(f"- {_md(note)}" for note, _ in data["notes"]),
        f"## {words('page.data_heading')}",
        *("\n".join(f"- {_md(line)}" for line in lines) for _, lines in data["description"]),
        *_payoff(data["payoff"], words),
        f"## {words('page.failed_heading')}",
        _table(**data["failed"]) if data["failed"]["rows"] else data["reads"]["failed_none"],
        f"## {words('page.protocol_heading')}",
        "\n".join(f"- {_md(line)}" for line in data["protocol"]),
        f"## {words('page.environment_heading')}",
        "\n".join(f"- {_md(name)}{colon}{_md(value)}" for name, value in data["environment"]),
        _code(data["command"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _payoff(found: dict[str, Any] | None, words: Words) -> list[str]:
    """Key figures and return: five lines and a table, as on the page."""
    if found is None:
        return []
    parts = [f"## {words('page.payoff_heading')}", _md(found["reason"])]
    for method in found["methods"]:
        parts += [
            "\n".join(f"- {_md(line)}" for line in method["lines"]),
            _table(**method["table"]),
        ]
    # what the figures do not cover
    return parts + [_md(note) for note in found["notes"]]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([_line(head), "|" + "---|" * len(head), *map(_line, rows)])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_md, cells)) + " |"


def _md(text: str) -> str:
    """Escape text so that Markdown finds no tables, HTML, links or emphasis in it."""
    text = " ".join(str(text).split())
    for mark in "\\|`*_[]":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _code(text: str) -> str:
    """A code block whose fence is longer than any fence in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
