"""Make values safe for spreadsheets, which take some texts for formulas and run them."""

from __future__ import annotations

from typing import Any

FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""The first characters of formulas, also in full width; blanks may precede them."""


def harmless(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula.

    Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA):
        return f"'{value}"
    return value
