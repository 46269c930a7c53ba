"""Trainings of the user's: a function of one trial in a pilot, and what it may do wrong."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import paramcast
from command import Ran
from paramcast._directions import known_direction
from paramcast.errors import ArgumentError
from paramcast.report.html.load import load
from paramcast.report.html.report import build
from paramcast.study.course import metric_of
from paramcast.study.judging.sentences import advice, sentence
from paramcast.study.judging.verdict import PERCENT, Arm
from paramcast.study.own.declared import declare
from paramcast.study.own.run import RUNS, run_own
from paramcast.study.plan import Options, Plan
from paramcast.study.stored import read_result
from paramcast.study.tasks.source import Source, find, load_subject
from paramcast.study.training.methods import parse_methods
from paramcast.study.words import Words
from paramcast.trials import MOST_POINTS
from runs import cell

TRAINING = """
import torch

metric, lr_range = "accuracy", (0.05, 0.5)


def train(trial):
    generator = torch.Generator().manual_seed(trial.seed)
    weight = torch.randn(3, generator=generator).requires_grad_()
    steps = trial.steps(20)
    optimizer = trial.wrap(torch.optim.SGD([weight], lr=trial.lr, momentum=0.5))
    for step in range(steps):
        optimizer.zero_grad()
        loss = (weight * torch.tensor([1.0, 0.5, 0.1])).square().sum()
        loss.backward()
        optimizer.step()
        trial.report(step + 1, train_loss=loss, validation_loss=loss.item())
    with trial.eval_weights():
        error = weight.detach().square().sum().item()
    return {"validation_loss": error, "accuracy": 1 / (1 + error), "norm": weight.detach().norm()}
"""
"""A bowl with three slopes, whose start is random."""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(old="new"): the training as a file, with lines exchanged."""

    def make(text: str = TRAINING, **changes: str) -> Path:
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "bowl.py"
        file.write_text(textwrap.dedent(text), "utf-8")
        return file

    return make


@pytest.fixture
def one_run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """one_run(file, method="plp"): the outcome of a run, in this process."""

    def run(file: Path, item: str = "train", **changes: Any) -> dict[str, Any]:
        subject: Any = load_subject(find(f"{file}:{item}"))
        methods = changes.pop("methods", "plp")
        options = Options(
            subject.source, parse_methods(methods), "own", (0.1, 1.0), 0, 0, "", lr=0.1
        )
        plan = Plan(options, subject, tmp_path / "out")
        settings = {"method": "base", "lr": 0.1, "phase": "final", "seed": 0, "share": 1.0}
        spec = plan.spec(**{**settings, **changes})
        (tmp_path / "out" / ".live" / "me").mkdir(parents=True, exist_ok=True)
        return run_own(spec, subject.source, str(tmp_path / "out" / ".live" / "me"))

    return run


def in_function(body: str) -> str:
    return f"metric = 'accuracy'\ndef train(trial):\n{textwrap.indent(body, '    ')}\n"


# --- outside a pilot -----------------------------------------------------------------------------


def test_outside_a_pilot_a_trial_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    trial = paramcast.trial(lr=0.1, seed=3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=trial.lr)
    assert trial.wrap(optimizer) is optimizer
    assert (trial.seed, trial.steps(7), trial.method, trial.folder) == (3, 7, "base", Path())
    trial.report(1, train_loss=float("nan"))
    with trial.eval_weights():
        trial.done(accuracy=0.5)
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(ArgumentError, match=r"give one to use there: paramcast\.trial\(lr=0\.1\)"):
        paramcast.trial().lr  # noqa: B018


# --- one run -------------------------------------------------------------------------------------


def test_a_run_has_the_outcome_of_a_tasks_run(write: Write, one_run: Any, tmp_path: Path) -> None:
    outcome = one_run(write())
    assert outcome["status"] == "done", outcome
    assert (outcome["steps"], outcome["metric_name"]) == (20, "accuracy")
    error = outcome["validation"]["loss"]
    assert outcome["test"] == {"metric": 1 / (1 + error), "loss": None}
    assert outcome["measures"] == {"norm": pytest.approx(error**0.5)}
    assert outcome["used"] == {"wrap": True, "share": True, "seed": True, "lr": True}
    curve = outcome["curve"]
    assert [point["step"] for point in curve] == [*range(1, 21)]
    assert curve[0]["train_loss"] == pytest.approx(curve[0]["validation_loss"])
    # with a folder of its own
    (folder,) = (tmp_path / "out" / RUNS).iterdir()
    assert (folder / "output.log").read_text() == ""


