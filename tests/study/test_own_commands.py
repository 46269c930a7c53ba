"""Trainings that are commands: their words, their results, and what is left of them: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from command import Ran
from paramcast.errors import StudyError
from paramcast.report.html.load import read_runs
from paramcast.study.engines import devices
from paramcast.study.own.command import check_words, of_candidates, of_command, placeholders
from paramcast.study.own.run import RUNS, run_own
from paramcast.study.plan import Options, Plan
from paramcast.study.tasks.source import Source, load_subject
from paramcast.study.training.methods import Candidate
from runs import kept

PYTHON = sys.executable
RESULT = "print('{{\"accuracy\": 0.{seed}}}')"
"""A program whose accuracy is its seed behind the point; braces doubled as for a command."""


@pytest.fixture
def one_run(tmp_path: Path, monkeypatch: Any) -> Callable[..., dict[str, Any]]:
    """one_run(words...): the outcome of the base's command of a comparison, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, method: str = "base", seed: int = 3, **more: Any) -> dict[str, Any]:
        commands = (("base", check_words(words, "it")), ("new", ("true",)))
        source = Source("command", str(tmp_path), metric="accuracy", commands=commands, **more)
        subject = load_subject(source)
        options = Options(source, (Candidate("new"),), "own", (0.0, 0.0), 0, 0, "", lr=0.25)
        spec = Plan(options, subject, tmp_path / "out").spec(method, 0.25, "final", seed, 1.0)
        live = tmp_path / "out" / ".live" / "me"
        live.mkdir(parents=True, exist_ok=True)
        return run_own(spec, source, str(live))

    return run


def log(folder: Path) -> str:
    (path,) = folder.glob(f"out/{RUNS}/*/output.log")
    return path.read_text("utf-8", "replace")


