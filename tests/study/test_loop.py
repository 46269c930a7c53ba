"""One run: against a plain loop written by hand, paired across methods, honest when it diverges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import schedulefree
import torch
import torch.nn.functional as nnf

from paramcast.study.spec import RunSpec, axis_seed
from paramcast.study.tasks.task import Examples, Prepared, total_steps
from paramcast.study.training.evaluating import evaluate, evaluation_weights
from paramcast.study.training.loop import lr_factor, run
from runs import run_spec, timeless

Make = Callable[..., Prepared]


def spec(prepared: Prepared, method: str = "base", **changes: Any) -> RunSpec:
    return run_spec(prepared, method=method, **changes)


# --- the twin: what a user would write ----------------------------------------------------------


def plain_loop(prepared: Prepared, s: RunSpec, *, plp: bool) -> torch.nn.Module:
    """SGD with a cosine schedule, and the textbook PLP with clones of the last three points."""
    task, train = prepared.task, prepared.train

    def seed(axis: str) -> int:
        return axis_seed(axis, s.phase, s.seed)

    torch.manual_seed(seed("initialisation"))
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=s.lr, momentum=0.9, weight_decay=1e-4)
    shuffle = torch.Generator().manual_seed(seed("order"))
    torch.manual_seed(seed("dropout"))
    total = round(s.share * s.epochs * math.ceil(len(train) / s.batch_size))
    step, points = 0, []
    while step < total:
        model.train()
        for batch in torch.randperm(len(train), generator=shuffle).split(s.batch_size):
            if step == total:
                break
            optimizer.param_groups[0]["lr"] = s.lr * (1 + math.cos(math.pi * step / total)) / 2
            optimizer.zero_grad()
            task.loss(model(train.inputs[batch]), train.targets[batch]).backward()
            optimizer.step()
            step += 1
            points.append([p.detach().clone() for p in model.parameters()])
            if plp and len(points) == 3:
                with torch.no_grad():
                    for p, p1, p2, p3 in zip(model.parameters(), *points, strict=True):
                        p.copy_(p3 + (p2 - p1) / 2)
                points = []
    return model.eval()


@pytest.mark.parametrize(
    ("method", "seed", "share"),
    [("base", 0, 1.0), ("base", 1, 0.8), ("plp", 0, 0.8), ("plp", 1, 1.0)],
)
def test_a_run_is_the_plain_loop_to_the_last_bit(
    prepared: Make, method: str, seed: int, share: float
) -> None:
    task = prepared()
    s = spec(task, method, seed=seed, share=share)
    outcome = run(s, task)
    model = plain_loop(task, s, plp=method == "plp")
    with torch.inference_mode():
        logits, train_logits = model(task.test.inputs), model(task.train.inputs)
    loss = float(nnf.cross_entropy(logits, task.test.targets))
    train_loss = float(nnf.cross_entropy(train_logits, task.train.targets))
    accuracy = float((logits.argmax(1) == task.test.targets).double().mean())
    assert outcome["status"] == "done"
    assert outcome["test"] == {"loss": loss, "metric": accuracy, "top1_error": 1 - accuracy}
    assert outcome["train_loss"] == train_loss
    assert outcome["gap"] == loss - train_loss
    assert outcome["steps"] == round(share * 16)


# --- pairing ------------------------------------------------------------------------------------

METHODS = [
    "base", "plp", "plp(horizon=0.5)", "secant", "lookahead", "least-squares", "demon", "nesterov",
    "random-jump:plp", "sign-flipped:plp",
]  # fmt: skip


class Recorder:
    """Keeps the initial weights, every batch, and the first loss of each run."""

    def __init__(self, make: Make) -> None:
        self.weights: list[torch.Tensor] = []
        self.batches: list[torch.Tensor] = []
        self.losses: list[float] = []
        plain = make().task

        def model() -> torch.nn.Module:
            built = plain.model()
            self.weights = [p.detach().clone() for p in built.parameters()]
            return built

        def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            noise = 0.1 * torch.randn(inputs.shape, generator=generator)
            self.batches.append(inputs + noise)
            return self.batches[-1]

        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            value = nnf.cross_entropy(outputs, targets)
            self.losses.append(float(value.detach()))
            return value

        self.task = make(model=model, augment=augment, loss=loss)

    def run(self, **settings: Any) -> tuple[list[torch.Tensor], list[torch.Tensor], float]:
        self.batches, self.losses = [], []
        run(spec(self.task, **settings), self.task)
        return self.weights, self.batches, self.losses[0]


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_methods_share_weights_batches_augmentation_and_dropout_of_a_seed(prepared: Make) -> None:
    recorder = Recorder(prepared)
    weights, batches, loss = recorder.run(method="base")
    assert len(batches) == 16
    for method in METHODS[1:]:
        other_weights, other_batches, other_loss = recorder.run(method=method)
        assert equal(weights, other_weights), method
        assert equal(batches, other_batches), method
        assert loss == other_loss, method  # the first step's dropout mask is the same


@pytest.mark.parametrize("other", [{"seed": 1}, {"phase": "tune"}])
def test_another_seed_or_phase_changes_them(prepared: Make, other: dict[str, Any]) -> None:
    recorder = Recorder(prepared)
    (weights, batches, _), (others, other_batches, _) = recorder.run(), recorder.run(**other)
    assert not equal(weights, others)
    assert not equal(batches, other_batches)


def test_a_short_run_sees_the_beginning_of_the_long_one(prepared: Make) -> None:
    recorder = Recorder(prepared)
    _, batches, _ = recorder.run()
    _, short, _ = recorder.run(share=0.8)
    assert len(short) == 13
    assert equal(short, batches[:13])


@pytest.mark.parametrize("method", ["base", "plp", "demon", "random-jump:plp"])
def test_the_same_seed_gives_the_same_bits(prepared: Make, method: str) -> None:
    task = prepared()
    one = timeless(run(spec(task, method), task))
    torch.randn(7)  # what ran in between changes nothing
    run(spec(task, "random-jump:plp", seed=3), task)
    assert timeless(run(spec(task, method), task)) == one


# --- steps and schedules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "share", "steps"),
    [
        (300, 32, 15, 1.0, 150),
        (300, 32, 15, 0.8, 120),
        (320, 32, 1, 1.0, 10),
        (321, 32, 1, 1.0, 11),
        (5, 32, 3, 1.0, 3),
        (60, 16, 4, 0.8, 13),  # 12.8
        (1, 1, 1, 0.1, 1),
    ],
)
def test_total_steps(examples: int, batch_size: int, epochs: int, share: float, steps: int) -> None:
    assert total_steps(examples, batch_size, epochs, share) == steps


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", {0: 1.0, 100: 1.0, 200: 1.0}),
        ("cosine", {0: 1.0, 50: (2 + 2**0.5) / 4, 100: 0.5, 200: 0.0}),
        # five triangles
        ("cyclic", {0: 1.0, 10: 1.5, 20: 2.0, 40: 1.0, 60: 2.0, 180: 2.0, 200: 1.0}),
        # ten steps of warm-up
        ("warmup", {0: 0.1, 4: 0.5, 9: 1.0, 200: 1.0}),
        ("wsd", {0: 0.1, 4: 0.5, 9: 1.0, 120: 1.0, 160: 0.5, 200: 0.0}),
    ],
)
def test_schedules_by_pencil(schedule: str, values: dict[int, float]) -> None:
    found = {t: lr_factor(schedule, t, 200) for t in values}
    assert found == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "warmup", "cosine", "cyclic", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3, 13, 150])
def test_every_schedule_is_finite_and_not_negative(schedule: str, steps: int) -> None:
    assert all(0 <= lr_factor(schedule, t, steps) <= 2 for t in range(steps + 1))
    assert lr_factor(schedule, 0, steps) > 0


def test_the_schedule_is_complete_whatever_the_share(prepared: Make) -> None:
    task = prepared(epochs=10)
    for share, last in ((1.0, 36), (0.8, 28)):
        curve = run(spec(task, share=share), task)["curve"]
        steps = curve[-1]["step"]
        assert steps == 40 * share
        # the rate at the beginning of the last epoch
        assert curve[-1]["lr"] == pytest.approx(0.1 * lr_factor("cosine", last, steps))


# --- what is recorded ---------------------------------------------------------------------------


def test_the_curve_has_a_point_per_epoch(prepared: Make) -> None:
    task = prepared()
    outcome = run(spec(task), task)
    assert set(outcome["test"]) == set(outcome["validation"])
    assert [point["step"] for point in outcome["curve"]] == [4, 8, 12, 16]
    assert outcome["curve"][-1]["validation_loss"] == outcome["validation"]["loss"]
    assert outcome["curve"][-1]["validation_metric"] == outcome["validation"]["metric"]
    seconds = [point["seconds"] for point in outcome["curve"]]
    assert seconds == sorted(seconds)
    assert outcome["seconds"] == seconds[-1] > 0
    assert outcome["peak_memory"] > 0


def test_a_tuning_run_does_not_look_at_the_test_split(prepared: Make) -> None:
    task = prepared()
    broken = Prepared(
        task.task, task.train, task.validation, Examples(torch.zeros(0), torch.zeros(0)),
        task.classes, task.prior,
    )  # fmt: skip
    outcome = run(spec(task, phase="tune"), broken)
    assert outcome["status"] == "done"
    assert not {"test", "gap"} & set(outcome)


@pytest.mark.parametrize(("classes", "recorded"), [(3, False), (19, False), (20, True)])
def test_top5_error_from_twenty_classes(prepared: Make, classes: int, recorded: bool) -> None:
    task = prepared(classes=classes)
    outcome = run(spec(task), task)
    assert ("top5_error" in outcome["test"]) == recorded
    # protocol §3: "the same on validation per epoch"
    assert all(("validation_top5_error" in point) == recorded for point in outcome["curve"])
    if recorded:
        logits = plain_loop(task, spec(task), plp=False)(task.test.inputs)
        best_five = logits.argsort(dim=1, descending=True)[:, :5]
        hits = [int(t) in row for t, row in zip(task.test.targets, best_five.tolist(), strict=True)]
        assert outcome["test"]["top5_error"] == pytest.approx(1 - sum(hits) / len(hits))


def test_a_large_split_is_evaluated_in_pieces_to_the_same_values(prepared: Make) -> None:
    task = prepared()
    many = Examples(task.test.inputs.repeat(60, 1), task.test.targets.repeat(60))
    model = task.task.model()
    whole, once = evaluate(model, task, many), evaluate(model, task, task.test)
    assert whole["metric"] == pytest.approx(once["metric"])
    assert whole["loss"] == pytest.approx(once["loss"], rel=1e-5)


# --- divergence ---------------------------------------------------------------------------------


def uneven(make: Make, **changes: Any) -> Prepared:
    """Half of the training examples in class 0, and other shares in the other splits."""

    def split(counts: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        noise = torch.randn(len(targets), 4, generator=torch.Generator().manual_seed(seed))
        return noise + targets[:, None], targets

    splits = {
        "train": split((40, 20, 20), 1),
        "validation": split((30, 20, 10), 2),
        "test": split((20, 20, 40), 3),
    }
    return make(**(splits | changes))


def constant_scores(counts: tuple[int, int, int]) -> dict[str, float]:
    """Of the prediction "half, a quarter, a quarter": always class 0."""
    logs = [math.log(share) for share in (0.5, 0.25, 0.25)]
    loss = -sum(n * log for n, log in zip(counts, logs, strict=True)) / sum(counts)
    accuracy = counts[0] / sum(counts)
    return {"loss": loss, "metric": accuracy, "top1_error": 1 - accuracy}


def regression(make: Make, **changes: Any) -> Prepared:
    def split(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(40, 4, generator=torch.Generator().manual_seed(seed))
        return x, x.sum(1, keepdim=True) + 1

    settings: dict[str, Any] = {
        "train": split(1), "validation": split(2), "test": split(3),
        "model": lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)),
        "loss": nnf.mse_loss, "metric": "mse",
    }  # fmt: skip
    return make(**(settings | changes))


def test_a_run_that_explodes_says_at_which_step_and_scores_as_the_mean(prepared: Make) -> None:
    losses: list[float] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        value = nnf.mse_loss(outputs, targets)
        if value.requires_grad:
            losses.append(float(value.detach()))
        return value

    task = regression(prepared, loss=loss)
    losses.clear()
    outcome = run(spec(task, lr=1e6), task)
    first = next(i for i, value in enumerate(losses, 1) if not math.isfinite(value))
    assert outcome["status"] == "diverged"
    assert outcome["divergence"]["step"] == first
    assert outcome["steps"] < 100
    error = float((task.test.targets - task.train.targets.mean()).square().mean())
    assert outcome["test"]["metric"] == pytest.approx(error)
    assert outcome["test"]["loss"] == pytest.approx(error)
    assert (outcome["gap"], outcome["train_loss"]) == (None, None)
    # strict JSON, in a tuning run too
    for each in (outcome, run(spec(task, lr=1e6, phase="tune"), task)):
        assert json.loads(json.dumps(each, allow_nan=False)) == each
        assert each["curve"][-1]["validation_loss"] is None


def test_a_run_that_ends_far_above_its_start_has_diverged(prepared: Make) -> None:
    task = uneven(prepared, model=lambda: torch.nn.Linear(4, 3))
    outcome = run(spec(task, lr=1e6), task)
    assert outcome["status"] == "diverged"
    assert outcome["divergence"]["how"] == "loss"
    assert outcome["test"] == pytest.approx(constant_scores((20, 20, 40)), rel=1e-3)
    assert outcome["validation"] == pytest.approx(constant_scores((30, 20, 10)), rel=1e-3)


@pytest.mark.parametrize(("lr", "learned"), [(1e-30, False), (0.05, True), (1e30, False)])
def test_a_run_tells_whether_it_is_better_than_a_constant(
    prepared: Make, lr: float, learned: bool
) -> None:
    def zero() -> torch.nn.Module:
        model = torch.nn.Linear(4, 3)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        return model

    task = uneven(prepared, model=zero)
    outcome = run(spec(task, lr=lr), task)
    assert outcome["learned"] is learned
    if lr < 1:  # one that learns nothing keeps its own value
        assert (outcome["status"], outcome["divergence"]) == ("done", None)


def test_memorised_labels_have_not_diverged(prepared: Make) -> None:
    """An overconfident model whose loss is above the constant's, but whose accuracy is not."""

    def noisy(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 4, generator=g)
        wrong = torch.rand(n, generator=g) < 0.15
        return x, ((x[:, 0] > 0) ^ wrong).long()

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))

    parts = {"train": noisy(1, 40), "validation": noisy(2, 400), "test": noisy(3, 40)}
    task = prepared(classes=2, model=model, **parts, epochs=120)
    outcome = run(spec(task, lr=0.5, epochs=120), task)
    constant = task.constant(task.validation)
    assert outcome["validation"]["loss"] > constant["loss"]
    assert outcome["validation"]["metric"] > constant["metric"] + 0.05
    assert outcome["status"] == "done"