def test_equal_runs_are_bitwise_equal_and_seeds_differ(write: Write, one_run: Any) -> None:
    file = write()
    a, b, c = (one_run(file, seed=seed)["test"] for seed in (0, 0, 1))
    assert a == b != c
    assert one_run(file, seed=0, phase="tune")["test"] != a  # tuning has seeds of its own


def test_the_function_by_hand_is_the_run(write: Write, one_run: Any) -> None:
    """What `wrap` puts on is what a user would: PLP around their optimizer."""
    outcome = one_run(write(), method="plp", seed=2)
    weight = torch.randn(3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    optimizer = paramcast.PLP(torch.optim.SGD([weight], lr=0.1, momentum=0.5))
    for _ in range(20):
        optimizer.zero_grad()
        (weight * torch.tensor([1.0, 0.5, 0.1])).square().sum().backward()
        optimizer.step()
    assert outcome["validation"]["loss"] == weight.square().sum().item()


@pytest.mark.parametrize("method", ["random-jump:plp", "sign-flipped:plp", "ema", "demon",
                                    "gradient-noise", "lookahead", "primal-averaging"])  # fmt: skip
def test_every_method_that_can_be_put_on_changes_the_run(
    write: Write, one_run: Any, method: str
) -> None:
    file = write()
    methods = "plp" if ":" in method else method
    base, other = (one_run(file, methods=methods, method=m) for m in ("base", method))
    assert other["status"] == "done", other
    assert other["test"] != base["test"]


def test_a_curve_of_very_many_points_is_thinned_out(write: Write, one_run: Any) -> None:
    outcome = one_run(write(**{"steps(20)": "steps(3000)"}))
    steps = [point["step"] for point in outcome["curve"]]
    assert len(steps) <= MOST_POINTS
    assert steps == sorted(steps)
    assert steps[0] < 50
    assert steps[-1] > 2900


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(write: Write, one_run: Any) -> None:
    outcome = one_run(write(**{"lr=trial.lr": "lr=1e30 * trial.lr"}))
    assert outcome["status"] == "diverged"
    assert outcome["divergence"]["how"] == "step"
    assert outcome["divergence"]["step"] < 10
    assert outcome["validation"] == {"loss": None}
    # and so does a result
    assert one_run(write(**{"1 / (1 + error)": "float('nan')"}))["status"] == "diverged"


def test_what_it_prints_goes_into_its_log(write: Write, one_run: Any, tmp_path: Path) -> None:
    one_run(write(**{"steps = ": "print('half \\ud800'); steps = "}))
    (log,) = tmp_path.glob(f"out/{RUNS}/*/output.log")
    assert log.read_text() == "half \\ud800\n"


def test_val_loss_tunes_where_nothing_else_is_said(write: Write, one_run: Any) -> None:
    usual = one_run(write(), phase="tune")
    short = one_run(write(validation_loss="val_loss"), phase="tune")
    for part in ("validation", "measures"):
        assert short[part] == usual[part]
    assert [p["validation_loss"] for p in short["curve"]] == [
        p["validation_loss"] for p in usual["curve"]
    ]
    both = write(**{'"validation_loss": error': '"validation_loss": error, "val_loss": 7.0'})
    assert one_run(both, phase="tune")["validation"] == usual["validation"]
    judged = write(
        **{'"accuracy", (': '"val_loss", (', '"validation_loss": error': '"val_loss": 1.0'}
    )
    assert "returned no validation_loss" in one_run(judged, phase="tune")["reason"]


def test_trial_done_will_do_instead_of_returning(write: Write, one_run: Any) -> None:
    returned = one_run(write())
    told = one_run(write(**{"return {": "trial.done(**{", ".norm()}": ".norm()})"}))
    assert (told["test"], told["measures"]) == (returned["test"], returned["measures"])
    same = "import paramcast; assert paramcast.trial() is trial; steps = "
    assert one_run(write(**{"steps = ": same}))["status"] == "done"


# --- what it may do wrong ------------------------------------------------------------------------

MISUSES = {
    "nothing": ("return", "returned nothing; return its results by name"),
    "a number": ("return 0.5", "returned 0.5; return its results by name"),
    "no dict": ("return [1]", r"returned \[1\]; return"),
    "a tensor": (
        "import torch\nreturn {'accuracy': torch.zeros(3)}",
        r"the result accuracy must be one number, got a Tensor of shape \(3,\); reduce it",
    ),
    "a text": ("return {'accuracy': 'good'}", "must be one number, got a str"),
    "other names": (
        "return {'acc': 0.5}", r"returned no accuracy, which is judged \(it returned \['acc'\]\)",
    ),
    "per cent": ("return {'accuracy': 93.0}", "must be from 0 to 1, got 93; divide it by 100"),
}  # fmt: skip
WRAPPED = """
import torch
trial.seed, trial.lr
o = trial.wrap(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
o.step()
"""


@pytest.mark.parametrize(("body", "message"), MISUSES.values(), ids=MISUSES)
def test_results_of_no_use(write: Write, one_run: Any, body: str, message: str) -> None:
    outcome = one_run(write(in_function(WRAPPED + body)))
    assert outcome["status"] == "failed"
    assert outcome["misuse"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(outcome["reason"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trial.wrap(torch.optim.SGD([weight], lr=trial.lr, momentum=0.5))":
          "torch.optim.SGD([weight], lr=trial.lr)"}, "never called trial.wrap"),
        ({"optimizer = trial.wrap(torch.optim.SGD([weight], lr=trial.lr, momentum=0.5))":
          "optimizer = torch.optim.SGD([weight], lr=trial.lr); trial.wrap(optimizer)"},
         "stepped another optimizer"),
        ({"lr=trial.lr": "lr=0.1"}, "never asked for its learning rate"),
        ({"trial.steps(20)": "trial.steps(0)"}, "needs your usual number of steps"),
        ({"train_loss=loss,": "train_loss=[1],"}, "train_loss must be one number, got a list"),
        ({"torch.optim.SGD([weight], lr=trial.lr, momentum=0.5)": "trial.lr"},
         "takes a torch optimizer or an optax transformation, got float"),
    ],
)  # fmt: skip
def test_a_training_that_does_not_do_its_part(
    write: Write, one_run: Any, changes: dict[str, str], message: str
) -> None:
    outcome = one_run(write(**changes), method="plp")
    assert outcome["status"] == "failed"
    assert outcome["misuse"]
    assert message in outcome["reason"]


