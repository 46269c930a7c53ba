"""The pilot from end to end: what it answers on digits, what it keeps, and how it goes on."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from scipy import stats

from command import strict_json, without_notice
from paramcast.study.plan import Plan
from paramcast.study.spec import RunSpec
from paramcast.study.store.live import Live
from runs import PAPER, TUNED, cell, compared, drawn, follow, kept, rows, timeless, told

Paramcast = Callable[..., Any]
TaskFile = Callable[..., Path]
SMALL = ("pilot", "blobs.py", "--lr", 0.05, "--methods", "plp")
"""Untuned: 2 runs a seed, if the controls are not needed."""


def lasting(result: dict[str, Any]) -> dict[str, Any]:
    """The parts of a result that do not depend on the clock, the machine and the folder."""
    judged = cell(result)
    kinds = {
        (name, question): (verdict["kind"], verdict["rule"], verdict["facts"], verdict["needed"])
        for name, answers in judged["verdicts"].items()
        for question, verdict in answers.items()
    }
    names = ("task", "metric", "steps", "seeds", "confidence", "learning_rates")
    return {"table": timeless(judged["table"]), "verdicts": kinds} | {
        "identity": result["identity"],
        **{name: judged[name] for name in names},
    }


# --- digits -------------------------------------------------------------------------------------


def verdict(ran: Any, folder: Path, question: str) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    result = json.loads((folder / "result.json").read_text("utf-8"))
    answer: dict[str, Any] = cell(result)["verdicts"]["plp"][question]
    return answer


@pytest.mark.slow
def test_the_default_pilot_says_no_difference(pilot: Callable[..., Any]) -> None:
    """As README.md shows it."""
    default = pilot("default")
    quality = verdict(*default, "quality")
    assert quality["kind"] == "no difference"
    reason, then = told(default[1])["plp", "quality"]
    assert reason.startswith("plp and sgd end within 0.50 points")
    assert then.startswith("Keep sgd")
    assert verdict(*default, "speed")["kind"] == "not faster"


@pytest.mark.parametrize(
    "words",
    [PAPER, pytest.param(("digits", *PAPER[1:5]), marks=pytest.mark.slow)],
    ids=lambda words: words[0],
)
def test_digits_at_the_papers_rate_says_raise_the_learning_rate(
    pilot: Callable[..., Any], words: tuple[Any, ...]
) -> None:
    name = "paper" if words is PAPER else "paper-cnn"
    ran, folder = pilot(name, *words)
    assert verdict(ran, folder, "quality")["kind"] == "use the control instead"
    reason, then = told(folder)["plp", "quality"]
    assert then == "Raise the learning rate of sgd to 0.001167."  # 0.001 times 7/6
    assert "sgd-lr-matched" in reason


BOTH = pytest.mark.parametrize("digits", ["tuned_digits", "paper_digits"])


def read(request: pytest.FixtureRequest, fixture: str) -> tuple[Any, Path, dict[str, Any]]:
    ran, folder = request.getfixturevalue(fixture)
    return ran, folder, json.loads((folder / "result.json").read_text("utf-8"))


@BOTH
def test_pilot_json_is_strict_and_complete(digits: str, request: pytest.FixtureRequest) -> None:
    _, folder, result = read(request, digits)
    assert strict_json((folder / "result.json").read_text("utf-8")) == result
    environment, result = result["environment"], cell(result)
    assert [row["method"] for row in result["table"]] == [
        "sgd", "sgd-lr-matched", "random-jump", "demon", "plp",
    ]  # fmt: skip
    assert [row["role"] for row in result["table"]] == [
        "base", "control", "control", "reference", "predictor",
    ]  # fmt: skip
    for row in result["table"]:
        numbers = ("lr", "mean", "low", "high", "top1_error", "loss", "gap", "early_mean",
                   "seconds", "peak_memory")  # fmt: skip
        assert all(math.isfinite(row[name]) for name in numbers)
        assert row["top5_error"] is None  # ten classes
        assert row["diverged"] == 0
        assert len(row["values"]) == len(row["early_values"]) == 6
        assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 1
        assert row["top1_error"] == pytest.approx(1 - row["mean"])
    assert (result["steps"], result["early_steps"], result["seeds"]) == (150, 120, 6)
    assert {"paramcast", "torch", "python", "platform", "cpu", "gpu", "git_commit"} <= set(
        environment
    )
    assert environment["threads_per_run"] == 1
    assert set(result["verdicts"]) == {"plp"}  # a reference has no verdict
    for reason, then in told(folder).values():
        assert reason.endswith(".")
        assert then.endswith(".")
    assert {"note": "data"} in result["notes"]


@BOTH
def test_intervals_and_p_are_scipys_on_the_stored_values(
    digits: str, request: pytest.FixtureRequest
) -> None:
    result = cell(read(request, digits)[2])
    base = result["table"][0]["values"]
    for row in result["table"]:
        alone = stats.ttest_1samp(row["values"], 0).confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx(tuple(alone))
        if row["role"] != "base":
            paired = stats.ttest_rel(row["values"], base)
            low, high = paired.confidence_interval(0.95)
            found = row["to_base"]
            half = max((high - low) / 2, 0.5 / 1100)
            assert found["p"] == pytest.approx(paired.pvalue)
            assert (found["high"] - found["low"]) / 2 == pytest.approx(half)
            assert found["mean"] == pytest.approx((low + high) / 2)


@BOTH
def test_controls_run_at_the_predictors_own_rate(
    digits: str, request: pytest.FixtureRequest
) -> None:
    result = cell(read(request, digits)[2])
    lr = {row["method"]: row["lr"] for row in result["table"]}
    assert lr["random-jump"] == lr["plp"]
    assert lr["sgd-lr-matched"] == pytest.approx(lr["plp"] * 7 / 6)
    assert lr["sgd"] == result["learning_rates"]["chosen"]["base"]


@BOTH
def test_the_store_holds_every_run_with_its_curve(
    digits: str, request: pytest.FixtureRequest
) -> None:
    _, folder, result = read(request, digits)
    tuned = digits == "tuned_digits"
    runs = rows(
        folder / "runs.db", "SELECT phase, share, spec, outcome, curve, environment FROM runs"
    )
    # 4 points on a seed, the base's better half on another, what beats the base's point likewise
    assert len(runs) == cell(result)["trainings"]
    tuning = sum(run[0] == "tune" for run in runs)
    assert 4 + 2 + 4 + 4 <= tuning <= 4 + 2 + 2 * (4 + 2) if tuned else tuning == 0
    assert len(runs) - tuning == 60
    for phase, share, spec, outcome, curve, environment in runs:
        spec, outcome, curve = json.loads(spec), json.loads(outcome), json.loads(curve)
        steps = round(150 * share)
        assert outcome["status"] == "done"
        assert outcome["steps"] == curve[-1]["step"] == steps
        assert len(curve) == steps / 10
        assert ("test" in outcome) == (phase == "final")
        assert (spec["share"], spec["phase"], spec["task"]) == (share, phase, "digits/mlp")
        assert json.loads(environment) == result["environment"]
    assert rows(folder / "runs.db", "SELECT count(*) FROM failures") == [(0,)]


def test_learning_rates_are_chosen_by_validation_loss(tuned_digits: tuple[Any, Path]) -> None:
    _, folder = tuned_digits
    result = json.loads((folder / "result.json").read_text("utf-8"))
    losses: dict[str, dict[float, list[float]]] = {}
    tuning = rows(
        folder / "runs.db",
        "SELECT method, lr, outcome FROM runs WHERE phase = 'tune' ORDER BY seed",
    )
    for method, lr, outcome in tuning:
        loss = json.loads(outcome)["validation"]["loss"]
        losses.setdefault(method, {}).setdefault(lr, []).append(loss)
    base = {lr: found for lr, found in losses["base"].items() if len(found) == 2}
    assert len(base) == 2  # the better half
    worst = max(found[0] for found in base.values())
    assert all(found[0] >= worst for lr, found in losses["base"].items() if lr not in base)
    best = min(base, key=lambda lr: sum(base[lr]))
    chosen = cell(result)["learning_rates"]["chosen"]
    assert chosen["base"] == best
    for method in ("demon", "plp"):
        at_base, mine = losses[method][best], losses[method][chosen[method]]
        if chosen[method] != best:
            assert all(a < b for a, b in zip(mine, at_base, strict=True))


@BOTH
def test_the_table_shows_every_column(digits: str, request: pytest.FixtureRequest) -> None:
    ran, folder, result = read(request, digits)
    header = next(line for line in ran.out.splitlines() if line.startswith("method"))
    for column in ("lr", "top-1 error", "loss", "gap", "seconds", "peak MiB",
                   "diverged", "top-1 accuracy % (95%)", "at 80% steps", "minus sgd (95%)",
                   " p"):  # fmt: skip
        assert column in header
    plp = next(line for line in ran.out.splitlines() if line.startswith("plp "))
    row = cell(result)["table"][-1]
    for text in (f"{row['lr']:.4g}", f"{100 * row['mean']:.2f} ±", f"{100 * row['loss'] / 100:.4f}",
                 f"{100 * row['early_mean']:.2f}", f"{100 * row['to_base']['mean']:+.2f} (",
                 "0/6"):  # fmt: skip
        assert text in plp
    assert ran.said == ""
    # there is no line of progress without a terminal
    assert re.search(rf"to see how far it is: paramcast watch \S*{folder.name}\n", ran.err)


@BOTH
def test_verdicts_are_printed_in_words(digits: str, request: pytest.FixtureRequest) -> None:
    ran, folder, _ = read(request, digits)
    words = " ".join(ran.out.split())
    asked = "at its best" if digits == "tuned_digits" else "as you train today"
    for (method, question), (reason, then) in told(folder).items():
        assert re.search(
            rf"{re.escape(method)}, {question}, {asked}: [a-z ]+ {re.escape(reason)} "
            rf"Next: {re.escape(then)}", words
        )  # fmt: skip


def test_a_finished_pilot_is_read_back_without_a_run(
    tuned_digits: tuple[Any, Path], paramcast: Paramcast
) -> None:
    _, folder = tuned_digits
    before = json.loads((folder / "result.json").read_text("utf-8"))
    again = paramcast("pilot", *TUNED, "--out", folder, "--json")
    assert again.code == 0
    assert again.result["reused_runs"] == cell(before)["trainings"]
    assert lasting(again.result) == lasting(before)


# --- what does not change a run -----------------------------------------------------------------


def row_of(result: dict[str, Any], method: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in lasting(result)["table"] if row["method"] == method)
    return row


def test_a_methods_numbers_do_not_depend_on_the_others(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file()

    def pilot(methods: str) -> dict[str, Any]:
        ran = paramcast(
            "pilot", "blobs.py", "--quick", "--seeds", 6, "--methods", methods,
            "--all-arms", "--out", methods[:5], "--json",
        )  # fmt: skip
        result: dict[str, Any] = ran.result
        return result

    alone, other, many = pilot("plp"), pilot("demon"), pilot("lookahead, nesterov, plp, demon")
    assert row_of(alone, "sgd") == row_of(other, "sgd") == row_of(many, "sgd")
    plp, beside = row_of(alone, "plp"), row_of(many, "plp")
    assert (plp["lr"], plp["values"], plp["early_values"]) == (
        beside["lr"], beside["values"], beside["early_values"],
    )  # fmt: skip
    assert row_of(other, "demon")["values"] == row_of(many, "demon")["values"]
    matched, named = row_of(alone, "sgd-lr-matched"), row_of(many, "sgd-lr-matched of plp")
    assert matched["values"] == named["values"]


def test_several_predictors_share_the_error(paramcast: Paramcast, task_file: TaskFile) -> None:
    task_file()
    methods = "plp, plp(horizon=0.5), lookahead, secant"
    words = ("--lr", 0.2, "--epochs", 6, "--methods", methods, "--seeds", 6, "--all-arms", "--json")
    result = paramcast("pilot", "blobs.py", *words).cell
    assert result["confidence"] == pytest.approx(1 - 0.05 / 4)
    assert set(result["verdicts"]) == {"plp", "plp(horizon=0.5)", "lookahead", "secant"}
    comparisons = compared(result["verdicts"]["plp"]["quality"])
    assert {c["confidence"] for c in comparisons.values()} == {result["confidence"]}
    names = [row["method"] for row in result["table"]]
    assert len(set(names)) == len(names)
    for predictor in result["verdicts"]:
        assert f"sgd-lr-matched of {predictor}" in names
        assert f"random-jump of {predictor}" in names
        against = set(compared(result["verdicts"][predictor]["quality"]))
        others = set(result["verdicts"]) - {predictor}
        assert not any(f"{predictor} - random-jump of {other}" in against for other in others)


def test_offered_controls_must_be_beaten_too(
    task_file: TaskFile, plan: Callable[..., Plan]
) -> None:
    planned = plan(task_file(), "plp, nesterov, sign-flipped, demon", lr=0.05, seeds=6)
    # plp is 10 points better than everything
    course, _ = follow(planned, drawn({"plp": 0.1}))
    verdict = course.verdicts["plp"]["quality"]
    assert verdict.kind == "adopt"
    names = ["sgd-lr-matched", "random-jump", "sign-flipped", "nesterov"]
    assert verdict.facts["controls"] == names
    assert {row.name: row.lr for row in course.rows}["sign-flipped"] == 0.05


# --- seeds --------------------------------------------------------------------------------------


def test_a_pilot_is_extended_twice_at_99_per_cent_and_not_otherwise(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file(changes="test=blobs(12, 3)")  # one example is 8 points: unclear, whatever the seeds

    def look(seeds: int) -> Any:
        return paramcast(
            "pilot", "blobs.py", "--lr", 0.05, "--seeds", seeds, "--out", "out", "--json"
        )

    first = look(6).result
    assert (cell(first)["confidence"], first["reused_runs"]) == (0.95, 0)
    assert look(6).cell["confidence"] == 0.95
    for seeds in (5, 7, 18, 48):
        refused = look(seeds)
        assert refused.code == 2
        assert f"--seeds can be 6 or 12 or 24, got {seeds}" in refused.err
    second = look(12).result
    assert (cell(second)["confidence"], second["reused_runs"]) == (0.99, 12)
    assert "--seeds can be 12 or 24, got 6" in look(6).err
    third = look(24).result
    assert (cell(third)["confidence"], third["reused_runs"]) == (0.99, 24)
    # settled at 12: nothing more runs
    assert [each["seeds"] for each in cell(third)["looks"]] == [6, 12]
    for result in (second, third):
        comparisons = compared(cell(result)["verdicts"]["plp"]["quality"])
        assert {c["confidence"] for c in comparisons.values()} == {0.99}
    for early, late in zip(cell(first)["table"], cell(third)["table"], strict=True):
        assert late["values"][:6] == early["values"]


def test_the_continuing_command_continues(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    # Every option differs from its default, and the range has many digits.
    task_file(changes="test=blobs(12, 3)")
    first = paramcast(
        "pilot", "blobs.py", "--lr-range", "0.0523456789:0.3", "--trials", 2, "--trial-seeds", 1,
        "--seeds", 6, "--epochs", 3, "--batch-size", 4, "--schedule", "wsd", "--margin", 0.123,
        "--methods", "plp(horizon=0.5, start='last')", "--base", "nesterov", "--all-arms",
        "--out", "a folder",
    )  # fmt: skip
    assert first.code == 0, first.err
    told = " ".join(first.out.split())
    assert re.search(r"spread by [\d.]+ points \(standard deviation\)", told)
    assert re.search(r"takes about \d+ seeds", told)
    assert re.search(r"to 12 seeds (all the same )?\(at most about \d+ s\)", told)
    command = next(line for line in first.out.splitlines() if line.startswith("  paramcast pilot"))
    words = shlex.split(command)
    again = paramcast(*words[1:], "--json")
    assert again.code == 0, again.err
    assert again.result["reused_runs"] > 0
    assert again.cell["seeds"] in (12, 24)


# --- stale results ------------------------------------------------------------------------------


CHANGED = [
    ("--epochs", 3), ("--batch-size", 4), ("--schedule", "constant"), ("--base", "adamw"),
    ("--lr", 0.06), ("--margin", 1), ("--methods", "plp, demon"),
]  # fmt: skip


def test_a_changed_specification_is_refused_and_never_reused(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    task_file()
    words = ("pilot", "blobs.py", "--seeds", 2, "--lr", 0.05)
    assert paramcast(*words, "--out", "out").code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for changed in CHANGED:
        refused = paramcast(*words, *changed, "--out", "out")
        assert refused.code == 2
        assert "out holds the results of another specification" in refused.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    for changed in CHANGED[:2]:
        elsewhere = paramcast(*words, *changed, "--json")
        assert elsewhere.code == 0
        assert elsewhere.result["reused_runs"] == 0


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    stat = file.stat()
    file.write_text(text.replace(old, new), "utf-8")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as `cp -p` and `rsync -t` leave it


def assert_stale(paramcast: Paramcast, words: tuple[Any, ...], edit: Callable[[], None]) -> None:
    """After the edit, the folder is refused and nothing of it is used elsewhere."""
    first = paramcast(*words, "--json")
    edit()
    refused = paramcast(*words, "--out", first.result["out"])
    assert refused.code == 2
    assert "another specification (the task's data or code changed)" in refused.err
    elsewhere = paramcast(*words, "--json")
    assert elsewhere.code == 0
    assert elsewhere.result["reused_runs"] == 0
    assert elsewhere.result["out"] != first.result["out"]


def test_an_edited_task_file_is_another_task(paramcast: Paramcast, task_file: TaskFile) -> None:
    file = task_file()
    words = (*SMALL, "--seeds", 2)
    assert_stale(paramcast, words, lambda: edited(file, "torch.nn.Tanh()", "torch.nn.ReLU()"))


def test_an_edited_task_file_is_run_as_edited(
    paramcast: Paramcast, task_file: TaskFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same length and time stamp: Python would take its cached byte code for it.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = task_file(changes="epochs=2")
    words = ("pilot", "blobs.py", "--lr", 0.05, "--seeds", 2, "--methods", "plp", "--json")
    assert paramcast(*words).cell["steps"] == 10
    edited(file, "epochs=2", "epochs=3")
    assert paramcast(*words).cell["steps"] == 15


def test_an_edited_module_beside_the_task_file_is_another_task(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    # What it does to the model is in no tensor and in no initial weight.
    helper = tmp_path / "stale_helper.py"
    helper.write_text("import torch\n\nactivation = torch.nn.Tanh\n")
    task_file(
        more="""
        from stale_helper import activation
        def make_model():
            return torch.nn.Sequential(torch.nn.Linear(4, 8), activation(), torch.nn.Linear(8, 3))
        """
    )

    def pilot() -> dict[str, Any]:
        sys.modules.pop("stale_helper", None)  # a new process would not have it
        result: dict[str, Any] = paramcast(*SMALL, "--seeds", 2, "--json").result
        return result

    first = pilot()
    helper.write_text("import torch\n\nactivation = torch.nn.ReLU  # changed\n")
    second = pilot()
    assert second["reused_runs"] == 0
    assert row_of(first, "sgd")["loss"] != row_of(second, "sgd")["loss"]


TABLE = "a,b,y\n" + "".join(f"{i * 37 % 50},{'uv'[i % 2]},{'nny'[i % 3]}\n" for i in range(60))


def test_an_edited_table_is_another_task(paramcast: Paramcast, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text(TABLE)
    words = ("pilot", "data.csv", "--target", "y", "--lr", 0.05, "--seeds", 2, "--epochs", 1)
    assert_stale(paramcast, words, lambda: edited(file, "37,v", "38,v"))


# --- interruption -------------------------------------------------------------------------------

SLOW = """
    import time
    def wait(inputs, generator):
        time.sleep(0.02)
        return inputs
    """
"""Five waits an epoch, so that there is always a run to interrupt."""
SLOW_PILOT = (
    "pilot", "blobs.py", "--trials", 2, "--trial-seeds", 2, "--seeds", 3, "--methods", "plp",
    "--epochs", 1,
)  # fmt: skip
"""8 tuning runs and 24 final ones, a tenth of a second each."""


def until(happened: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """Filled by the first test that needs it: the slow pilot, left alone."""
    return {}


@pytest.fixture
def slow_task(task_file: TaskFile) -> Path:
    return task_file(changes="augment=wait", more=SLOW)


def finish(paramcast: Paramcast, undisturbed: dict[str, Any], runs: int) -> None:
    """The same command goes on, reuses exactly those runs, and ends like one left alone."""
    resumed = paramcast(*SLOW_PILOT, "--out", "out", "--json")
    assert resumed.code == 0
    assert resumed.result["reused_runs"] == runs
    if not undisturbed:
        undisturbed |= paramcast(*SLOW_PILOT, "--out", "alone", "--json").result
    assert undisturbed["reused_runs"] == 0
    assert lasting(resumed.result) == lasting(undisturbed)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_pilot_goes_on(
    name: str,
    paramcast: Paramcast,
    start: Callable[..., subprocess.Popen[str]],
    slow_task: Path,
    tmp_path: Path,
    undisturbed: dict[str, Any],
) -> None:
    """SIGTERM where a shell started it in the background: there SIGINT is ignored, and stays so."""
    if name == "SIGTERM":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = start(*SLOW_PILOT, "--out", "out")
    until(lambda: kept(tmp_path / "out/runs.db") >= 3, process)
    process.send_signal(signal.SIGINT)
    if name == "SIGTERM":
        until(lambda: kept(tmp_path / "out/runs.db") >= 6, process)
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    runs = kept(tmp_path / "out/runs.db")
    assert process.returncode == 130
    assert out == ""
    sentence = r"paramcast: interrupted; (\d+) of (\d+) runs are kept in out; the same command "
    found = re.fullmatch(sentence + r"goes on from there\n", without_notice(err))
    assert found, err
    assert int(found.group(1)) == runs
    assert not (tmp_path / "out" / "result.json").exists()
    finish(paramcast, undisturbed, runs)


def test_a_killed_pilot_goes_on_and_leaves_no_process(
    paramcast: Paramcast,
    start: Callable[..., subprocess.Popen[str]],
    slow_task: Path,
    tmp_path: Path,
    undisturbed: dict[str, Any],
) -> None:
    process = start(*SLOW_PILOT, "--out", "out")
    until(lambda: kept(tmp_path / "out/runs.db") >= 10, process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    finish(paramcast, undisturbed, kept(tmp_path / "out/runs.db"))


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """As a terminal does: to every process of the group. What is left is one sentence."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert out == ""
    assert re.fullmatch(r"\s*paramcast: interrupted[^\n]*\n", without_notice(err)), err
    assert process.returncode in (130, -signal.SIGINT)  # a shell calls both 130


