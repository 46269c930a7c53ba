"""Every parser, fed what Hypothesis makes of its seeds: only our own errors come out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS, mutated, run, seeds_of

HERE = Path(__file__).parent
EXAMPLES = {"table": 4, "database": 6, "pilot-results": 4, "pilot-rows": 4, "study-results": 6,
            "study-rows": 6, "task": 12, "checkpoint": 12, "cycle-state": 12}  # fmt: skip
"""Of the slow ones; others have 25."""
CORPUS = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, 25))
    @given(st.binary(min_size=4, max_size=40))
    def feed(content: bytes) -> None:
        run(name, mutated(name, content))

    feed()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_a_parser_does_so_no_more(path: Path) -> None:
    run(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read_without_an_error(name: str) -> None:
    for seed in seeds_of(name):
        TARGETS[name].check(seed)


def test_the_corpus_is_small_and_of_known_parsers() -> None:
    assert {path.parent.name for path in CORPUS} <= set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_atheris_finds_nothing_in_a_minute(name: str) -> None:
    pytest.importorskip("atheris")
    words = [sys.executable, str(HERE / "run_atheris.py"), name, "--seconds", "60"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