def test_an_average_needs_the_number_of_steps(write: Write, one_run: Any) -> None:
    outcome = one_run(write(**{"trial.steps(20)": "20"}), methods="ema", method="ema")
    assert "call trial.steps(TOTAL) before trial.wrap" in outcome["reason"]


def test_an_error_has_its_line(write: Write, one_run: Any) -> None:
    outcome = one_run(write(**{"error = ": "error = 1 / 0 * "}))
    said, _, where = outcome["reason"].partition("; the traceback is in ")
    assert said == "ZeroDivisionError: division by zero (line 19)"
    assert "Traceback (most recent call last)" in Path(where).read_text("utf-8")


# --- what is declared ----------------------------------------------------------------------------


def test_directions_that_names_tell() -> None:
    for name in ("validation_loss", "top1_error", "perplexity", "rmse", "wer", "eval/mape",
                 "top5_err", "brier_score", "metrics.valid_loss"):  # fmt: skip
        assert known_direction(name) is False
    for name in ("accuracy", "val_acc", "episode_return", "auroc", "r2", "map", "top1", "test/mIoU",
                 "AP", *PERCENT):  # fmt: skip
        assert known_direction(name) is True
    for name in ("speed", "mapping", "lapse", "params.lr"):
        assert known_direction(name) is None


HERE = Source("trial", "a.py", "train")


@pytest.mark.parametrize(
    ("name", "metric"),
    [("val_acc", "accuracy"), ("test_accuracy", "accuracy"), ("eval/f1", "f1"), ("AUC", "auroc"),
     ("balanced_acc", "balanced_accuracy"), ("test_reward", "test_reward")],
)  # fmt: skip
def test_a_share_is_in_per_cent_by_whichever_name(name: str, metric: str) -> None:
    assert declare(HERE, {"metric": name}).judged == metric
    assert declare(replace(HERE, higher_is_better=False), {"metric": name}).judged == name


