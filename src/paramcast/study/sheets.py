"""Values for spreadsheets, which take some texts for formulas and run them."""

from __future__ import annotations

from typing import Any

FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters of formulas, those of full width too; blanks may come before them."""


def harmless(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: such text gets an apostrophe in front.

    Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA):
        return f"'{value}"
    return value