def test_ctrl_c_while_it_imports_is_one_sentence(
    start: Callable[..., subprocess.Popen[str]], slow_task: Path
) -> None:
    process = start(*SLOW_PILOT, "--out", "out")

    def forkserver() -> bool:
        children = psutil.Process(process.pid).children()
        return any("forkserver" in " ".join(child.cmdline()) for child in children)

    until(forkserver, process)
    time.sleep(0.3)  # both are importing torch now
    ctrl_c(process)


def test_ctrl_c_while_workers_start_is_one_sentence(
    start: Callable[..., subprocess.Popen[str]], slow_task: Path, tmp_path: Path
) -> None:
    process = start(*SLOW_PILOT, "--out", "out")
    until((tmp_path / "out" / "runs.db").exists, process)
    time.sleep(0.2)
    ctrl_c(process)


def test_a_folder_has_one_pilot_at_a_time(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    task_file()
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        refused = paramcast(*SMALL, "--seeds", 2, "--out", "out")
    assert refused.code == 2
    assert "another paramcast is running in out; wait for it, or choose another" in refused.err
    assert os.listdir(tmp_path / "out") == [".lock"]
    with FileLock(tmp_path / "out" / ".lock"), Live(tmp_path / "out"):
        refused = paramcast(*SMALL, "--seeds", 2, "--out", "out")
    who = rf"process {os.getpid()} on {re.escape(socket.gethostname())}, since \d{{4}}-.* UTC"
    assert re.search(rf"is running in out \({who}\); wait for it, or choose anot", refused.err)
    assert paramcast(*SMALL, "--seeds", 2, "--out", "out").code == 0


# --- what is printed where ----------------------------------------------------------------------


def test_json_prints_nothing_but_json_even_if_the_task_prints(
    start: Callable[..., subprocess.Popen[str]],
    task_file: TaskFile,
    tmp_path: Path,
) -> None:
    file = task_file(more="print('loading the data')")
    process = start(*SMALL, "--seeds", 2, "--out", "out", "--json")
    out, err = process.communicate()
    assert process.returncode == 0
    assert err.startswith(f"paramcast: running the code in {file}, with your rights\n")
    # of workers, which may print at the same moment
    assert without_notice(err).replace("loading the data", "").strip() == ""
    assert strict_json(out) == json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))