def test_an_accuracy_of_another_name_has_an_accuracys_margin(write: Write, one_run: Any) -> None:
    file = write(**{'"accuracy"': '"val_acc"'})
    outcome = one_run(file)
    assert outcome["metric_name"] == "accuracy"
    subject: Any = load_subject(find(f"{file}:train"))
    options = Options(subject.source, parse_methods("plp"), "own", (0.1, 1.0), 0, 0, "", lr=0.1)
    base = Arm("base", "base", 0.1, (0.9, 0.92), (), (False, False), ())
    metric = metric_of(Plan(options, subject, Path("out")), base)
    assert (metric.percent, metric.margin) == (True, 0.005)  # half a point, not 5 % of 0.91


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({}, "which result of a.py is judged? Name it with --metric NAME"),
        ({"x": 1}, 'or metric = "NAME" in the file'),
        ({"metric": 3}, "metric in a.py must be a name in quotes, got 3"),
        ({"metric": "speed"}, "is a higher speed better?"),
        ({"metric": "accuracy", "tune_by": "speed"}, "its name does not say whether"),
        ({"metric": "accuracy", "lr_range": (1, 0.1)}, "lr_range in a.py must satisfy 0 < low"),
        ({"metric": "accuracy", "margin": [1]}, "margin in a.py must be a number"),
    ],
)
def test_declarations_of_no_use(module: Any, message: str) -> None:
    with pytest.raises(paramcast.ParamcastError) as caught:
        declare(HERE, module)
    assert message in str(caught.value)


def test_the_command_line_goes_before_the_file() -> None:
    source = replace(HERE, metric="speed", higher_is_better=False)
    found = declare(source, {"metric": "accuracy", "margin": 2, "higher_is_better": True})
    assert (found.metric, found.higher_is_better, found.margin) == ("speed", False, "2")


# --- a whole pilot -------------------------------------------------------------------------------

QUICK = ("--trials", 2, "--trial-seeds", 2, "--seeds", 6, "--workers", 2)


def test_a_pilot_of_a_function(write: Write, paramcast: Callable[..., Ran], tmp_path: Path) -> None:
    write()
    ran = paramcast(
        "pilot", "bowl.py:train", *QUICK, "--margin", "20%", "--all-arms", "--out", "out", "--json"
    )
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    assert (judged["task"], judged["steps"], judged["early_steps"]) == ("bowl", 20, 16)
    assert [row["method"] for row in judged["table"]] == [
        "SGD", "SGD-lr-matched", "random-jump", "plp",
    ]  # fmt: skip
    stored = cell(read_result(tmp_path / "out"))
    said = " ".join(
        say(v, stored["metric"], Words("en"))
        for answers in stored["verdicts"].values()
        for v in answers.values()
        for say in (sentence, advice)
    )
    assert "SGD" in said
    assert not re.search(r"\bbase\b", said)
    assert judged["metric"]["name"] == "accuracy"
    assert ran.err.count("running the code in") == 1
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert '<th scope="col">norm</th>' in page  # the other result
    # the same again trains nothing
    words = (*QUICK, "--margin", "20%", "--all-arms", "--out", "out", "--json")
    again = paramcast("pilot", "bowl.py:train", *words)
    assert again.result["reused_runs"] == len(list((tmp_path / "out" / RUNS).iterdir()))


