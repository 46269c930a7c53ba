"""A task: data, model, loss and metric as the user writes them, and as tensors to train on."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from ...errors import TaskError
from ..judging.verdict import PERCENT
from ..reading import is_text, shown
from ..spec import BASES, SCHEDULES
from .description import Description
from .scores import RANKING, SCORES, measure
from .streams import Stream, check_stream, digest

# inputs and targets as two tensors or arrays, or a dataset of such pairs
Split = tuple[Any, Any] | Dataset[Any]

TOP5_FROM = 20  # top-5 error is recorded with at least this many classes


@dataclass(frozen=True)
class Task:
    """What a comparison trains, and how.

    Args:
        name: shown in tables.
        model: builds a fresh model; called after the seed is set, so draw from torch's generator.
        train, validation, test: inputs and targets, as two tensors (first dimension: examples) or
            a dataset of pairs, which is read once into memory. Learning rates are chosen on
            validation, the verdict is read off test.
        loss: loss(outputs, targets), a mean over the batch.
        metric: for labels "accuracy" (of the largest output), "balanced_accuracy", "f1", "auroc",
            "average_precision" or "log_loss"; for numbers "mse", "rmse", "mae" or "r2"; or a
            function metric(outputs, targets) of a whole split that returns a number.
        higher_is_better: for a metric that is a function.
        target_scale: what 1.0 of the targets is in the user's units; "mse" and "mae" are in those.
        epochs, batch_size, schedule: "constant", "warmup", "cosine", "cyclic" or "wsd".
        base: "sgd" (with momentum), "nesterov", "adamw", "muon" (on matrices, AdamW on the rest),
            "rmsprop", "demon", "lookahead" or "ema" (SGD with decaying momentum, with Lookahead,
            evaluated by an average), or a function base(parameters, lr) that returns a torch
            optimizer.
        momentum, weight_decay: for the named bases; beta2: AdamW's second one.
        lr_range: the learning rates to search, lowest and highest.
        augment: optional, augment(inputs, generator) on each training batch.
        stream: optional, the order in which the examples arrive, in segments; metric must then be
            "accuracy", and `epochs` are the passes over each segment.
        description: what was read from the data, see `description.py`; not part of what a run is.
    """

    name: str
    model: Callable[[], nn.Module]
    train: Split
    validation: Split
    test: Split
    loss: Callable[[Tensor, Tensor], Tensor] = nnf.cross_entropy
    metric: str | Callable[[Tensor, Tensor], Any] = "accuracy"
    higher_is_better: bool = True
    target_scale: float = 1.0
    epochs: int = 15
    batch_size: int = 32
    schedule: str = "cosine"
    base: str | Callable[[Any, float], Optimizer] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    beta2: float = 0.999
    lr_range: tuple[float, float] = (0.003, 0.3)
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    stream: Stream | None = None
    description: Description = field(default_factory=dict)


class Usual(NamedTuple):
    """A subject's own settings, which a comparison takes unless the user names others."""

    base: str
    lr_range: tuple[float, float] | None  # None: the user must name it
    epochs: int = 0  # 0, and no schedule: the training decides these itself
    batch_size: int = 0
    schedule: str = ""


class Sizes(NamedTuple):
    """The number of examples in each split; 0 where that is not known."""

    train: int = 0
    validation: int = 0
    test: int = 0