def alive(mark: str) -> list[int]:
    """The living processes that have this word in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        dead = process.info["status"] == psutil.STATUS_ZOMBIE
        if mark in (process.info["cmdline"] or []) and not dead:
            found.append(process.pid)
    return found


def gone(mark: str, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(mark)


# --- words ---------------------------------------------------------------------------------------


def test_placeholders_become_parts_of_words_and_no_shell_reads_them(
    one_run: Any, tmp_path: Path
) -> None:
    show = "import sys, json; print(sys.argv[1:]); print(json.dumps({{'accuracy': 0.5}}))"
    words = ("a {seed}", "{lr}", "--x={share}", "$HOME; ls > here", "{{}}", "{device}", "`id`")
    assert one_run(PYTHON, "-c", show, *words)["status"] == "done"
    said = ["a 3", "0.25", "--x=1.0", "$HOME; ls > here", "{}", "cpu", "`id`"]
    assert log(tmp_path).splitlines()[0] == str(said)
    assert not (tmp_path / "here").exists()


def test_the_names_in_braces() -> None:
    assert [*placeholders("{lr}-{seed}{{x}}")] == ["lr", "seed"]
    with pytest.raises(
        StudyError, match=r"unknown placeholder \{rate\}; there are \{lr\}, \{seed\}"
    ):
        check_words(["train", "{rate}"], "the command")
    for odd in ("{", "{lr:.3f}", "{lr!r}", "{0}", "{}", "{lr.real}", "{lr[0]}"):
        with pytest.raises(StudyError, match="unknown placeholder"):
            check_words(["train", odd], "the command")


@pytest.mark.parametrize(
    ("base", "candidates", "message"),
    [
        ("a {seed}", ["base=b {seed}"], "two commands named base"),
        ("a {seed} {lr}", ["x=b {seed}"], r"\{lr\} is in the command of base but not in all"),
        ("a {seed}", ["x='b {seed}"], "cannot be read as a command"),
        ("", ["x=b {seed}"], "--base is empty"),
    ],
)
def test_commands_of_no_use(base: Any, candidates: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        of_candidates(base, candidates)


def test_the_files_that_a_command_names_are_part_of_what_it_is(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "train.py"
    source = of_command(["python", "train.py", "{seed}"])

    def fingerprint() -> str:
        return load_subject(Source(**{**vars(source), "metric": "accuracy"})).fingerprint()

    script.write_text("a")
    before = fingerprint()
    assert fingerprint() == before
    script.write_text("import other\n")
    changed = fingerprint()
    assert changed != before
    # a module beside it
    (tmp_path / "other.py").write_text("a = 1\n")
    assert fingerprint() not in (before, changed)


# --- results -------------------------------------------------------------------------------------

WAYS = {
    "the last line": RESULT,
    "among others": f"print('epoch 1'); {RESULT}; print()",
    "a file": "open('{result}', 'w').write('{{\"accuracy\": 0.{seed}}}'); print('{{}}')",
    "trial.done": "import paramcast; paramcast.trial().done(accuracy=0.{seed})",
}


@pytest.mark.parametrize("program", WAYS.values(), ids=WAYS)
def test_ways_to_hand_in_results(one_run: Any, program: str) -> None:
    outcome = one_run(PYTHON, "-c", program)
    assert outcome["status"] == "done", outcome
    assert outcome["test"]["metric"] == 0.3
    assert outcome["peak_memory"] > 2**20


def test_a_training_that_reports_and_diverges(one_run: Any) -> None:
    program = (
        "import paramcast; trial = paramcast.trial(); trial.steps(10)\n"
        "trial.report(1, train_loss=1.0); trial.report(2, train_loss=float('nan'))"
    )
    outcome = one_run(PYTHON, "-c", program)
    assert outcome["status"] == "diverged"
    assert outcome["divergence"] == {"how": "step", "step": 2}
    assert [point["train_loss"] for point in outcome["curve"]] == [1.0, None]


def test_a_result_that_is_not_a_number_diverged(one_run: Any) -> None:
    assert one_run(PYTHON, "-c", "print('{{\"accuracy\": NaN}}')")["status"] == "diverged"


def test_rank_0_alone_reports(one_run: Any) -> None:
    program = (
        "import os, subprocess, sys\n"
        "code = 'import os, paramcast; r = int(os.environ[\"RANK\"]);'\n"
        "code += 'paramcast.trial().done(accuracy=0.5 + r / 10)'\n"
        "for rank in '01':\n"
        "    subprocess.run([sys.executable, '-c', code], env={{**os.environ, 'RANK': rank}})"
    )
    assert one_run(PYTHON, "-c", program)["test"]["metric"] == 0.5


def test_a_result_is_found_behind_a_long_output_and_before_warnings(
    one_run: Any, tmp_path: Path
) -> None:
    warn = "import sys; print('a warning', file=sys.stderr)"
    program = f"print('first'); print(('x' * 1000 + chr(10)) * 2000); {RESULT}; {warn}"
    assert one_run(PYTHON, "-u", "-c", program)["test"]["metric"] == 0.3
    lines = log(tmp_path).splitlines()
    assert (lines[0], lines[-2:]) == ("first", ['{"accuracy": 0.3}', "a warning"])


def test_what_a_logger_writes_as_json_is_not_the_result(one_run: Any) -> None:
    logged = 'print(\'{{"level": "info", "message": "bye"}}\', file=sys.stderr)'
    assert one_run(PYTHON, "-uc", f"import sys; {RESULT}; {logged}")["test"]["metric"] == 0.3


FAULTS = {
    "no result": ("print('done')", "ended without a result; call trial.done(NAME=value)", True),
    "other names": ("print('{{\"acc\": 1}}')", "returned no accuracy, which is judged", True),
    "a list": ("print('[1]')", "ended without a result", True),
    "a text": ('print(\'{{"accuracy": "good"}}\')', "must be one number, got 'good'", True),
    "asks": ("input('name? ')", "asked for input, and nobody answers in a pilot", True),
    "fails": ("1 / 0", "ended with code 1: ZeroDivisionError: division by zero; what it", False),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "killed, probably because memory", False),
    "segfault": ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV", False),
    "a signal without a name": ("import os; os.kill(os.getpid(), 40)", "ended by signal 40", False),
    "its supervisor is killed": (
        "import os, time; os.kill(os.getppid(), 9); time.sleep(60)",
        "the command was killed from outside; what it printed is in",
        False,
    ),
    "nested": ("print('{{\"accuracy\": ' + '[' * 100000 + '}}')", "without a result", True),
}


@pytest.mark.parametrize(("program", "message", "misuse"), FAULTS.values(), ids=FAULTS)
def test_what_may_go_wrong(one_run: Any, program: str, message: str, misuse: bool) -> None:
    outcome = one_run(PYTHON, "-c", program)
    assert outcome["status"] == "failed"
    assert message in outcome["reason"]
    assert outcome.get("misuse", False) is misuse


def test_a_program_that_is_not_there(one_run: Any) -> None:
    outcome = one_run("no-such-program", "{seed}")
    assert "the command 'no-such-program' cannot be started (No such file" in outcome["reason"]
    assert outcome["misuse"]


def test_a_run_of_before_leaves_no_result(one_run: Any, tmp_path: Path) -> None:
    program = "open(r'{result}', 'x').write('{{\"accuracy\": 0.5}}')"
    assert one_run(PYTHON, "-c", program)["status"] == "done"
    assert one_run(PYTHON, "-c", program)["status"] == "done"


# --- processes -----------------------------------------------------------------------------------


def test_what_a_command_leaves_behind_ends_with_it(one_run: Any) -> None:
    """A grandchild in a session of its own, whose parent has ended."""
    mark = f"mark-{os.getpid()}-left"
    program = (
        "import subprocess, sys\n"
        "sleep = 'import time; time.sleep(600)'\n"
        f"subprocess.Popen([sys.executable, '-c', sleep, '{mark}'], start_new_session=True)\n"
    )
    assert one_run(PYTHON, "-c", program + RESULT)["status"] == "done"
    assert gone(mark, 0.5)


SLEEPS = """
import subprocess, sys, time
for _ in range(2):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[2]],
                     start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""