def test_the_command_that_goes_on_plans_the_same_runs(
    write: Write, paramcast: Callable[..., Ran]
) -> None:
    write(**{'"accuracy", (0.05, 0.5)': '"speed", None', '"accuracy":': '"speed":'})
    words = ("--metric", "speed", "--lower-is-better", "--tune-by", "validation_loss",
             "--lr-range", "0.05:0.5", *QUICK, "--margin", "20%")  # fmt: skip
    ran = paramcast("pilot", "bowl.py:train", *words, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    command = ran.result["command"]
    assert "--metric speed --lower-is-better --tune-by validation_loss" in command
    assert "--lr-range 0.05:0.5" in command


REFUSED = {
    "ignores the seed": ({"manual_seed(trial.seed)": "manual_seed(0 * trial.seed)"}, (),
                         "runs with different seeds are exactly the same"),
    "two arguments": ({"train(trial)": "train(trial, other)"}, (), "needs the arguments trial"),
    "no range": ({"(0.05, 0.5)": "None"}, (), "Say it with --lr-range LOW:HIGH"),
    "epochs": ({}, ("--epochs", 3), "--epochs is for tasks"),
    "a base": ({}, ("--base", "adamw"), "--base is for tasks"),
    "nesterov": ({}, ("--methods", "nesterov"), "makes an optimizer of its own"),
    "drift": ({}, ("--methods", "plp(on_drift='reset')"), "only a task with a stream"),
    "no loss": ({'"validation_loss": error, "acc': '"acc'}, (),
                "no validation_loss, by which learning rates are chosen"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_a_pilot_that_cannot_be(
    write: Write, paramcast: Callable[..., Ran], changes: Any, words: Any, message: str
) -> None:
    write(**changes)
    ran = paramcast("pilot", "bowl.py:train", *QUICK, *words, "--out", "out")
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err
    assert ran.err.count("Traceback") == 0
    last = ran.err.splitlines()[-1]
    assert last.startswith("paramcast: ")


def test_one_seed_that_fails_leaves_the_others(
    write: Write, paramcast: Callable[..., Ran], tmp_path: Path
) -> None:
    write(**{"steps = ": "assert (trial.seed, trial.phase) != (3, 'final'); steps = "})
    ran = paramcast("pilot", "bowl.py:train", *QUICK, "--out", "out")
    assert ran.code == 1
    assert "2 of 12 final runs failed twice" in ran.err
    assert "AssertionError" in ran.err
    assert "if it is the learning rate" not in ran.err
    # mended, and nothing that had finished runs again: the code is another, so this is a new pilot
    write()
    assert (
        "the task's data or code changed"
        in paramcast("pilot", "bowl.py:train", *QUICK, "--out", "out").err
    )


def test_a_rate_at_which_it_raises_says_what_to_do(
    write: Write, paramcast: Callable[..., Ran]
) -> None:
    write(**{"(0.05, 0.5)": "(0.05, 5.0)", "steps = ": "assert trial.lr < 1; steps = "})
    ran = paramcast("pilot", "bowl.py:train", *QUICK, "--out", "out")
    assert ran.code == 1
    assert "1 of 2 tuning runs failed twice" in ran.err
    assert "narrow --lr-range, or end the training with a loss of NaN there" in ran.err


def test_a_study_says_that_it_needs_a_task(
    write: Write, paramcast: Callable[..., Ran], tmp_path: Path
) -> None:
    write()
    (tmp_path / "s.toml").write_text(
        'name = "s"\nquestion = "?"\n[[grid]]\ntask = "bowl.py:train"\nmethods = ["plp"]\n'
        "seeds = 2\n",
        "utf-8",
    )
    ran = paramcast("study", "run", "s.toml")
    assert ran.code == 2
    assert "trains by itself" in ran.err


def test_a_training_that_ignores_its_share_is_not_judged_for_speed(
    write: Write, paramcast: Callable[..., Ran]
) -> None:
    write(**{"steps = trial.steps(20)": "trial.steps(20); steps = 20"})
    words = (*QUICK, "--margin", "20%", "--all-arms", "--out", "out", "--json")
    ran = paramcast("pilot", "bowl.py:train", *words)
    assert ran.code == 0, ran.err
    (judged,) = ran.result["cells"]
    assert "speed" not in judged["verdicts"]["plp"]
    assert {"note": "fixed_steps"} in judged["notes"]


def test_a_rate_at_which_it_diverges_is_in_the_report(
    write: Write, paramcast: Callable[..., Ran], tmp_path: Path
) -> None:
    write(**{"(0.05, 0.5)": "(0.05, 5000.0)"})
    ran = paramcast("pilot", "bowl.py:train", *QUICK, "--no-speed", "--out", "out")
    assert ran.code == 0, ran.err
    assert "Report: out" in ran.out
    page = build(load(tmp_path / "out"), Words("en"))
    (tuning,) = (c for c in page["cells"][0]["charts"] if c["id"] == "tuning")
    (lost,) = (row for row in tuning["table"]["rows"] if row[:2] == ["SGD", "5000"])
    assert lost[2:] == ["\u2013", "diverged", ""]
    (line,) = (trace for trace in tuning["views"][0]["data"] if trace["name"] == "SGD")
    assert [value is None for value in line["y"]] == [False, True]
    assert page["reads"]["failed_read"].startswith("A diverged run is scored as the worst value")


def test_tuning_by_what_is_judged_is_said(write: Write, paramcast: Callable[..., Ran]) -> None:
    write()
    ran = paramcast("pilot", "bowl.py:train", "--tune-by", "accuracy", "--dry-run")
    assert ran.code == 0, ran.err
    assert "Learning rates are chosen by accuracy, which is also judged" in ran.err
    ran = paramcast("pilot", "bowl.py:train", "--tune-by", "accuracy", "--lr", 0.1, "--dry-run")
    assert "which is also judged" not in ran.err


def test_one_test_example_decides_nothing_where_their_number_is_told(
    write: Write, paramcast: Callable[..., Ran]
) -> None:
    write()
    words = ("--lr", 0.1, "--seeds", 6, "--no-speed", "--json")
    known = paramcast("pilot", "bowl.py:train", *words, "--test-examples", 20, "--out", "known")
    assert known.code == 0, known.err
    (judged,) = known.result["cells"]
    assert judged["metric"]["half_example"] == pytest.approx(0.5 / 20)
    unknown = paramcast("pilot", "bowl.py:train", *words, "--out", "unknown")
    assert unknown.result["cells"][0]["metric"]["half_example"] == 0.0
