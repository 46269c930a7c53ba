"""Write the report of a folder to a file, in one of its formats."""

from __future__ import annotations

from pathlib import Path

from ..._files import replacing
from ...errors import StudyError
from ...study.reading import as_written
from ...study.store.folder import RESULT
from ...study.stored import AGAIN
from ...study.words import Words
from ..roi import Inputs
from . import meeting
from .load import load
from .page import render
from .pdf import to_pdf
from .report import build
from .text import markdown

FORMATS = {"html": ".html", "md": ".md", "pdf": ".pdf"}


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    language: str = "en",
    form: str = "html",
    inputs: Inputs | None = None,
    one_page: bool = False,
) -> Path:
    """Build the report of a pilot's or study's folder and write it.

    Args:
        folder: of a finished pilot or study.
        out: the file; None for report.html (.md, .pdf) in the folder, report-ja.html where
            the language is another.
        language: "en" or "ja".
        form: "html", "md" or "pdf".
        inputs: costs and values for the return (`paramcast.report.roi`); None for the defaults.
        one_page: of a PDF only the verdict, the effect, the return and the table, of many methods
            only the most important ones (`meeting.py`).

    Returns:
        The path of the file.

    Raises:
        StudyError: nothing has finished there, or the file cannot be written.

    Example::

        write_report(Path("paramcast-runs/digits-1a2b3c4d"), language="ja")
    """
    name = "report" if language == "en" else f"report-{language}"
    path = out or folder / f"{name}{FORMATS[form]}"
    # before the work of building it
    if path.is_dir() or (out is not None and not path.parent.is_dir()):
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is not a folder"
        raise StudyError(f"{path} cannot be written: {reason}; give another file with -o")
    made = content(folder, language, form, inputs, one_page=one_page)
    try:
        with replacing(path) as file:  # a reader sees the old file or the new one
            file.write(made)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written: {error.strerror}; give another file with -o"
        ) from None
    return path


def form_of(out: Path | None) -> str:
    """The format that a file's ending names; HTML for no file, and for none.

    Raises:
        StudyError: the ending names no format.
    """
    endings = {"": "html", ".htm": "html", **{end: name for name, end in FORMATS.items()}}
    ending = out.suffix.lower() if out is not None else ""
    if ending not in endings:
        known = ", ".join(FORMATS.values())
        raise StudyError(f"-o {out}: {ending} is not a format; end it in {known}, or say --format")
    return endings[ending]


def content(
    folder: Path,
    language: str,
    form: str,
    inputs: Inputs | None = None,
    *,
    one_page: bool = False,
) -> bytes:
    """The content of the file.

    Raises:
        StudyError: nothing has finished there, or its files cannot be read.
    """
    words, stored = Words(language), load(folder)
    with as_written(folder / RESULT, AGAIN):
        if one_page:
            return meeting.one_page(stored, words, inputs)
        data = build(stored, words, inputs)
        if form == "md":
            return markdown(data, words).encode()
        # a PDF is the page, printed with every chart drawn
        page = render(data, words, eager=form == "pdf")
        if form == "html":
            return page.encode()
        return to_pdf(page)
