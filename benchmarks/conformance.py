"""The conformance suite's table: every predictor, gate and average of ours against every law.

    python benchmarks/conformance.py > docs/conformance.md

It runs tests/test_conformance.py and writes what pytest reported, with each predictor's stated
velocity gain, noise gain and memory (which the laws check).
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import torch

import paramcast as pc

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))


def outcomes() -> dict[str, dict[str, str]]:
    """For each part: law -> passed, failed or skipped, as pytest reported it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", str(TESTS / "test_conformance.py"),
             f"--junitxml={report}"],
            stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).getroot().iter("testcase")
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        part = case.get("classname", "").rpartition(".Test")[2]
        bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        table[part][case.get("name", "")] = bad[0] if bad else "passed"
    return table


def _code(part: object) -> str:
    """The part as one writes it; a function by its name, | escaped for the table."""
    text = re.sub(r"<function (\w+) at [^>]*>", r"\1", repr(part))
    return text.replace("|", "\\|")


def main() -> None:
    from test_conformance import AVERAGES, GATES, PREDICTORS

    table = outcomes()
    print("# Conformance\n\nWritten by `python benchmarks/conformance.py`.\n")
    for title, parts in (("Predictors", PREDICTORS), ("Gates", GATES), ("Averages", AVERAGES)):
        predicts = parts is PREDICTORS
        more = " gain | noise gain | memory |" if predicts else ""
        print(f"## {title}\n\n| part | constructed | laws passed |{more}")
        print("|---|---|---|" + "---|---|---|" * predicts)
        for name, make in parts.items():
            laws, part = table[name], make()
            passed = sum(outcome == "passed" for outcome in laws.values())
            row = f"| {name} | `{_code(part)}` | {passed} of {len(laws)} |"
            if predicts:
                noise = part.noise_gain
                noise = "" if noise is None else f"{noise:.4g}"
                row += f" {part.gain:.4g} | {noise} | {part.buffers} |"
            print(row)
        laws = sorted({law for name in parts for law in table[name]})
        print("\nLaws: " + "; ".join(law[5:].replace("_", " ") for law in laws) + ".\n")
    print(
        "Memory is in elements per parameter. "
        f"torch {torch.__version__}, Python {platform.python_version()}, paramcast {pc.__version__}"
    )


if __name__ == "__main__":
    main()
