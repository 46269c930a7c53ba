"""Trainings as their communities write them, with the lines that a pilot needs: each a pilot."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Ran
from runs import rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HERE, EXAMPLES = ROOT / "tests" / "trainings", ROOT / "examples"
SMALL = ("--trials", 1, "--trial-seeds", 1, "--seeds", 2, "--all-arms", "--out", "out", "--json")
FUNCTIONS = {
    "template": (ROOT / "src/paramcast/study/own/example_training.py", ""),
    "dict batches, two inputs": (EXAMPLES / "14_own_loop.py", ""),
    "jax": (EXAMPLES / "16_jax_pilot.py", "optax"),
    "lightning": (HERE / "lightning_module.py", "lightning"),
    "transformers, classifier": (HERE / "hf_classifier.py", "transformers"),
    "transformers, gpt": (HERE / "hf_gpt.py", "transformers"),
    "skorch": (HERE / "skorch_net.py", "skorch"),
    "keras": (HERE / "keras_fit.py", "keras"),
}


def page(folder: Path) -> str:
    """The words of a report."""
    text = (folder / "report.html").read_text("utf-8")
    text = re.sub(r"(?s)<(script|style|svg).*?</\1>", "", text)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def check(ran: Ran, folder: Path, bases: tuple[str, ...] = ("SGD", "AdamW", "Adam")) -> Any:
    """What all of them have in common; returns the comparison."""
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    base, *others = (row["method"] for row in judged["table"])
    assert base in bases
    assert others == [f"{base}-lr-matched", "random-jump", "plp"]
    # each arm's runs are others: what chooses a rate hardly ever ties
    found = rows(folder / "runs.db", "SELECT outcome FROM runs WHERE phase='final' AND seed=0")
    ends = [json.loads(text)["validation"]["loss"] for (text,) in found]
    assert len(set(ends)) == len(ends) == 8, ends
    words = page(folder)
    assert f"Should plp replace {base}" in words
    assert not re.search(r"\b(None|nan|NaN)\b", words)
    return judged


@pytest.mark.parametrize(("file", "needs"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(
    paramcast: Callable[..., Ran], tmp_path: Path, file: Path, needs: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if needs:
        pytest.importorskip(needs)
    named = ("base",) if needs == "optax" else ("SGD", "AdamW", "Adam")  # optax tells no name
    check(paramcast("pilot", f"{file}:train", *SMALL), tmp_path / "out", named)


def test_a_noisy_return_of_which_some_seeds_give_up(
    paramcast: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = paramcast("pilot", f"{HERE / 'policy_gradient.py'}:train", *SMALL, "--seeds", 6)
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    returns = judged["table"][0]["values"]
    assert min(returns) < -10 < -3 < max(returns)
    assert [*judged["table"][0]["measures"]] == ["solved"]
    assert judged["metric"]["margin"] == 0.5


@pytest.mark.skipif(os.name != "posix", reason="commands need POSIX")
def test_accelerate_launch(paramcast: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    ran = paramcast(
        "pilot", "--metric", "accuracy", "--lr-range", "0.05:0.3", *SMALL, "--",
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        HERE / "accelerate_script.py",
        "--lr", "{lr}", "--seed", "{seed}",
    )  # fmt: skip
    assert check(ran, tmp_path / "out")["steps"] == 80


@pytest.mark.skipif(os.name != "posix", reason="commands need POSIX")
def test_two_processes_of_torchrun(paramcast: Callable[..., Ran], tmp_path: Path) -> None:
    ran = paramcast(
        "pilot", "--metric", "test_loss", "--lr-range", "1e-3:1e-2", "--workers", 1, *SMALL, "--",
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        EXAMPLES / "15_nanogpt.py", "--learning_rate={lr}", "--seed={seed}",
    )  # fmt: skip
    judged = check(ran, tmp_path / "out")
    assert judged["steps"] == 60
    assert judged["metric"]["higher_is_better"] is False


@pytest.mark.skipif(os.name != "posix", reason="commands need POSIX")
def test_gradient_boosting(paramcast: Callable[..., Ran], tmp_path: Path) -> None:
    base, few = (
        f"{sys.executable} {HERE / 'boosting.py'} --seed {{seed}}{more}"
        for more in ("", " --leaves 4")
    )
    words = ("--base", base, "--candidate", f"few={few}", "--seeds", 6, "--out", "out", "--json")
    ran = paramcast("pilot", "--metric", "log_loss", *words)
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    assert set(judged["verdicts"]) == {"few"}
    assert [*judged["table"][0]["measures"]] == ["accuracy"]
    assert not re.search(r"\b(None|nan|NaN)\b", page(tmp_path / "out"))
