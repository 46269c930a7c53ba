"""The metrics that have a name: their direction, what they need, and how they are computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Score(NamedTuple):
    """A metric of a whole split."""

    higher_is_better: bool
    of_classes: bool  # whether it needs whole-number labels and one output per class
    # from outputs and targets; for classes, (examples, classes) and (examples,)
    measure: Callable[[Tensor, Tensor], float]


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets).double().mean())


def _balanced_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Mean recall over the classes that the targets hold."""
    from sklearn.metrics import recall_score

    labels, predicted = _labels(targets), outputs.argmax(1).cpu().numpy()
    return float(recall_score(labels, predicted, labels=sorted(set(labels)), average="macro"))


def _f1(outputs: Tensor, targets: Tensor) -> float:
    """The F1 of class 1 if there are two classes, else the mean over the classes."""
    from sklearn.metrics import f1_score

    labels, predicted = _labels(targets), outputs.argmax(1).cpu().numpy()
    classes = [1] if outputs.shape[1] == 2 else sorted(set(labels))
    return float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0.0))


def _one_vs_rest(name: str, outputs: Tensor, targets: Tensor) -> float:
    """The score of class 1 if there are two, else the mean over the classes, each against all."""
    from sklearn import metrics

    score = getattr(metrics, name)
    labels, probabilities = _labels(targets), outputs.double().softmax(1).cpu().numpy()
    present = set(labels.tolist())
    if len(present) < 2:  # nothing to rank: `prepare` refuses it for a split
        return float("nan")
    classes = [1] if outputs.shape[1] == 2 else sorted(present)
    found = [score(labels == c, probabilities[:, c]) for c in classes]
    return float(sum(found) / len(found))


def _r2(outputs: Tensor, targets: Tensor) -> float:
    """1 - squared error / variance of the targets; the mean over several targets."""
    from sklearn.metrics import r2_score

    return float(r2_score(*(t.double().flatten(1).cpu().numpy() for t in (targets, outputs))))


def _labels(targets: Tensor) -> npt.NDArray[np.int64]:
    return targets.cpu().numpy()


SCORES = {
    "accuracy": Score(True, True, _accuracy),
    "balanced_accuracy": Score(True, True, _balanced_accuracy),
    "f1": Score(True, True, _f1),
    "auroc": Score(True, True, partial(_one_vs_rest, "roc_auc_score")),
    "average_precision": Score(True, True, partial(_one_vs_rest, "average_precision_score")),
    "log_loss": Score(False, True, lambda o, t: float(nnf.cross_entropy(o.double(), t))),
    "mse": Score(False, False, lambda o, t: float((o - t).double().square().mean())),
    "rmse": Score(False, False, lambda o, t: float((o - t).double().square().mean()) ** 0.5),
    "mae": Score(False, False, lambda o, t: float((o - t).double().abs().mean())),
    "r2": Score(True, False, _r2),
}
RANKING = ("auroc", "average_precision")  # those that are undefined if a split has only one class


def measure(name: str, outputs: Tensor, targets: Tensor) -> float:
    """A named metric of a whole split; NaN where an output is not finite."""
    score = SCORES[name]
    if name == "accuracy":  # of whatever shape, and an argmax is defined for anything
        return score.measure(outputs, targets)
    if not bool(torch.isfinite(outputs).all()):
        return float("nan")
    if score.of_classes and outputs.ndim > 2:  # a label for each of several positions
        outputs, targets = outputs.movedim(1, -1).flatten(0, -2), targets.flatten()
    return score.measure(outputs, targets)
