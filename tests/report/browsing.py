"""Pages in a real browser, watched for what they must not do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def opening(browser: Any) -> Iterator[Callable[..., Any]]:
    """open(url, color_scheme="dark"): a page.

    At the end nothing may have been asked of anyone else, logged as an error, or shown in a dialog.
    """
    wrong: list[str] = []
    contexts = []

    def opened(url: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        known = (url, "blob:", "data:")
        page.on("request", lambda r: r.url.startswith(known) or wrong.append(r.url))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