def test_the_table_goes_to_standard_output_and_nothing_to_the_other(
    paramcast: Paramcast, task_file: TaskFile
) -> None:
    task_file()
    ran = paramcast(*SMALL, "--seeds", 2)
    assert ran.code == 0
    assert ran.said == ""
    start = (
        "blobs. As you train today: one learning rate for all, nothing is tuned.\n"
        "4 trainings of 10 steps, judged after 2 seeds, "
    )
    assert ran.out.startswith(start)
    folder = r"paramcast-runs/blobs-[0-9a-f]{8}"
    last = rf"Details: {folder}/result\.json\nReport: {folder}/report\.html\n$"
    assert re.search(last, ran.out)


@pytest.mark.parametrize(
    "words", [(), ("--quick",), ("--lr", 0.1)], ids=lambda w: " ".join(map(str, w))
)
def test_dry_run_runs_and_writes_nothing(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path, words: tuple[Any, ...]
) -> None:
    file = task_file(more="import multiprocessing\nassert multiprocessing.parent_process() is None")
    ran = paramcast("pilot", "blobs.py", *words, "--dry-run")
    # 12 + 8 tuning and 2 x 6 final runs at least; at most 12 + 15, and four arms twice 24 times
    least, usual, most = {0: (32, 59, 219), 1: (26, 35, 76), 2: (12, 36, 192)}[len(words)]
    assert ran.code == 0
    assert ran.said == ""
    trainings = f"{least} trainings at least, usually about {usual}, {most} at most"
    assert trainings in ran.out
    assert re.search(r"about \d+ (s|min); results would go to paramcast-runs/blobs-", ran.out)
    assert "arms: sgd, sgd-lr-matched, random-jump, plp (controls only where" in ran.out
    assert "differences of a margin, if the pairs spread (sd) by less than" in ran.out
    assert [p for p in tmp_path.iterdir() if p.name != "__pycache__"] == [file]


