"""The options of a pilot: the command that continues it names all that decides its runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from paramcast.cli import pilot as module
from paramcast.cli.pilot import PilotCommand, pilot
from paramcast.study.engines import server
from paramcast.study.options import not_again
from paramcast.study.plan import Plan
from paramcast.study.tasks import source

OPTIONS = {p.name: p for p in pilot.params if isinstance(p, click.Option)}
TABLE = ("it's data.csv", "--target", "y")
SAMPLES: dict[str, tuple[Any, ...]] = {
    "target": TABLE,
    "kind": (*TABLE, "--kind", "classes"),
    "missing": (*TABLE, "--missing", "impute"),
    "read": (*TABLE, "--read", "sep=,", "--read", "na_values=?"),
    "methods": ("blobs.py", "--methods", "plp(horizon=0.5, start='last'), lookahead"),
    "base": ("blobs.py", "--base", "adamw"),
    "candidate": ("--metric", "accuracy", "--base", "a {seed}", "--candidate", "new=b {seed}"),
    "test_examples": ("bowl.py:train", "--test-examples", 68),
    "tune_by": ("bowl.py:train", "--tune-by", "other_loss"),
    "higher_is_better": ("bowl.py:train", "--metric", "speed", "--lower-is-better"),
    "lr": ("blobs.py", "--lr", 1e-05),
    "lr_range": ("blobs.py", "--lr-range", "0.0523456789:0.3"),
    "search": ("blobs.py", "--search", "weight_decay=1e-05:0.01"),
    "trials": ("blobs.py", "--trials", 16),
    "trial_seeds": ("blobs.py", "--trial-seeds", 1),
    "data_dir": ("digits", "--data-dir", "my data"),
    "epochs": ("blobs.py", "--epochs", 7),
    "batch_size": ("blobs.py", "--batch-size", 5),
    "schedule": ("blobs.py", "--schedule", "wsd"),
    "metric": ("blobs.py", "--metric", "log_loss"),
    "margin": ("blobs.py", "--margin", "2.5%"),
    "tuned_base": ("blobs.py", "--tuned-base", 0.05),
    "max_runs": ("blobs.py", "--max-runs", 60),
    "budget": ("blobs.py", "--budget", "1.5h"),
    "all_arms": ("blobs.py", "--all-arms"),
    "speed": ("blobs.py", "--speed"),
    "device": ("blobs.py", "--device", "cuda:1"),
    "precision": ("blobs.py", "--precision", "bfloat16"),
    "compile": ("blobs.py", "--compile"),
    "channels_last": ("blobs.py", "--device", "cuda", "--no-channels-last"),
    "seeds": ("blobs.py", "--seeds", 8),
    "quick": ("blobs.py", "--quick"),
    "splits": (*TABLE, "--splits", 3),
}
"""Words that give each option another value than the usual one."""
BOWL = """metric, lr_range = "accuracy", (0.05, 0.5)


def train(trial): ...
"""
Planned = Callable[..., Plan]


@pytest.fixture
def planned(
    paramcast: Callable[..., Any],
    task_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Planned:
    """planned("blobs.py", "--lr", 0.1): what the command line plans, of which nothing runs."""
    task_file()
    (tmp_path / "bowl.py").write_text(BOWL, "utf-8")
    rows = [f"{i * 37 % 50},{i * 11 % 30},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "it's data.csv").write_text("\n".join(["a,b,y", *rows]))
    plans: list[Plan] = []
    monkeypatch.setattr(module, "_run", lambda plan, *_: plans.append(plan) or "")
    monkeypatch.setattr(server, "start_early", lambda: None)
    monkeypatch.setattr(source, "find_data", lambda *_: "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def plan(*words: Any) -> Plan:
        ran = paramcast("pilot", *words)
        assert ran.code == 0, ran.err
        return plans.pop()

    return plan


@pytest.mark.parametrize("name", OPTIONS)
def test_the_continuing_command_names_the_option_or_the_option_says_why_not(
    planned: Planned, name: str
) -> None:
    option = OPTIONS[name].opts[0]
    again = {each.name: each.metadata["again"] for each in fields(PilotCommand)}
    assert name in again, f"{option} is not a field of PilotCommand, so it cannot be written back"
    if again[name] is not_again:
        return
    assert name in SAMPLES, f"{option} needs words here that set it, or is to be `not_again`"
    plan = planned(*SAMPLES[name])
    words = shlex.split(plan.command(12))
    assert {option, *OPTIONS[name].secondary_opts} & set(words), f"{option} is not in {words}"
    same = planned(*words[2:])
    assert (same.specification(), same.common) == (plan.specification(), plan.common)
    assert same.command(12) == plan.command(12)


def test_the_command_as_it_reads(planned: Planned, tmp_path: Path) -> None:
    assert planned("blobs.py", "--quick", "--out", "a b").command(8) == (
        f"paramcast pilot {tmp_path}/blobs.py:task --quick --seeds 8 --out 'a b'"
    )
    words = (*TABLE, "--kind", "classes", "--missing", "drop", "--read", "na_values=?")
    table = planned(*words, "--read", "decimal=,", "--read", "sep=,", "--splits", 2, "--out", "o")
    assert shlex.split(table.command(4))[2:] == [
        f"{tmp_path}/it's data.csv", "--target", "y", "--kind", "classes", "--missing", "drop",
        "--read", "na_values=?", "--read", "decimal=,", "--read", "sep=,", "--splits", "4",
        "--out", "o",
    ]  # fmt: skip
    numerics = ("--device", "cuda:1", "--precision", "float32", "--no-compile")
    assert planned("digits", "--lr", 3, *numerics, "--out", "o").command(24) == (
        "paramcast pilot digits --device cuda:1 --precision float32 --no-compile --lr 3.0 "
        "--seeds 24 --out o"
    )