@dataclass(frozen=True)
class Examples:
    """One split as tensors."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: str) -> Examples:
        return Examples(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Prepared:
    """A checked task whose data are tensors on the device."""

    task: Task
    train: Examples
    validation: Examples
    test: Examples
    classes: int | None  # None: not a classification
    prior: Tensor  # what the constant predictor puts out for one example
    code: str = ""  # a hash of the code behind the task

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def usual(self) -> Usual:
        task, (low, high) = self.task, map(float, self.task.lr_range)
        base = task.base if isinstance(task.base, str) else "own"
        return Usual(base, (low, high), task.epochs, task.batch_size, task.schedule)

    @property
    def sizes(self) -> Sizes:
        return Sizes(len(self.train), len(self.validation), len(self.test))

    @property
    def higher_is_better(self) -> bool:
        if isinstance(self.task.metric, str):
            return SCORES[self.task.metric].higher_is_better
        return self.task.higher_is_better

    @property
    def metric_name(self) -> str:
        """The label of its values; a user's function never gets a built-in metric's name."""
        metric = self.task.metric
        if isinstance(metric, str):
            return metric
        name = getattr(metric, "__name__", "metric")
        return f"{name}()" if name in SCORES else name

    def to(self, device: str) -> Prepared:
        parts = {name: getattr(self, name) for name in ("train", "validation", "test", "prior")}
        return replace(self, **{name: part.to(device) for name, part in parts.items()})

    @property
    def description(self) -> Description:
        """What was read from the data: what the task tells, then its splits and its constant."""
        splits = {name: len(getattr(self, name)) for name in ("train", "validation", "test")}
        facts = {**self.task.description, "split": splits}
        metric = self.task.metric
        if isinstance(metric, str):
            constant = self.constant(self.test)["metric"]
            if metric == "accuracy":
                example = 100.0 / self.test.targets.numel()
                facts["test_accuracy"] = {"constant": 100.0 * constant, "example": example}
            elif metric in PERCENT:
                facts["test_percent"] = {"metric": metric, "constant": 100.0 * constant}
            else:
                facts["test_metric"] = {"metric": metric, "constant": constant}
        return facts

    @property
    def example_share(self) -> float:
        targets, metric = self.test.targets, self.task.metric
        if metric == "accuracy":
            return 1.0 / targets.numel()
        if metric in ("balanced_accuracy", "f1"):
            counts = targets.flatten().bincount()
            # all classes weigh the same: the rarest one's examples most
            counts = counts[counts > 0]
            return 1.0 / (len(counts) * int(counts.min()))
        if metric in ("log_loss", "mse", "rmse", "mae", "r2"):
            return 1.0 / len(self.test)
        return 0.0

    @property
    def constant_value(self) -> float | None:
        # a stream is judged while it learns, not on the test split
        constant = None if self.task.stream else self.constant(self.test)["metric"]
        return constant if constant is not None and math.isfinite(constant) else None

    def steps(self, epochs: int, batch_size: int, share: float = 1.0) -> int:
        return total_steps(len(self.train), batch_size, epochs, share)

    def work(self, epochs: int, share: float) -> float:
        """The number of input values that a run trains on."""
        return share * epochs * self.train.inputs.numel()

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Loss, primary metric and, for classes, top-1 and top-5 error of a whole split."""
        metric, scale = self.task.metric, self.task.target_scale
        values = {"loss": float(self.task.loss(outputs, targets))}
        values["metric"] = (
            measure(metric, outputs * scale, targets * scale if scale != 1.0 else targets)
            if isinstance(metric, str)
            else float(metric(outputs, targets))
        )
        if self.classes is not None:
            values["top1_error"] = 1.0 - measure("accuracy", outputs, targets)
            if self.classes >= TOP5_FROM and outputs.ndim == 2:
                five = outputs.topk(5, dim=1).indices == targets[:, None]
                values["top5_error"] = 1.0 - float(five.any(1).double().mean())
        return values

    def constant(self, examples: Examples) -> dict[str, float]:
        """What the best constant prediction scores; a diverged run is given these values."""
        outputs = self.prior.expand(len(examples), *self.prior.shape)
        return self.measure(outputs, examples.targets)

    def fingerprint(self) -> str:
        """A hash of the data, the settings and the freshly seeded model."""
        hashed = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.inputs, split.targets):
                hashed.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                hashed.update(_bytes(tensor))
        torch.manual_seed(0)
        for name, value in self.task.model().state_dict().items():
            hashed.update(f"{name}{tuple(value.shape)}".encode())
            hashed.update(_bytes(value))
        task = self.task
        settings = (self.code, task.name, task.momentum, task.weight_decay, self.metric_name)
        hashed.update(repr((*settings, self.higher_is_better)).encode())
        if task.beta2 != 0.999:
            hashed.update(f"beta2 {task.beta2!r}".encode())
        if task.target_scale != 1.0:
            hashed.update(repr(task.target_scale).encode())
        if task.stream is not None:
            hashed.update(digest(task.stream).encode())
        return hashed.hexdigest()