def test_the_constant_predictor_is_the_best_constant_of_the_tasks_loss(prepared: Make) -> None:
    # A binary task with one output: the best constant is the log-odds, not the mean target.
    targets = (torch.arange(60) % 10 == 0).float()[:, None]
    split = (torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), targets)
    task = prepared(
        train=split, validation=split, test=split,
        model=lambda: torch.nn.Linear(4, 1),
        loss=nnf.binary_cross_entropy_with_logits,
        metric=lambda outputs, targets: ((outputs > 0) == targets).double().mean(),
    )  # fmt: skip
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert task.constant(task.test)["loss"] == pytest.approx(entropy, rel=1e-2)


def test_an_optimizer_with_weights_of_its_own_for_evaluation_is_asked_for_them() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    optimizer = schedulefree.SGDScheduleFree(model.parameters(), lr=0.5)
    optimizer.train()
    for batch in inputs.split(8):
        optimizer.zero_grad()
        model(batch).square().mean().add(model[0].weight.sum()).backward()
        optimizer.step()
    live, statistics = model[0].weight.detach().clone(), model[1].running_mean.clone()
    group = optimizer.param_groups[0]
    z, beta = optimizer.state[model[0].weight]["z"], group["momentum"]
    average = (live - (1 - beta) * z) / beta  # y = (1 - beta) z + beta x
    with evaluation_weights(optimizer, model, inputs, 8):
        torch.testing.assert_close(model[0].weight.detach(), average)
        means = torch.stack([model[0](batch).mean(0) for batch in inputs.split(8)]).mean(0)
        torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[0].weight.detach(), live)
    assert torch.equal(model[1].running_mean, statistics)
    assert group["train_mode"]


def test_schedule_free_trains_in_a_run(prepared: Make) -> None:
    task = prepared(epochs=4)
    outcome = run(spec(task, "schedule-free", schedule="warmup"), task)
    assert outcome["status"] == "done"
    assert outcome["test"]["metric"] > 0.7