def pilot_of_sleepers(tmp_path: Path, mark: str) -> list[str]:
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    command = f"{PYTHON} sleeps.py {{seed}} {mark}"
    return ["pilot", "--metric", "accuracy", "--base", command, "--candidate", f"new={command}",
            "--seeds", "2", "--workers", "2", "--out", "out"]  # fmt: skip


@pytest.mark.slow  # the pilot is a process of its own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_pilot(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], how: signal.Signals
) -> None:
    mark = f"mark-{os.getpid()}-{how.name}"
    process = start(*pilot_of_sleepers(tmp_path, mark))
    end = time.monotonic() + 60
    while len(alive(mark)) < 6 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(alive(mark)) >= 6
    process.send_signal(how)
    _out, err = process.communicate(timeout=30)
    assert gone(mark)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "0 of 4 runs are kept" in err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_takes_too_long_ends_with_all_its_processes(
    tmp_path: Path, paramcast: Callable[..., Ran]
) -> None:
    mark = f"mark-{os.getpid()}-late"
    ran = paramcast(*pilot_of_sleepers(tmp_path, mark), "--timeout", 0.8, "--workers", 4)
    assert ran.code == 1
    assert "4 of 4 final runs failed twice" in ran.err
    assert "took longer than 0.8 s" in ran.err
    assert gone(mark)


KILLED = """
import json, os, signal, sys, time
try:
    open("killed-once", "x")
    os.kill(os.getppid(), signal.SIGTERM)  # the supervisor: nothing tells how this ends
    time.sleep(60)
except FileExistsError:
    print(json.dumps({"accuracy": float("0." + sys.argv[1])}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the command outlives its supervisor")
def test_a_run_that_is_killed_from_outside_is_tried_again(
    tmp_path: Path, paramcast: Callable[..., Ran]
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    command = f"{PYTHON} killed.py {{seed}}"
    words = ("--metric", "accuracy", "--base", command, "--candidate", f"new={command}")
    ran = paramcast("pilot", *words, "--seeds", 2, "--out", "out")
    assert ran.code == 0, ran.err
    runs, failures = read_runs(tmp_path / "out")
    assert [run.outcome["status"] for run in runs] == ["done"] * 4
    assert [each.status for each in failures] == ["failed"]
    assert "the command was killed from outside" in failures[0].reason


def test_a_command_sees_one_gpu(monkeypatch: Any) -> None:
    monkeypatch.setattr(devices, "_held", {"slot": (5, None)})
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_device("cpu") == ("cpu", {})
    assert devices.visible_device("cuda") == ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})
    assert devices.visible_device("cuda:0") == ("cuda", {"CUDA_VISIBLE_DEVICES": "0"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert devices.visible_device("cuda") == ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-b"})


# --- whole pilots --------------------------------------------------------------------------------

SCRIPT = """
import argparse, json, torch, paramcast

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
trial = paramcast.trial()
torch.manual_seed(args.seed)
weight = torch.randn(3, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=args.lr, momentum=0.5)
optimizer = trial.wrap(optimizer)
for step in range(trial.steps(20)):
    optimizer.zero_grad()
    loss = (weight * torch.tensor([1.0, 0.5, 0.1])).square().sum()
    loss.backward()
    optimizer.step()
    trial.report(step + 1, train_loss=loss)