def test_dry_run_as_json_counts_what_will_run(
    paramcast: Paramcast, task_file: TaskFile, tmp_path: Path
) -> None:
    task_file()
    words = ("pilot", "blobs.py", "--quick", "--seeds", 2, "--json")
    promised = paramcast(*words, "--dry-run").result
    assert promised["seconds_per_run"] >= 0
    result = paramcast(*words).result
    runs = kept(tmp_path / result["out"] / "runs.db")
    assert promised["least_runs"] <= runs == cell(result)["trainings"] <= promised["most_runs"]
    assert result["out"] == promised["out"]
    assert cell(result)["learning_rates"]["tried"] == promised["learning_rates"]


def test_a_plan_gives_every_method_the_same_tuning(
    task_file: TaskFile, plan: Callable[..., Plan]
) -> None:
    planned = plan(task_file(), "plp, demon, nesterov, sign-flipped", lazy=False, speed="always")
    asked: dict[str, RunSpec] = {}

    def run(specs: list[RunSpec]) -> dict[str, Any]:
        asked.update((spec.key, spec) for spec in specs)
        return drawn({"plp": 0.1})(specs)

    follow(planned, run)
    tuned: dict[str, list[float]] = {}
    for spec in asked.values():
        if (spec.phase, spec.seed) == ("tune", 0):
            tuned.setdefault(spec.method, []).append(spec.lr)
    # derived controls are not tuned
    assert set(tuned) == {"base", "plp", "demon", "nesterov"}
    assert all(points == tuned["base"] for points in tuned.values())
    final = [spec for spec in asked.values() if spec.phase == "final"]
    assert {(spec.share, spec.seed) for spec in final} == {
        (share, seed) for share in (1.0, 0.8) for seed in range(3)
    }


