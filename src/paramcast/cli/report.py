"""The command line of reports: `paramcast report`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import StudyError
from ..study.options import PATH
from ..study.reading import RUNS


@click.command()
@click.argument("folder", type=PATH, default=RUNS)
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="The file [report.html or report-ja.html in FOLDER]; - for standard output.",
)
@click.option("--inputs", type=PATH, help="Your costs and values, as for paramcast roi.")
@click.option("--lang", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "pdf"]),
    help="What to write [by the ending of --out, else html].",
)
@click.option("--one-page", is_flag=True, help="For a meeting: a PDF of one page.")
def report(
    folder: Path,
    out: Path | None,
    inputs: Path | None,
    lang: str,
    form: str | None,
    one_page: bool,
) -> None:
    """Write the report of the finished pilot or study in FOLDER.

    Without FOLDER it is the one in paramcast-runs that finished last.

    One HTML file that needs no network: verdict, effect, charts with a table each, key figures and
    return on investment, all runs, the protocol, the command that repeats it, the data as CSV.
    Markdown is for mails, PDF is printed by an installed Chromium.

    \b
    Examples:
      paramcast report
      paramcast report paramcast-runs/digits-1a2b3c4d --lang ja -o report-ja.html
      paramcast report paramcast-runs/digits-1a2b3c4d --format pdf
      paramcast report paramcast-runs/digits-1a2b3c4d --one-page
      paramcast report paramcast-runs/digits-1a2b3c4d --inputs roi.toml
    """
    from ..report import roi
    from ..report.html.write import content, form_of, write_report
    from ..study.store.folder import finished_last

    form = form or ("pdf" if one_page and out in (None, Path("-")) else form_of(out))
    if one_page and form != "pdf":
        raise StudyError(f"--one-page is for a PDF, got {form}; leave out --one-page or --format")
    folder = finished_last(folder)
    counted = None if inputs is None else roi.open_inputs(inputs)
    if out == Path("-"):
        page = content(folder, lang, form, counted, one_page=one_page)
        click.echo(page if form == "pdf" else page.decode(), nl=False)
        return
    written = write_report(folder, out, language=lang, form=form, inputs=counted, one_page=one_page)
    click.echo(f"wrote {written}")