def total_steps(examples: int, batch_size: int, epochs: int, share: float = 1.0) -> int:
    """The optimizer steps of a run: share epochs ceil(examples / batch_size), at least 1."""
    return max(1, round(share * epochs * math.ceil(examples / batch_size)))


def prepare(task: Any, code: str = "") -> Prepared:
    """Check what a task function returned, and turn its data into tensors; `code` is its hash."""
    if not isinstance(task, Task):
        raise TaskError(
            f"the task function returned {_kind(task)}, it must return a paramcast Task"
        )
    _check_settings(task)
    train, validation, test = (
        _examples(getattr(task, name), name) for name in ("train", "validation", "test")
    )
    splits = {"train": train, "validation": validation, "test": test}
    named = SCORES[task.metric] if isinstance(task.metric, str) else None
    classes = _check_labels(task, splits) if named is not None and named.of_classes else None
    if task.stream is not None:
        if task.metric != "accuracy":
            raise TaskError(
                f"a task with a stream needs metric 'accuracy', got {task.metric!r}; "
                "give it labels, or leave out the stream"
            )
        check_stream(task.stream, {name: split.targets for name, split in splits.items()})
    outputs = _try_model(task, train, classes)
    return Prepared(task, train, validation, test, classes, _prior(task, train, outputs), code)