trial.done(validation_loss=loss, accuracy=1 / (1 + loss.item()))
"""


@pytest.mark.slow  # every run imports torch
def test_a_pilot_of_a_command(tmp_path: Path, paramcast: Callable[..., Ran]) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = ("pilot", "--metric", "accuracy", "--lr-range", "0.05:0.5", "--trials", 1,
             "--trial-seeds", 1, "--seeds", 2, "--workers", 2, "--all-arms",
             "--out", "out", "--json",
             "--", PYTHON, "script.py", "--lr", "{lr}", "--seed", "{seed}")  # fmt: skip
    ran = paramcast(*words)
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    assert (judged["task"], judged["steps"], judged["early_steps"]) == ("script", 20, 16)
    assert [row["method"] for row in judged["table"]] == [
        "SGD", "SGD-lr-matched", "random-jump", "plp",
    ]  # fmt: skip
    assert "running" in ran.err
    assert "script.py" in ran.err
    assert (tmp_path / "out" / "report.html").is_file()
    assert ran.result["command"].endswith(
        f" --out out -- {PYTHON} script.py --lr '{{lr}}' --seed '{{seed}}'"
    )
    # the script alone trains as ever
    done = subprocess.run([PYTHON, "script.py"], cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_candidates_without_a_line_of_ours(tmp_path: Path, paramcast: Callable[..., Ran]) -> None:
    (tmp_path / "tree.py").write_text(
        "import json, random, sys\n"
        "random.seed(sys.argv[1])\n"
        "print(json.dumps(dict(rmse=random.random() + float(sys.argv[2]))))\n"
    )
    base, new = (f"{PYTHON} tree.py {{seed}} {shift}" for shift in (1, 0.5))
    words = ("--metric", "rmse", "--base", base, "--candidate", f"new={new}", "--seeds", 6)
    ran = paramcast("pilot", *words, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    assert judged["question"] == "commands"
    assert judged["verdicts"]["new"]["quality"]["kind"] == "adopt"
    assert judged["table"][1]["to_base"]["mean"] == pytest.approx(0.5)
    assert judged["verdicts"]["new"]["quality"]["cautions"] == ["no_control"]
    # more seeds, by the command that it names
    again = paramcast("pilot", *words[:-1], 12, "--out", "out", "--json")
    assert (again.code, again.result["reused_runs"]) == (0, 12)


def test_a_candidate_that_never_works_is_not_tried_on_every_seed(
    tmp_path: Path, paramcast: Callable[..., Ran]
) -> None:
    (tmp_path / "base.py").write_text("import sys\nprint('{\"rmse\": %s}' % sys.argv[1])\n")
    base, new = (f"{PYTHON} {name}.py {{seed}}" for name in ("base", "nowhere"))
    words = ("--metric", "rmse", "--base", base, "--candidate", f"new={new}", "--seeds", 6)
    ran = paramcast("pilot", *words, "--out", "out", "--workers", 1)
    assert ran.code == 1
    last = ran.err.splitlines()[-1]
    tried = re.search(r"([23]) of 12 final runs failed twice, (\d) more like them were not", last)
    assert tried is not None  # a worker may have begun the third before the second ended
    assert int(tried[1]) + int(tried[2]) == 6
    assert "can't open file" in last
    assert kept(tmp_path / "out/runs.db") == 6  # the base's


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "accuracy", "--epochs", 3, "--", "train"), "--epochs is for tasks"),
        (("--metric", "accuracy", "--base", "a {seed}", "--candidate", "x=b {seed}", "--lr", 1),
         "no command has {lr} in it"),
        (("--metric", "accuracy", "--base", "a {seed}", "--candidate", "x=b {seed}",
          "--methods", "plp"), "here each --candidate is a method"),
        (("--metric", "log_loss", "--lower-is-better"), "--higher-is-better is for trainings"),
        (("digits", "--tune-by", "x"), "--tune-by is for trainings of your own"),
    ],
)  # fmt: skip
def test_pilots_that_cannot_be(
    paramcast: Callable[..., Ran], words: tuple[Any, ...], message: str
) -> None:
    ran = paramcast("pilot", *words)
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err.splitlines()[-1], ran.err
    assert json.dumps(ran.err.splitlines()[-1]).startswith('"paramcast: ')
