"""A report as one self-contained HTML file.

Scripts run only if their hash is in the page's Content-Security-Policy, and the page loads nothing:
neither a stored name nor an address can become code or a request.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...study.words import Words

URI = {ord(c): quote(c) for c in (*map(chr, range(33)), *"\"#%&'<>?`^{|}\\")}


def render(
    data: dict[str, Any],
    words: Words,
    *,
    eager: bool = False,
    one_page: bool = False,
    live: dict[str, Any] | None = None,
) -> str:
    """Render the page.

    Args:
        data: what `report.build` returns.
        words: the language.
        eager: draw every chart at once (for printing), not when it comes into view.
        one_page: print the first screen, the return and the table alone.
        live: for a page that is served while runs finish, with Plotly beside it: after "every"
            seconds it checks whether its "tag" is still the served page's, and if not it reloads.
    """
    # `page` is what the script reads; the template has the rest
    plotly, own = plotly_js(), _static("report.js")
    page = {
        "charts": [*([data["effect"]] if data["effect"] else []), *data["whole"]],
        "cells": data["cells"],
        "runs": data["runs"]["rows"],
        "text": {**words.section("js"), "save": words("page.save")},
        "eager": eager,
        "live": live,
    }
    return str(
        template("page.html").render(
            d=data, w=words, policy=_policy(plotly, own, live=live is not None), script=own,
            plotly=plotly, live=live is not None, one_page=one_page,
            style=_static("report.css"), data_json=_in_script(page), data_uri=_data_uri,
        )
    )  # fmt: skip


@functools.cache
def plotly_js() -> str:
    """Plotly's minified script, read from the installed package without importing it."""
    path = distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    # or the page's script element would end there
    return Path(str(path)).read_text("utf-8").replace("</script", "<\\/script")


@functools.cache
def template(name: str) -> Any:
    """A template of this folder, in which every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # names come from files
    environment = Environment(
        loader=PackageLoader("paramcast.report.html", "templates"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


@functools.cache
def _static(name: str) -> str:
    return files("paramcast.report.html").joinpath(f"static/{name}").read_text("utf-8")


def _policy(*scripts: str, live: bool = False) -> str:
    # the only scripts that run: Plotly and our own, by their hash
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    # a served page gets Plotly from its server, and asks it for news
    served = " 'self'; connect-src 'self'" if live else ""
    return (
        f"default-src 'none'; script-src {hashes}{served}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _in_script(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data_uri(text: str) -> str:
    """A link that holds the file itself; base64 would be a third longer."""
    quoted = text.translate(URI) if text.isascii() else quote(text, safe=",.:;+-_()=[]")
    return f"data:text/csv;charset=utf-8,%EF%BB%BF{quoted}"  # a BOM, so that Excel reads UTF-8
