"""The policies of the test suite.

Tests run in parallel where pytest-xdist is, none for ever, and each with Python's own handlers of
signals, however the suite was started.
Under PARAMCAST_REQUIRE_ALL=1 (CI) a test that would skip for a missing part fails; excepted are
GPU tests and those that mount a file system or make a control group, which some containers forbid.
The tests named in tests/known_limits.txt state demands that are not met yet: they are expected to
fail, and one that passes fails until its line is removed.

`pytest -m compat --compat docs/compatibility.md` writes the table of frameworks and features from
the results of the tests that carry `compat` marks.
"""

import gc
import os
import signal
from importlib import metadata
from pathlib import Path

import pytest

KNOWN_LIMITS = Path(__file__).parent / "tests" / "known_limits.txt"
FEATURES = ("train", "resume in mid-cycle", "sharded", "averaged evaluation", "metrics")
NAMES = {"stack", "feature", "no"}
PACKAGES = ("torch", "lightning", "transformers", "accelerate", "skorch", "keras", "jax", "optax")


HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
SLOW_SECONDS = 4 * 3600


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads them
def pytest_cmdline_main(config):
    """-n auto --dist worksteal; not in addopts, where `-p no:xdist` would not know them."""
    # hundreds of processes import the same files; each would compile them for itself
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    option = config.option
    if hasattr(option, "numprocesses") and not hasattr(config, "workerinput"):
        option.numprocesses = "auto" if option.numprocesses is None else option.numprocesses
        option.dist = "worksteal" if option.dist == "no" else option.dist


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """A shell starts its background jobs with SIGINT ignored, which children inherit."""
    before = {number: signal.signal(number, handler) for number, handler in HANDLERS.items()}
    try:
        return (yield)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than cores: many tests wait for a process, a browser or a database."""
    affinity = getattr(os, "sched_getaffinity", None)
    return 1 + (len(affinity(0)) if affinity else os.cpu_count() or 1)


def pytest_addoption(parser):
    parser.addoption("--compat", metavar="FILE", help="write the compatibility table to FILE")
    parser.addoption("--write-screens", action="store_true", help="keep what terminals show now")


def pytest_configure(config):
    if config.getoption("--compat") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(CompatibilityTable(Path(config.getoption("--compat"))))


def pytest_collection_modifyitems(items):
    lines = KNOWN_LIMITS.read_text("utf-8").splitlines()
    known = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    for item in items:
        if item.nodeid in known:
            item.add_marker(pytest.mark.xfail(strict=True, reason="in tests/known_limits.txt"))
        if not item.get_closest_marker("timeout") and (limit := time_limit(item)):
            item.add_marker(pytest.mark.timeout(**limit))
        for mark in item.iter_markers("compat"):
            if mark.args or not {"stack", "feature"} <= mark.kwargs.keys() <= NAMES:
                raise pytest.UsageError(f"{item.nodeid}: compat(stack=..., feature=..., no=...)")
            if mark.kwargs["feature"] not in FEATURES:
                raise pytest.UsageError(f"{item.nodeid}: feature must be one of {FEATURES}")
            # user properties travel from the workers of pytest-xdist to the one that writes
            item.user_properties.append(("compat", dict(mark.kwargs)))


def pytest_collection_finish():
    """What all tests share lives to the end; no search for garbage needs to walk it again."""
    gc.collect()
    gc.freeze()


def time_limit(item):
    """Where it differs from the usual one."""
    limit = {"timeout": SLOW_SECONDS} if "slow" in item.keywords else {}
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        limit["method"] = "thread"  # Hypothesis catches what a signal's handler raises, and repeats
    return limit


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    excepted = {"gpu", "mount"} & set(item.keywords)
    required = os.environ.get("PARAMCAST_REQUIRE_ALL") == "1" and not excepted
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under PARAMCAST_REQUIRE_ALL=1: {report.longrepr}"
    return report


class CompatibilityTable:
    """Collects the results of marked tests, and writes what they show."""

    def __init__(self, path):
        self.path, self.cells = path, {}

    def pytest_runtest_logreport(self, report):
        for name, cell in report.user_properties:
            if name == "compat" and (report.when == "call" or not report.passed):
                results = self.cells.setdefault((cell["stack"], cell["feature"]), [])
                results.append((report.outcome, cell.get("no"), report.nodeid))

    def pytest_sessionfinish(self):
        if self.cells:
            self.path.write_text(self.page(), "utf-8")

    def page(self):
        notes = []
        rows = [
            f"| {stack} | " + " | ".join(self.cell(stack, f, notes) for f in FEATURES) + " |"
            for stack in sorted({stack for stack, _ in self.cells}, key=str.lower)
        ]
        return (
            "\n".join(
                [
                    "# Compatibility",
                    "",
                    "Made from the results of the tests; do not edit by hand:",
                    "",
                    "    python -m pytest -m compat --compat docs/compatibility.md",
                    "",
                    f"With {versions()}.",
                    "",
                    "*yes*: every test of this cell passed. *no*: not supported; a test shows what",
                    "happens instead.",
                    "",
                    "| stack | " + " | ".join(FEATURES) + " |",
                    "|---" * (len(FEATURES) + 1) + "|",
                    *rows,
                    "",
                    *(f"{i}. {note}" for i, note in enumerate(notes, 1)),
                ]
            ).rstrip()
            + "\n"
        )

    def cell(self, stack, feature, notes):
        results = self.cells.get((stack, feature), [])
        failed = [name for outcome, _, name in results if outcome != "passed"]
        reasons = sorted({no for _, no, _ in results if no})
        if failed:
            answer, note = "**fails**", "did not pass: " + ", ".join(sorted(failed))
        elif reasons:
            answer, note = "no", "; ".join(reasons)
        else:
            return "yes" if results else "not tested"
        if note not in notes:
            notes.append(note)
        return f"{answer} [{notes.index(note) + 1}]"


def versions():
    """The packages that the table was made with."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name).split('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