def test_every_arm_runs_at_its_own_rate(task_file: TaskFile, plan: Callable[..., Plan]) -> None:
    planned = plan(task_file(), "plp, lookahead, demon, nesterov, sign-flipped")
    chosen = {"base": 0.1, "plp": 0.2, "lookahead": 0.3, "demon": 0.4, "nesterov": 0.5}
    rates = {row.name: row.lr for row in planned.rows(chosen)}
    assert rates == {
        "sgd": 0.1,
        "sgd-lr-matched of plp": pytest.approx(0.2 * 7 / 6),
        "random-jump of plp": 0.2,
        "sign-flipped of plp": 0.2,
        "sgd-lr-matched of lookahead": pytest.approx(0.3 * 0.5),
        "random-jump of lookahead": 0.3,
        "sign-flipped of lookahead": 0.3,
        "demon": 0.4,
        "nesterov": 0.5,
        "plp": 0.2,
        "lookahead": 0.3,
    }


def test_a_quick_pilot_and_a_whole_one_have_folders_of_their_own(
    task_file: TaskFile, plan: Callable[..., Plan]
) -> None:
    quick, whole = (plan(task_file(), "plp", lr=0.05, seeds=n, out=None) for n in (8, 24))
    assert quick.identity == whole.identity  # one may be extended to the other with --out
    assert quick.out != whole.out


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (("--max-runs", 40), "22 trainings at least, usually about 40, 40 at most (the budget"),
        (("--max-runs", 500), "32 trainings at least, usually about 59, 219 at most (the budget"),
    ],
)
def test_a_dry_run_knows_the_budget(
    paramcast: Paramcast, task_file: TaskFile, limit: tuple[Any, ...], said: str
) -> None:
    task_file()
    ran = paramcast("pilot", "blobs.py", *limit, "--dry-run")
    assert said in ran.out, ran.out
    # 10 of 40 tune at least, so 24 seeds of two arms are out of reach
    assert (" with 24 seeds" in ran.out) == (limit[1] == 500)
    assert " with 12 seeds" in ran.out
    refused = paramcast("pilot", "blobs.py", "--max-runs", 5, "--dry-run")
    assert refused.code == 2
    assert "the budget allows 5 trainings" in refused.err