def _check_settings(task: Task) -> None:
    def number(value: Any, kinds: Any, low: float, below: float) -> bool:
        return not isinstance(value, bool) and isinstance(value, kinds) and low <= value < below

    named = isinstance(task.name, str) and task.name.strip() and is_text(task.name)
    # each setting, whether it fits, and what it must be
    needed: list[tuple[str, Any, str]] = [
        ("name", named, "a word or two"),
        ("momentum", number(task.momentum, (int, float), 0, 1), "a number from 0 and below 1"),
        ("weight_decay", number(task.weight_decay, (int, float), 0, math.inf), "a number from 0"),
        ("beta2", number(task.beta2, (int, float), 0, 1), "a number from 0 and below 1"),
        ("augment", task.augment is None or callable(task.augment),
         "a function augment(inputs, generator)"),
        ("epochs", number(task.epochs, int, 1, math.inf), "a whole number from 1"),
        ("batch_size", number(task.batch_size, int, 1, math.inf), "a whole number from 1"),
        ("metric", not isinstance(task.metric, str) or task.metric in SCORES,
         f"{', '.join(SCORES)} or a function"),
        ("loss", callable(task.loss), "a function loss(outputs, targets)"),
        ("base", not isinstance(task.base, str) or task.base in BASES,
         f"{', '.join(BASES)} or a function"),
        ("schedule", task.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    ]  # fmt: skip
    for name, fits, what in needed:
        if not fits:
            raise TaskError(f"Task.{name} must be {what}, got {shown(getattr(task, name))}")
    if isinstance(task.model, nn.Module) or not callable(task.model):
        what = "a model" if isinstance(task.model, nn.Module) else _kind(task.model)
        raise TaskError(
            f"Task.model is {what}; give a function that builds a fresh model, such as "
            "`lambda: make_net()`, because every run needs its own"
        )
    check_lr_range(task.lr_range, "Task.lr_range")


def check_lr_range(lr_range: Any, name: str) -> None:
    """Refuse a range of learning rates that is not 0 < low < high < infinity."""
    try:
        low, high = (float(value) for value in lr_range)
    except (TypeError, ValueError):
        raise TaskError(f"{name} must be two numbers, low and high, got {lr_range!r}") from None
    if not 0.0 < low < high < math.inf:
        raise TaskError(f"{name} must satisfy 0 < low < high < infinity, got {low:g} to {high:g}")


def _examples(split: Any, name: str) -> Examples:
    # two tensors, or a dataset, which is read once: all runs train on the same examples
    if isinstance(split, (tuple, list)) and len(split) == 2:
        inputs, targets = (_tensor(part, name) for part in split)
    elif isinstance(split, Sized) and hasattr(split, "__getitem__"):
        must = "; it must give an example for every index from 0 to its length - 1"
        with _told(f"the {name} dataset failed with", must):
            pairs = [split[i] for i in range(len(split))]
        if not pairs:
            raise TaskError(f"the {name} split is empty; give it at least one example")
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise TaskError(f"the {name} dataset must give pairs of input and target")
        try:
            inputs = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
            targets = torch.stack([torch.as_tensor(pair[1]) for pair in pairs])
        except (RuntimeError, TypeError, ValueError) as error:
            raise TaskError(
                f"the examples of the {name} dataset cannot be stacked into one tensor ({error}); "
                "resize or pad them to one shape"
            ) from None
    else:
        raise TaskError(
            f"the {name} split is {_kind(split)}; "
            "give (inputs, targets) as two tensors, or a dataset of pairs"
        )
    # both are tensors now: as many inputs as targets, and all of them finite
    if len(inputs) == 0:
        raise TaskError(f"the {name} split is empty; give it at least one example")
    if len(inputs) != len(targets):
        raise TaskError(
            f"the {name} split has {len(inputs)} inputs and {len(targets)} targets; "
            "it needs one target per input"
        )
    for what, tensor in (("inputs", inputs), ("targets", targets)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise TaskError(
                f"the {what} of the {name} split hold {bad} values that are NaN or infinite; "
                "fill or drop them"
            )
    return Examples(inputs, targets)


def _tensor(part: Any, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(f"the {name} split cannot be read as a tensor: {error}") from None
    if tensor.ndim == 0:
        raise TaskError(f"the {name} split holds a single number; give one row per example")
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _check_labels(task: Task, splits: dict[str, Examples]) -> int:
    for name, split in splits.items():
        if split.targets.is_floating_point() or split.targets.is_complex():
            raise TaskError(
                f"metric {task.metric} needs whole-number labels, the {name} targets are "
                f"{split.targets.dtype}; use targets.long() (of a table: --kind classes), or "
                "metric 'mse' for a regression"
            )
        if split.targets.ndim > 1 and split.targets.shape[-1] == 1:
            raise TaskError(
                f"metric {task.metric} needs one label per example, the {name} targets have shape "
                f"{tuple(split.targets.shape)}; use targets.squeeze(-1)"
            )
        if int(split.targets.min()) < 0:
            raise TaskError(
                f"the {name} targets hold the label {int(split.targets.min())}; labels start at 0"
            )
        if task.metric in RANKING and int(split.targets.min()) == int(split.targets.max()):
            raise TaskError(
                f"metric {task.metric} ranks one class against the others, and the {name} targets "
                f"hold only class {int(split.targets.min())}; give it examples of two classes"
            )
    return 1 + max(int(split.targets.max()) for split in splits.values())


def _try_model(task: Task, train: Examples, classes: int | None) -> Tensor:
    """Run the model and the loss once on a few examples, to fail here and not in 200 runs."""
    inputs, targets = train.inputs[:4], train.targets[:4]
    # the model: its parameters, its output in training and in evaluation mode
    model = _seeded_model(task)
    if not any(p.requires_grad for p in model.parameters()):
        raise TaskError("the model has no learnable parameters; there is nothing to train")
    if task.augment is not None:
        failed = "Task.augment(inputs, generator), or the model on what it returned, failed with"
        with _told(failed):
            model.train()(task.augment(inputs, torch.Generator(inputs.device).manual_seed(0)))
    given = f"training inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}"
    with _told(f"the model failed on {given} with"):
        outputs = model.eval()(inputs)
    if not isinstance(outputs, Tensor):
        raise TaskError(f"the model returned {_kind(outputs)}, it must return one tensor")
    # the output against the labels or numbers
    if classes is not None and (outputs.ndim < 2 or outputs.shape[1] < classes):
        found = outputs.shape[1] if outputs.ndim > 1 else 1
        raise TaskError(
            f"the labels go up to {classes - 1}, the model has {found} outputs; "
            f"give it at least {classes}, or correct the labels"
        )
    named = SCORES[task.metric] if isinstance(task.metric, str) else None
    if named is not None and not named.of_classes and outputs.shape != targets.shape:
        if not targets.is_floating_point():
            raise TaskError(
                f"metric {task.metric} needs numbers, the train targets are whole-number labels; "
                "choose a metric of classes, such as log_loss, or give it numbers (of a table: "
                "--kind regression)"
            )
        raise TaskError(
            f"the model's output has shape {tuple(outputs.shape)}, the targets "
            f"{tuple(targets.shape)}; {task.metric} needs them equal (often: targets[:, None])"
        )
    # the loss and the metric
    shapes = tuple(outputs.shape), tuple(targets.shape)
    with _told(
        f"the model's output of shape {shapes[0]} does not fit the loss with targets of shape "
        f"{shapes[1]}:"
    ):
        loss = task.loss(outputs, targets)
        ready = isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad
    if not ready:
        raise TaskError("Task.loss must return one number that depends on the model's parameters")
    # a metric of the user's own
    if not isinstance(task.metric, str):
        with _told("Task.metric failed with"):
            float(task.metric(outputs.detach(), targets))
    return outputs.detach()


def _seeded_model(task: Task) -> nn.Module:
    """A model, after checking that each call builds one and that the seed determines it."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        with _told("Task.model failed with"):
            models.append(task.model())
    model, twin = models
    if not isinstance(model, nn.Module):
        raise TaskError(f"Task.model returned {_kind(model)}, it must return a torch.nn.Module")
    if model is twin:
        raise TaskError(
            "Task.model returns the same model each time; build a fresh one in it, because every "
            "run needs its own"
        )
    state, other = model.state_dict(), twin.state_dict()
    if any(not torch.equal(state[name], other[name]) for name in state):
        raise TaskError(
            "Task.model gives different weights for the same seed; draw them from torch's "
            "generator, which is seeded before each call"
        )
    return model


def _prior(task: Task, train: Examples, outputs: Tensor) -> Tensor:
    """The constant output with the lowest training loss: what is known without the input."""
    targets, shape = train.targets, outputs.shape[1:]
    labels = not targets.is_floating_point() and int(targets.min()) >= 0
    if labels and outputs.ndim == targets.ndim + 1 and int(targets.max()) < outputs.shape[1]:
        counts = torch.bincount(targets.reshape(-1), minlength=outputs.shape[1]).float() + 1e-3
        logits = (counts / counts.sum()).log()
        start = logits.reshape(-1, *[1] * (outputs.ndim - 2)).expand(shape).clone()
    else:
        start = targets.float().mean(0).expand(shape).clone()
    if task.loss in (nnf.cross_entropy, nnf.mse_loss):
        return start  # exact

    def loss(constant: Tensor) -> Tensor:
        return task.loss(constant.expand(len(train), *shape), targets)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(constant)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    # Any other loss: a few steps of LBFGS from that guess, which is kept if they do not help.
    constant = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([constant], max_iter=50, line_search_fn="strong_wolfe")
    with contextlib.suppress(RuntimeError):  # a loss without a gradient for constants
        optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        better = bool(loss(constant) < loss(start))
    return constant.detach() if better else start


@contextlib.contextmanager
def _told(what: str, after: str = "") -> Iterator[None]:
    """What the user's code raises as a sentence."""
    try:
        yield
    except Exception as error:
        raise TaskError(f"{what} {type(error).__name__}: {error}{after}") from error


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"
