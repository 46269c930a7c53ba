"""Bad input beside the table in tests/hostile: what fails later, and odd names that are fine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import call

Paramcast = Callable[..., Any]
TaskFile = Callable[..., Path]


def test_data_that_every_process_draws_anew(paramcast: Paramcast, task_file: TaskFile) -> None:
    # Each worker would train on a split of its own: nothing would be paired.
    task_file(
        changes="train=(x[:40], y[:40])",
        more="""
        import numpy as np
        chosen = np.random.default_rng().permutation(200)
        x, y = (part[chosen] for part in blobs(200, 1))
        """,
    )
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code in (1, 2), ran.out) == (True, "")
    assert "seed" in ran.said.splitlines()[-1]


FAILS_IN_TRAINING = """
    class Net(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                raise RuntimeError("only in training")
            return super().forward(x)
    def make_model():
        return Net(4, 3)
    """


def test_a_dry_run_of_a_failing_task_ends_in_words(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file(more=FAILS_IN_TRAINING)
    ran = paramcast("pilot", "blobs.py", "--dry-run")
    assert ran.code in (1, 2)
    assert ran.said.startswith("paramcast: ")
    assert "only in training" in ran.said


def test_a_metric_that_is_no_number_fails_the_runs(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file(changes="metric=lambda o, t: float('nan')")
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code, ran.out) == (1, "")
    last = ran.said.splitlines()[-1]
    assert last.startswith("paramcast: 4 of 4 final runs failed twice")
    assert "the metric <lambda> returned nan on test" in last


@pytest.mark.parametrize(
    "name", ['it\'s "quoted" [red]tag 50 % {x} 💥', "two\nlines [/b] closed", "../up"]
)
def test_any_name_is_shown_as_it_is(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path, name: str
) -> None:
    task_file(changes=f"name={name!r}")
    ran = paramcast("pilot", "blobs.py", "--lr", 0.1, "--seeds", 2)
    assert (ran.code, ran.said) == (0, "")
    assert ran.out.startswith(f"{name}. As you train today")
    (folder,) = (tmp_path / "paramcast-runs").iterdir()
    assert (folder / "result.json").is_file()


def test_out_may_not_be_written(unprivileged: Any) -> None:
    folder, nobody = unprivileged
    readonly = folder / "readonly"
    readonly.mkdir()
    readonly.chmod(0o555)
    call(folder, "pilot", "digits", "--dry-run")  # imports what nobody may not read
    call(folder, "pilot", "nope.py")
    with nobody():
        for out in (readonly, readonly / "below"):
            ran = call(folder, "pilot", "digits", "--quick", "--out", out)
            assert (ran.code, ran.out) == (2, "")
            assert re.search(r"is not writable; choose another|cannot be a folder", ran.said)
            assert ran.said.count("\n") == 1
    assert not list(readonly.iterdir())
