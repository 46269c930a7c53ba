"""Folders as a pilot and a study leave them, from drawn outcomes instead of trainings.

Everything but the trainings is real: plans, keys, store, choice of rates, verdicts, files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paramcast.study.grid.cells import make_cells
from paramcast.study.grid.file import read
from paramcast.study.plan import Options, Plan
from paramcast.study.result import summarise
from paramcast.study.spec import ALWAYS, RunSpec
from paramcast.study.store.folder import write_json
from paramcast.study.store.store import Store
from paramcast.study.tasks.source import find
from paramcast.study.tasks.task import Task, prepare, total_steps
from paramcast.study.training.methods import parse_methods
from runs import follow, whole

EXAMPLES = 100
TESTED = 2000
"""Test examples: with as few as train, half of one would fill the margin."""
EVIL = "<img src=x onerror=alert(1)>"
"""A name that would be code, if a page took it for code."""
ENVIRONMENT = {
    "paramcast": "0.1.0", "torch": torch.__version__, "python": "3.11.7", "platform": "Linux",
    "cpu": "a processor", "cpus": 2, "gpu": None, "threads_per_run": 1, "git_commit": None,
}  # fmt: skip


def make_task(name: str, classes: int, **changes: Any) -> Any:
    train, test = (
        (torch.zeros(n, 2), torch.arange(n) % classes) for n in (EXAMPLES, TESTED)
    )  # fmt: skip
    return prepare(Task(name, lambda: torch.nn.Linear(2, classes), train, train, test, **changes))


def draw(spec: RunSpec, steps: int, classes: int, effects: dict[str, float]) -> dict[str, Any]:
    """An outcome: the seed decides most, the method's effect is added to the accuracy."""
    shared = np.random.default_rng([spec.seed, spec.phase == "tune"])
    own = np.random.default_rng(list(f"{spec.method}{spec.lr}{spec.share}{spec.seed}".encode()))
    end = 0.9 + 0.02 * shared.standard_normal() + 0.002 * own.standard_normal()
    end += effects.get(spec.method, 0.0) - 0.01 * (1 - spec.share)
    end -= 0.03 * abs(math.log10(spec.lr / 0.05))
    end = min(1.0, max(0.0, end))
    curve = []
    for epoch in range(1, spec.epochs + 1):
        share = epoch / spec.epochs
        value = end * (1 - math.exp(-5 * share)) / (1 - math.exp(-5))
        curve.append(
            {
                "step": round(steps * share), "lr": spec.lr, "seconds": 2 * share * spec.share,
                "train_loss": 1.2 - value, "validation_loss": 1.3 - value,
                "validation_metric": value, "validation_top1_error": 1 - value,
            }
        )  # fmt: skip
        if spec.phase == "final" and "plp" in spec.method:
            curve[-1]["predictions"] = draw_predictions(epoch, share, spec)
    split = {"metric": end, "loss": 1.2 - end, "top1_error": 1 - end}
    if classes >= 20:
        split["top5_error"] = (1 - end) / 4
    outcome: dict[str, Any] = {
        "status": "done", "divergence": None, "steps": steps, "seconds": 2 * spec.share,
        "peak_memory": 400 * 2**20, "curve": curve, "metric_name": "accuracy",
        "validation": dict(split), "measures": {},
    }  # fmt: skip
    if spec.phase == "final":
        outcome.update(test=dict(split), train_loss=0.1, gap=0.05)
    return outcome


