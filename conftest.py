"""Two policies of the test suite.

Under PARAMCAST_REQUIRE_ALL=1 (CI) a test that would skip for a missing part fails, GPU tests
excepted. The tests named in tests/known_limits.txt state demands that are not met yet: they are
expected to fail, and one that passes fails until its line is removed.
"""

import os
from pathlib import Path

import pytest

KNOWN_LIMITS = Path(__file__).parent / "tests" / "known_limits.txt"


def pytest_collection_modifyitems(items):
    lines = KNOWN_LIMITS.read_text("utf-8").splitlines()
    known = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    for item in items:
        if item.nodeid in known:
            item.add_marker(pytest.mark.xfail(strict=True, reason="in tests/known_limits.txt"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    required = os.environ.get("PARAMCAST_REQUIRE_ALL") == "1" and "gpu" not in item.keywords
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under PARAMCAST_REQUIRE_ALL=1: {report.longrepr}"
    return report
