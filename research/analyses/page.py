"""A page: Markdown, with figures that are drawn only where somebody wants the files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paramcast.study.judging.stats import interval
from paramcast.study.stored import Result

UNSAFE = re.compile(r"[^\w.:-]")
"""In a file's name."""


@dataclass
class Page:
    """Paragraphs, tables, and figures in their order."""

    parts: list[str | Figure] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.parts.append(text)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        lines = [_row(header), "|" + "---|" * len(header), *map(_row, rows)]
        self.parts.append("\n".join(lines))

    def figure(self, name: str, caption: str, draw: Callable[[], Any]) -> None:
        """draw() returns a matplotlib figure."""
        self.parts.append(Figure(name, caption, draw))

    def text(self, folder: Path | None = None, prefix: str = "") -> str:
        """The page; with a folder, its figures are written there as PREFIX-NAME.svg."""
        written = []
        for part in self.parts:
            if isinstance(part, str):
                written.append(_harmless(part))
            elif folder is not None:
                file = folder / f"{prefix}-{UNSAFE.sub('-', part.name)[:100]}.svg"
                _save(part.draw(), file)
                written.append(f"![{_harmless(part.caption)}]({file.name})")
        return "\n\n".join(written) + "\n"


@dataclass(frozen=True)
class Figure:
    """A figure that is not drawn yet."""

    name: str
    caption: str
    draw: Callable[[], Any]


def spread(values: Sequence[float], form: str = "{:+.2f}", level: float = 0.95) -> str:
    """Mean and t interval in words."""
    mean, low, high = (form.format(value) for value in interval(values, level))
    return f"{mean} ({low} to {high})"


def made_by(result: Result) -> str:
    """Hardware, versions and time, in a line."""
    e = result["environment"]
    return (
        f"{len(result['cells'])} cells; {e['cpus']} cores ({e['cpu']}), one thread per run, "
        f"torch {e['torch']}, Python {e['python']}, paramcast {e['paramcast']}; "
        f"{result['wall_seconds']:.0f} s for the runs not stored before."
    )


def _row(cells: Sequence[Any]) -> str:
    texts = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(texts) + " |"


def _harmless(text: str) -> str:
    """Text in which no name is HTML or a link."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("](", "]\\(")


def _save(figure: Any, file: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "paramcast"}):  # the same figure is the same file
        figure.savefig(file, metadata={"Date": None}, bbox_inches="tight")
