"""Mutation testing of what the numbers rest on, by mutmut: what do the tests not notice?

    python tests/mutate.py stats verdict
    python tests/mutate.py gates predictors --sample 200
    python tests/mutate.py all --sample 100 --seed 1 --children 2

For each part the code is copied, changed in one place at a time, and the part's own tests run. With
--sample only so many mutants are tried. Samples of one seed share most of their mutants: whoever
wrote tests for the survivors of one learns from another --seed what they are worth. Prints a
Markdown table and, for each survivor, its change. Needs `pip install -e '.[mutation]'`; 2 to 60
minutes per part.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Part(NamedTuple):
    """What is changed, and the tests that must notice: files, as patterns below src/paramcast."""

    code: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "stats": Part(("study/judging/stats.py",), ("study/test_stats.py",)),
    "verdict": Part(("study/judging/verdict.py",), ("study/test_verdict.py",)),
    "gates": Part(
        ("gates.py",), ("test_gates.py", "test_conformance.py", "test_events.py", "test_errors.py")
    ),
    "predictors": Part(
        ("predictors/*",),
        (
            "test_predictors.py",
            "test_family.py",
            "test_conformance.py",
            "test_errors.py",
            "test_gates.py",
            "test_averaging.py",
            "test_bases.py",
            "test_defaults.py",
            "test_anomalies.py",
        ),
    ),
    "functional": Part(
        ("tensors/functional.py", "tensors/segments.py"),
        ("test_functional.py", "test_predictors.py"),
    ),
    "averaging": Part(
        ("averaging.py", "running/evaluation.py", "running/batch_norm.py"),
        ("test_averaging.py", "test_other_settings.py", "test_conformance.py"),
    ),
    "forecast": Part(
        ("forecast.py", "running/bases.py", "running/second_points.py"),
        (
            "test_bases.py",
            "test_forecast.py",
            "test_compat.py",
            "test_other_settings.py",
            "test_checkpoint.py",
            "test_averaging.py",
            "test_horizons.py",
            "test_errors.py",
            "test_anomalies.py",
        ),
    ),
    "cycle": Part(
        ("running/cycle.py", "running/members.py", "running/telling.py"),
        (
            "test_forecast.py",
            "test_family.py",
            "test_conformance.py",
            "test_checkpoint.py",
            "test_events.py",
            "test_monitors.py",
            "test_gates.py",
        ),
    ),
}
KILLED = {"killed", "timeout", "suspicious", "segfault", "caught by type check"}
"""What mutmut calls a mutant that did not go unnoticed."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    parser.add_argument("--sample", type=int, help="at most so many mutants of each part")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--children", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    given = parser.parse_args()
    names = list(PARTS) if "all" in given.parts else given.parts
    work = given.keep or Path(tempfile.mkdtemp())
    survivors: list[str] = []
    print("| part | mutants | tried | killed | survived | killed, % |\n|---|---|---|---|---|---|")
    try:
        mutmut = _environment(work / "environment")
        for name in names:
            line, alive = _try(PARTS[name], work / name, mutmut, given)
            print(f"| {name} | {line}", flush=True)
            survivors += alive
    finally:
        if given.keep is None:
            shutil.rmtree(work, ignore_errors=True)
    for change in survivors:
        print(f"\n```diff\n{change}\n```")
    return 0


def _environment(folder: Path) -> list[str]:
    """A Python with this one's packages but for paramcast, which must come from the copy."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    Path(paths.stdout.strip(), "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return [str(python), "-m", "mutmut"]


def _try(
    part: Part, folder: Path, mutmut: list[str], given: argparse.Namespace
) -> tuple[str, list[str]]:
    """One part's line of the table, and the changes that no test noticed."""
    _copy(folder)
    code = [f"src/paramcast/{pattern}" for pattern in part.code]
    tests = [f"tests/{name}" for name in part.tests]
    with open(folder / "pyproject.toml", "a") as file:
        file.write(
            '\n[tool.mutmut]\nsource_paths = ["src"]\nprocess_isolation = "forkserver"\n'
            f"only_mutate = {code}\npytest_add_cli_args_test_selection = {tests}\n"
            'pytest_add_cli_args = ["-n", "0", "-m", "not slow and not ci and not gpu"]\n'
            'also_copy = ["tests", "benchmarks", "conftest.py"]\n'
        )
    run = [*mutmut, "run", "--max-children", str(given.children)]
    _say(subprocess.run([*run, "no.such.mutant"], cwd=folder, capture_output=True, text=True))
    every = sorted(_results(mutmut, folder))
    chosen = every
    if given.sample is not None and given.sample < len(every):
        chosen = sorted(random.Random(given.seed).sample(every, given.sample))
    _say(subprocess.run([*run, *chosen], cwd=folder, capture_output=True, text=True))
    found = _results(mutmut, folder)
    alive = [name for name in chosen if found[name] not in KILLED]
    killed = len(chosen) - len(alive)
    share = 100 * killed / len(chosen)
    line = f"{len(every)} | {len(chosen)} | {killed} | {len(alive)} | {share:.1f} |"
    return line, [_change(mutmut, folder, name) for name in alive]


def _copy(folder: Path) -> None:
    """The files that git knows, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _results(mutmut: list[str], folder: Path) -> dict[str, str]:
    """What became of each mutant."""
    words = [*mutmut, "results", "--all", "true"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    pairs = re.findall(r"^\s*(\S+__mutmut_\d+): (.+?)\s*$", done.stdout, re.MULTILINE)
    if not pairs:
        sys.exit("mutmut made no mutants; MUTATE_VERBOSE=1 shows its words")
    return dict(pairs)


def _change(mutmut: list[str], folder: Path, name: str) -> str:
    done = subprocess.run([*mutmut, "show", name], cwd=folder, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("@@", "+", "-"))]
    return "\n".join([f"# {name}", *lines[2:]])


def _say(done: subprocess.CompletedProcess[str]) -> None:
    if os.environ.get("MUTATE_VERBOSE"):
        print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
