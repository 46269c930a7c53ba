"""From a folder to a file: the report in one of its formats."""

from __future__ import annotations

from pathlib import Path

from ...errors import StudyError
from ...files import replacing
from .data import build
from .load import load
from .words import Words

FORMATS = {"html": ".html", "md": ".md", "latex": ".tex", "pdf": ".pdf"}


def write_report(
    folder: Path, out: Path | None = None, *, language: str = "en", form: str = "html"
) -> Path:
    """Build the report of a pilot's or study's folder and write it.

    Args:
        folder: of a finished pilot or study.
        out: the file; None for report.html (.md, .tex, .pdf) in the folder.
        language: "en" or "ja".
        form: "html", "md", "latex" or "pdf".

    Returns:
        Where it was written.

    Raises:
        StudyError: nothing has finished there, or the file cannot be written.

    Example::

        write_report(Path("paramcast-runs/digits-1a2b3c4d"), language="ja")
    """
    path = out or folder / f"report{FORMATS[form]}"
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is no folder"
        raise StudyError(f"{path} cannot be written: {reason}; give another file with -o")
    _replace(path, content(folder, language, form))
    return path


def content(folder: Path, language: str, form: str) -> bytes:
    """What the file holds."""
    words = Words(language)
    data = build(load(folder), words)
    if form in ("html", "pdf"):
        from .page import render

        page = render(data, words, eager=form == "pdf")
        if form == "html":
            return page.encode()
        from .pdf import to_pdf

        return to_pdf(page)
    from . import text

    return (text.markdown if form == "md" else text.latex)(data, words).encode()


def _replace(path: Path, content: bytes) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written: {error.strerror}; give another file with -o"
        ) from None
