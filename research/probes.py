"""What a run can be asked about itself beside its result: probes look, and change nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from paramcast import Forecast
from paramcast.study.tasks.task import Examples
from paramcast.study.training.probes import Watched

EXAMPLES = 512
"""Training examples on which losses and curvature are measured: the first ones."""
PHASES = 4


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, then as it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def few_of(run: Watched) -> Examples:
    """The first training examples."""
    return Examples(run.train.inputs[:EXAMPLES], run.train.targets[:EXAMPLES])


def parameters_of(run: Watched) -> list[tuple[str, Tensor]]:
    """The learnable parameters and their names."""
    return [(name, p) for name, p in run.model.named_parameters() if p.requires_grad]


def loss_of(run: Watched) -> float:
    """The mean loss on the few examples, in evaluation mode; draws no random number."""
    few = few_of(run)
    with evaluating(run.model), torch.no_grad():
        return float(run.task.loss(run.model(few.inputs), few.targets))


class Linearity:
    """How straight the parameters' path is.

    For each span w: R^2 of the least-squares line through w successive points, over consecutive
    windows, 1 - |residuals|^2 / |deviations from the mean|^2; and the cosine between successive
    displacements over w steps. Of each tensor at most COORDINATES coordinates are followed, evenly
    spread, each standing for its share of the tensor.

    Measures: `r2_w`, `cosine_w`; in the quarters of the run `r2_w@1` to `r2_w@4`; per parameter
    `r2_w:name`. A span that does not fit twice into the run has none.
    """

    SPANS = (3, 10, 30, 100, 300)
    COORDINATES = 1000

    def __init__(self, run: Watched) -> None:
        self.run = run
        self.spans = [w for w in self.SPANS if 2 * w <= run.steps]
        self.names, self.picks, weights = [], [], []
        for name, p in parameters_of(run):
            kept = min(p.numel(), self.COORDINATES)
            self.names.append(name)
            self.picks.append(torch.arange(kept, device=p.device) * p.numel() // kept)
            weights.append(torch.full((kept,), p.numel() / kept, dtype=torch.float64))
        self.weights = torch.cat(weights)
        self.layer = torch.repeat_interleave(torch.tensor([len(w) for w in weights]))
        length = max(self.spans, default=1)
        self.points = torch.zeros(2 * length + 1, len(self.weights))
        self.found: dict[str, list[float]] = {}

    def step(self, number: int) -> None:
        parts = [
            p.detach().reshape(-1)[pick]
            for (_, p), pick in zip(parameters_of(self.run), self.picks, strict=True)
        ]
        size = len(self.points)
        self.points[number % size] = torch.cat(parts).cpu()
        quarter = _quarter(number, self.run.steps)
        for w in self.spans:
            if number % w == 0:
                last = torch.arange(number - w + 1, number + 1) % size
                self._note(f"r2_{w}", quarter, *_line(self.points[last].double()))
            if number % w == 0 and number > 2 * w:
                now, before, first = (self.points[(number - k * w) % size] for k in (0, 1, 2))
                new, old = (now - before).double(), (before - first).double()
                self._note(f"cosine_{w}", quarter, new * old, new.square(), old.square())

    def _note(self, name: str, quarter: int, *sums: Tensor) -> None:
        """Keep a / sqrt(b c), with a, b, c summed over all coordinates and over each tensor's."""
        layers = torch.zeros(len(sums), len(self.names), dtype=torch.float64)
        layers.index_add_(1, self.layer, torch.stack(sums) * self.weights)
        whole = _ratio(*layers.sum(1).tolist())
        keys = [name, f"{name}@{quarter}", *(f"{name}:{layer}" for layer in self.names)]
        ratios = [whole, whole, *(_ratio(*column) for column in layers.T.tolist())]
        for key, ratio in zip(keys, ratios, strict=True):
            if ratio is not None:
                self.found.setdefault(key, []).append(ratio)

    def finish(self) -> dict[str, float]:
        """The mean over all windows in which the parameters moved."""
        return {key: fmean(values) for key, values in self.found.items()}