def draw_predictions(epoch: int, share: float, spec: RunSpec) -> dict[str, Any]:
    """Ten an epoch; long ones in the first two, scored ones in every other."""
    found: dict[str, Any] = {"count": 10, "accepted": 1.0, "relative_jump": 0.006 * (1 - share)}
    found["scored"] = 2 * (epoch % 2)
    if epoch % 2:
        agreement = 0.0 if ":" in spec.method else 0.8
        found |= {"cosine": agreement + 0.01 * spec.seed, "error": 1 - agreement + 0.1 * share}
    if epoch <= 2:
        step = 10 * epoch - 7
        found["anomalies"] = [{"rule": "jump", "action": "none", "step": step, "count": 8 // epoch}]
    return found


def diverge(outcome: dict[str, Any], classes: int) -> None:
    constant = {"metric": 1 / classes, "loss": math.log(classes), "top1_error": 1 - 1 / classes}
    outcome.update(
        status="diverged", divergence={"how": "step", "step": 7}, validation=constant,
        test=constant, train_loss=None, gap=None, curve=outcome["curve"][:1],
    )  # fmt: skip
    outcome["curve"][0]["validation_metric"] = None


def write_pilot(
    folder: Path,
    *,
    name: str = "digits",
    methods: str = "demon, plp",
    seeds: int = 8,
    classes: int = 10,
    effects: dict[str, float] | None = None,
    diverged: tuple[tuple[str, int], ...] = (),
    not_learned: tuple[tuple[str, int], ...] = (),
    predictions: dict[str, int] | None = None,
    failed: tuple[tuple[int, str], ...] = (),
    **changes: Any,
) -> dict[str, Any]:
    """A finished pilot; what its result.json holds.

    Args:
        effects: what a method adds to the accuracy, by its name in the runs.
        diverged: runs (method, seed) that did, at the end and at 0.8 T.
        not_learned: runs (method, seed) that ended no better than a constant prediction.
        failed: attempts (seed, reason) of plp that did.
        predictions: made and written by each final run of plp.
        changes: of the options.
    """
    prepared = make_task(name, classes)
    settings: dict[str, Any] = {
        "source": find("digits"), "methods": parse_methods(methods), "base": "sgd", "lr": None,
        "lr_range": (0.003, 0.3), "trials": 4, "trial_seeds": 2, "seeds": seeds, "epochs": 6,
        "batch_size": 10, "schedule": "cosine", "margin": None, "device": "cpu",
        "speed": ALWAYS, "lazy": False, "once": True,
    }  # fmt: skip
    plan = Plan(Options(**(settings | changes)), prepared, folder)

    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "runs.db")
    store.adopt(
        "specification", {"kind": "pilot", "identity": plan.identity, **plan.specification()}
    )

    def run(specs: list[RunSpec]) -> dict[str, Any]:
        ended = {}
        for spec in specs:
            steps = total_steps(EXAMPLES, spec.batch_size, spec.epochs, spec.share)
            outcome = draw(spec, steps, classes, effects or {})
            if spec.phase == "final" and (spec.method, spec.seed) in diverged:
                diverge(outcome, classes)
            if spec.phase == "final" and spec.method == "plp" and predictions is not None:
                outcome["predictions"] = predictions
            outcome["learned"] = (spec.method, spec.seed) not in diverged + not_learned
            ended[spec.key] = outcome
            store.put(spec, outcome, ENVIRONMENT)
        return ended

    course, outcomes = follow(plan, run)
    for seed, reason in failed:
        spec = plan.spec("plp", course.chosen["plp"], "final", seed, 1.0)
        store.put_failure(spec, {"status": "failed", "reason": reason})
    store.add_look(seeds)
    store.close()
    result = whole(
        summarise(plan, course, outcomes, [2 * seeds, 4 * seeds], 2), identity=plan.identity,
        command=plan.command(seeds), out=str(folder), environment=ENVIRONMENT, wall_seconds=12.5,
    )  # fmt: skip
    write_json(folder / "result.json", result)
    return result


STUDY = """
name = "small"
question = "Does PLP help <at> any rate?"
notes = ["Six cells & a note of my own."]

[[grid]]
task = "digits"
methods = ["plp"]
seeds = 6
epochs = 4
batch_size = [16, 32]
lr = [0.01, 0.05, 0.2]
"""


def write_study(folder: Path, text: str = STUDY) -> dict[str, Any]:
    """A finished study; what result.json holds."""
    study = read(text, "study.toml")
    cells = make_cells(study, folder, device="cpu", data_dir=None)
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "runs.db")
    store.adopt(
        "specification", {"kind": "study", "name": study.name, "text": text, "device": "cpu"}
    )

    def run(specs: list[RunSpec]) -> dict[str, Any]:
        ended = {}
        for spec in specs:
            effect = {"plp": 0.02 - 0.4 * spec.lr}
            ended[spec.key] = draw(spec, 10 * spec.epochs, 10, effect)
            store.put(spec, ended[spec.key], ENVIRONMENT)
        return ended

    results = []
    for cell in cells:
        course, outcomes = follow(cell.plan, run)
        result = summarise(cell.plan, course, outcomes)
        results.append({**result, "settings": cell.settings, "label": cell.label})
    store.close()
    written = whole(
        *results, kind="study", name=study.name, question=study.question, notes=list(study.notes),
        environment=ENVIRONMENT, wall_seconds=30.0, text=text, out=str(folder),
        command=f"paramcast study resume {folder}",
    )  # fmt: skip
    write_json(folder / "result.json", written)
    return written