def _line(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each coordinate over time: what a line explains of its squared deviations, and these."""
    time = torch.arange(len(points), dtype=torch.float64)
    time -= time.mean()
    explained = (time @ points).square() / time.square().sum()
    total = (points - points.mean(0)).square().sum(0)
    return explained, total, total


def _ratio(a: float, b: float, c: float) -> float | None:
    return a / math.sqrt(b * c) if b * c > 0 and math.isfinite(a * b * c) else None


def _quarter(number: int, steps: int) -> int:
    return min(PHASES, 1 + PHASES * (number - 1) // steps)


class Jumps:
    """What each prediction does to the training loss on the few examples, at once.

    Measures: `jump_loss`, the mean change of the loss when the prediction is written; the same in
    each quarter, `jump_loss@1` to `jump_loss@4`; `jump_loss_worst`, the largest;
    `jump_lowers_loss`, the share of predictions that lower it. None without predictions.
    """

    def __init__(self, run: Watched) -> None:
        self.run = run
        self.changes: list[tuple[int, float]] = []
        self.before: list[Tensor] = []
        self.cycle = 0
        if isinstance(run.optimizer, Forecast):
            run.optimizer.base.register_step_post_hook(self._keep)

    def _keep(self, *_: Any) -> None:
        self.before = [p.detach().clone() for _, p in parameters_of(self.run)]

    def step(self, number: int) -> None:
        event = getattr(self.run.optimizer, "last_event", None)
        if event is None or event.cycle == self.cycle:
            return
        self.cycle = event.cycle
        if not event.applied:
            return
        parameters = [p.detach() for _, p in parameters_of(self.run)]
        after, predicted = loss_of(self.run), [p.clone() for p in parameters]
        torch._foreach_copy_(parameters, self.before)
        change = after - loss_of(self.run)
        torch._foreach_copy_(parameters, predicted)
        if math.isfinite(change):
            self.changes.append((_quarter(number, self.run.steps), change))

    def finish(self) -> dict[str, float]:
        if not self.changes:
            return {}
        every = [change for _, change in self.changes]
        found = {
            "jump_loss": fmean(every),
            "jump_loss_worst": max(every),
            "jump_lowers_loss": fmean(float(change < 0) for change in every),
        }
        for quarter in range(1, PHASES + 1):
            part = [change for q, change in self.changes if q == quarter]
            if part:
                found[f"jump_loss@{quarter}"] = fmean(part)
        return found


class Sharpness:
    """The largest eigenvalue of the training loss's Hessian, over the run and at its end.

    By power iteration with Hessian-vector products on the few examples, in evaluation mode, from a
    fixed start, until the Rayleigh quotient changes by less than 1 % or after 50 products. The
    iteration finds the eigenvalue of largest magnitude; in training that is the largest.

    Measures: `sharpness` at the end; `sharpness_most`, the largest of LOOKS looks evenly spread
    over the run and that at the end.
    """

    LOOKS, MOST, TOLERANCE = 8, 50, 0.01

    def __init__(self, run: Watched) -> None:
        self.run = run
        self.every = max(1, run.steps // (self.LOOKS + 1))
        self.seen: list[float] = []

    def step(self, number: int) -> None:
        if number % self.every == 0 and number < self.run.steps:
            self.seen.append(self._look())

    def _look(self) -> float:
        parameters, few = [p for _, p in parameters_of(self.run)], few_of(self.run)
        with evaluating(self.run.model), torch.enable_grad():
            loss = self.run.task.loss(self.run.model(few.inputs), few.targets)
            gradients = torch.autograd.grad(loss, parameters, create_graph=True)
            return largest_eigenvalue(gradients, parameters, self.MOST, self.TOLERANCE)

    def finish(self) -> dict[str, float]:
        self.seen.append(self._look())
        known = [value for value in self.seen if math.isfinite(value)]
        if not known:
            return {}
        found = {"sharpness_most": max(known)}
        if math.isfinite(self.seen[-1]):
            found["sharpness"] = self.seen[-1]
        return found


def largest_eigenvalue(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], most: int, tolerance: float
) -> float:
    """The Hessian's eigenvalue of largest magnitude, from gradients that keep their graph."""
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    value = math.nan
    for _ in range(most):
        length = math.sqrt(sum(float(v.square().sum()) for v in vector))
        if not length > 0:
            return value
        vector = [v / length for v in vector]
        product = torch.autograd.grad(gradients, parameters, vector, retain_graph=True)
        pairs = zip(product, vector, strict=True)
        before, value = value, sum(float((a * b).sum()) for a, b in pairs)
        if abs(value - before) <= tolerance * abs(value):
            return value
        vector = [v.detach() for v in product]
    return value
