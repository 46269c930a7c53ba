"""The slow, obvious twin, and the small cast that the tests share.

The twin keeps every point of a cycle in float64 and computes the prediction from the rule as
docs/methods write it, one parameter after the other. Nothing here reads the library's weights.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paramcast import predictors as P
from paramcast.events import ForecastEvent
from paramcast.tensors.segments import make_segments

Rule = Callable[[Sequence[Tensor]], Tensor]
"""From the points theta_0 ... theta_k of one parameter to its prediction."""


# --- the rules --------------------------------------------------------------------------------


def midline(horizon: float = 1.0, start: str = "midpoint") -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        p1, p2, p3 = points[-3:]
        m12, m23 = (p1 + p2) / 2, (p2 + p3) / 2
        slope = m23 - m12
        starts = {"midpoint": m23, "last": p3, "mean": (p1 + p2 + p3) / 3}
        return starts[start] + horizon * slope

    return rule


def least_squares(window: int, horizon: float) -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        points = points[-window:]
        times = list(range(1, window + 1))
        middle = sum(times) / window
        mean = torch.zeros_like(points[0])
        slope = torch.zeros_like(points[0])
        for t, point in zip(times, points, strict=True):
            mean = mean + point / window
            slope = slope + (t - middle) * point / sum((u - middle) ** 2 for u in times)
        return mean + (window + horizon - middle) * slope

    return rule


def secant(window: int, horizon: float) -> Rule:
    return lambda points: points[-1] + horizon * (points[-1] - points[-window]) / (window - 1)


def interpolate(alpha: float) -> Rule:
    return lambda points: points[0] + alpha * (points[-1] - points[0])


def affine(weights: Sequence[float]) -> Rule:
    def rule(points: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(points[0])
        for weight, point in zip(weights, points, strict=True):
            total = total + weight * point
        return total

    return rule


def flipped(rule: Rule) -> Rule:
    return lambda points: points[-1] - (rule(points) - points[-1])


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


# --- the family, slowly -------------------------------------------------------------------------

Points = Sequence[Sequence[Tensor]]
"""points[t][n] is parameter n after t steps of the cycle."""


class Slow:
    """A predictor with every point of the cycle at hand; one rule per parameter by default."""

    momentum, alpha = "keep", 1.0

    def __init__(self, every: int, rule: Rule | None = None) -> None:
        self.every, self.rule = every, rule

    def begin(self, step: int) -> None:
        """A cycle starts after so many completed steps."""

    def predict(self, points: Points) -> list[Tensor]:
        assert self.rule is not None
        return [self.rule(path) for path in zip(*points, strict=True)]


class SlowLookahead(Slow):
    def __init__(self, every: int, alpha: float, momentum: str = "keep") -> None:
        super().__init__(every, interpolate(alpha))
        self.alpha, self.momentum = alpha, momentum


class SlowOuterNesterov(Slow):
    def __init__(self, every: int, momentum: float, lr: float) -> None:
        super().__init__(every)
        self.mu, self.lr, self.b = momentum, lr, None

    def predict(self, points: Points) -> list[Tensor]:
        d = [first - last for first, last in zip(points[0], points[-1], strict=True)]
        old = self.b or [torch.zeros_like(x) for x in d]
        self.b = [self.mu * b + x for b, x in zip(old, d, strict=True)]
        moves = [self.lr * (x + self.mu * b) for x, b in zip(d, self.b, strict=True)]
        return [first - move for first, move in zip(points[0], moves, strict=True)]


class SlowForwardEMA(Slow):
    def __init__(self, decay: float, strength: float) -> None:
        super().__init__(1)
        self.decay, self.strength = decay, strength
        self.x: list[Tensor] | None = None  # where the base's last step ended
        self.m: list[Tensor] = []

    def predict(self, points: Points) -> list[Tensor]:
        now = list(points[-1])
        if self.x is None:
            self.x, self.m = list(points[0]), [torch.zeros_like(x) for x in now]
        moved = [new - old for new, old in zip(now, self.x, strict=True)]
        d = self.decay
        self.m = [d * m + (1 - d) * u for m, u in zip(self.m, moved, strict=True)]
        self.x = now
        return [x + self.strength * m for x, m in zip(now, self.m, strict=True)]


class SlowPrimalAveraging(Slow):
    """z and x as such, and the point between them."""

    def __init__(self, beta: float, eta: float, window: float = math.inf) -> None:
        super().__init__(1)
        self.beta, self.eta, self.window, self.t = beta, eta, window, 0
        self.z: list[Tensor] = []
        self.x: list[Tensor] = []

    def predict(self, points: Points) -> list[Tensor]:
        if not self.z:
            self.z, self.x = list(points[0]), list(points[0])
        self.t += 1
        w = max((self.eta + 1) / (self.t + self.eta), 1 / self.window)
        # the parameters may have been moved by others: z and x move with them
        at = [(1 - self.beta) * z + self.beta * x for z, x in zip(self.z, self.x, strict=True)]
        moved = [start - y for start, y in zip(points[0], at, strict=True)]
        steps = [end - start for start, end in zip(*points, strict=True)]
        self.z = [z + m + step for z, m, step in zip(self.z, moved, steps, strict=True)]
        before = [x + m for x, m in zip(self.x, moved, strict=True)]
        self.x = [x + w * (z - x) for x, z in zip(before, self.z, strict=True)]
        return [(1 - self.beta) * z + self.beta * x for z, x in zip(self.z, self.x, strict=True)]


class SlowRRE(Slow):
    """The constrained minimum by its Lagrange multiplier, on the concatenated parameters."""

    def __init__(self, window: int, ridge: float = 1e-8, cap: float = 10.0) -> None:
        super().__init__(window)
        self.ridge, self.cap = ridge, cap

    def coefficients(self, points: Points) -> Tensor:
        n = self.every
        flat = [torch.cat([p.flatten() for p in point]) for point in points]
        u = torch.stack([flat[i + 1] - flat[i] for i in range(n)])
        system = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        system[:n, :n] = u @ u.T + self.ridge * (u * u).sum() * torch.eye(n, dtype=torch.float64)
        system[:n, n] = system[n, :n] = 1.0
        right = torch.tensor([0.0] * n + [1.0], dtype=torch.float64)
        return torch.linalg.solve(system, right)[:n]

    def predict(self, points: Points) -> list[Tensor]:
        c = self.coefficients(points)
        paths = zip(*points[1:], strict=True)
        mixed = [sum(c[i] * p for i, p in enumerate(path)) for path in paths]
        jump = [there - last for there, last in zip(mixed, points[-1], strict=True)]
        moved = [last - first for first, last in zip(points[0], points[-1], strict=True)]
        limit = self.cap * length(moved)
        shrink = min(1.0, limit / length(jump)) if length(jump) > 0 else 1.0
        return [last + shrink * j for last, j in zip(points[-1], jump, strict=True)]


class SlowAitken(Slow):
    def __init__(self, cap: float = 5.0, every: int = 3) -> None:
        super().__init__(every, self._limit)
        self.cap = cap

    def _limit(self, points: Sequence[Tensor]) -> Tensor:
        a, b, c = points[-3:]
        d1, d2 = (b - a).flatten(), (c - b).flatten()
        if (d1 @ d1).item() == 0.0:
            return c
        rho = ((d1 @ d2) / (d1 @ d1)).item()
        h = self.cap if rho >= 1.0 else max(-self.cap, min(self.cap, rho / (1.0 - rho)))
        return c + h * (c - b)


class SlowLine(Slow):
    """A rule with a horizon that depends on progress, read at the start of the cycle."""

    def __init__(
        self,
        every: int,
        rule: Callable[[float], Rule],
        horizon: Callable[[float], float],
        total_steps: int,
    ) -> None:
        super().__init__(every)
        self.make, self.horizon, self.total = rule, horizon, total_steps

    def begin(self, step: int) -> None:
        self.rule = self.make(self.horizon(min(1.0, step / self.total)))


def quadratic(horizon: float) -> Rule:
    """Newton's form of the parabola through three points."""

    def rule(points: Sequence[Tensor]) -> Tensor:
        a, b, c = points[-3:]
        slope, bend = c - b, (c - b) - (b - a)
        return c + horizon * slope + horizon * (horizon + 1) / 2 * bend

    return rule


def length(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors))


def momentum_of(base: torch.optim.Optimizer, p: Tensor) -> Tensor | None:
    """The first moment that the base keeps for a parameter."""
    state = base.state.get(p, {})
    found = state.get("momentum_buffer")
    return state.get("exp_avg") if found is None else found


Accept = Callable[[int, Points, list[Tensor]], "list[Tensor] | None"]
"""From cycle, points and predictions to what is written; None for nothing."""


class Twin:
    """A base and a slow predictor, with every point of the cycle kept; `accept` plays the gate."""

    def __init__(
        self,
        base: torch.optim.Optimizer,
        slow: Slow,
        accept: Accept = lambda cycle, points, predictions: predictions,
    ) -> None:
        self.base, self.slow, self.accept = base, slow, accept
        self.parameters = [p for group in base.param_groups for p in group["params"]]
        self.points: list[list[Tensor]] = []
        self.steps = self.cycles = 0

    def step(self) -> None:
        if not self.points:
            self.points = [values(self.parameters)]
            self.slow.begin(self.steps)
            kept = [momentum_of(self.base, p) for p in self.parameters]
            self.at_start = [None if m is None else m.clone() for m in kept]
        self.base.step()
        self.steps += 1
        self.points.append(values(self.parameters))
        if len(self.points) == self.slow.every + 1:
            self._close()
            self.points = []

    @torch.no_grad()
    def _close(self) -> None:
        self.cycles += 1
        written = self.accept(self.cycles, self.points, self.slow.predict(self.points))
        if written is None:
            return
        for p, value, start in zip(self.parameters, written, self.at_start, strict=True):
            p.copy_(value)
            momentum = momentum_of(self.base, p)
            if momentum is None or self.slow.momentum == "keep":
                continue
            if self.slow.momentum == "reset":
                momentum.zero_()
            else:
                start = torch.zeros_like(momentum) if start is None else start
                momentum.copy_(start + self.slow.alpha * (momentum - start))


HALVES = (0.25, -0.5, 0.25, 0.5, 0.5)


class Row(NamedTuple):
    """One line of the conformance table: a predictor of the family and its twin, if it has one."""

    name: str
    predictor: P.Predictor
    slow: Callable[[], Slow] | None


FAMILY = [
    Row("midline", P.Midline(), lambda: Slow(3, midline())),
    Row("affine", P.Affine(HALVES), lambda: Slow(4, affine(HALVES))),
    Row("least-squares", P.LeastSquares(4, 0.5), lambda: Slow(4, least_squares(4, 0.5))),
    Row("secant-back", P.Secant(4, -0.5), lambda: Slow(4, secant(4, -0.5))),
    Row("quadratic", P.Quadratic(0.5), lambda: Slow(3, quadratic(0.5))),
    Row("quadratic-back", P.Quadratic(-1.3, every=5), lambda: Slow(5, quadratic(-1.3))),
    Row("lookahead", P.Interpolate(4, 0.6), lambda: SlowLookahead(4, 0.6)),
    Row(
        "lookahead-reset",
        P.Interpolate(4, 0.6, momentum="reset"),
        lambda: SlowLookahead(4, 0.6, "reset"),
    ),
    Row(
        "lookahead-pullback",
        P.Interpolate(4, 0.6, momentum="pullback"),
        lambda: SlowLookahead(4, 0.6, "pullback"),
    ),
    Row("outer-nesterov", P.OuterNesterov(4, 0.5, 0.7), lambda: SlowOuterNesterov(4, 0.5, 0.7)),
    Row("outer-each-step", P.OuterNesterov(1, 0.3, 1.2), lambda: SlowOuterNesterov(1, 0.3, 1.2)),
    Row("forward-ema", P.ForwardEMA(0.8, 0.5), lambda: SlowForwardEMA(0.8, 0.5)),
    Row("primal-averaging", P.PrimalAveraging(0.8, 3.0), lambda: SlowPrimalAveraging(0.8, 3.0)),
    Row("short-window", P.PrimalAveraging(0.9, 1.0, 4), lambda: SlowPrimalAveraging(0.9, 1.0, 4)),
    Row("schedule-free", P.PrimalAveraging(0.9, 0.0), lambda: SlowPrimalAveraging(0.9, 0.0)),
    Row("rre", P.RRE(4), lambda: SlowRRE(4)),
    Row("rre-capped", P.RRE(3, 1e-3, 0.1), lambda: SlowRRE(3, 1e-3, 0.1)),
    Row("aitken", P.Aitken(5.0), lambda: SlowAitken(5.0)),
    Row("aitken-capped", P.Aitken(0.4, every=5), lambda: SlowAitken(0.4, 5)),
    Row("flipped", P.SignFlipped(P.Quadratic(0.5)), lambda: Slow(3, flipped(quadratic(0.5)))),
    Row("random", P.RandomDirection(P.OuterNesterov(3)), None),
]
"""A new predictor adds a row: the laws, the conformance suite and the resume tests run on all."""


def first_move(row: Row) -> int:
    """Steps until the first jump that is not 0: an average starts where the parameters are."""
    cycles = 2 if isinstance(row.predictor, P.PrimalAveraging) else 1
    return cycles * row.predictor.every


# --- the cast -----------------------------------------------------------------------------------

ODD = (0.5, -0.5, 0.25, 0.5, -0.75, 1.0)
"""Cumulative sums cross zero in mid-cycle: copy, subtract, restore, average, subtract."""
UNEVEN = (0.1, -0.3, 0.0, 0.2, 1.0)


class Case(NamedTuple):
    name: str
    predictor: P.Affine
    rule: Rule


AFFINE = [
    Case("midline", P.Midline(), midline()),
    Case("midline-at-4", P.Midline(horizon=1.5), midline(1.5)),
    Case("midline-from-last", P.Midline(0.7, start="last"), midline(0.7, "last")),
    Case("midline-from-mean", P.Midline(-0.4, start="mean", every=5), midline(-0.4, "mean")),
    Case("least-squares", P.LeastSquares(3, 1.0), least_squares(3, 1.0)),
    Case("least-squares-long", P.LeastSquares(5, 1.0, every=7), least_squares(5, 1.0)),
    Case("secant", P.Secant(), secant(3, 1.0)),
    Case("secant-back", P.Secant(4, -0.5), secant(4, -0.5)),
    Case("interpolate", P.Interpolate(5, 0.5), interpolate(0.5)),
    Case("affine-odd", P.Affine(ODD), affine(ODD)),
    Case("affine-uneven", P.Affine(UNEVEN), affine(UNEVEN)),
    Case("flipped", P.SignFlipped(P.Midline()), flipped(midline())),
]

PREDICTORS = [case.predictor for case in AFFINE] + [P.RandomDirection(P.Midline(), seed=3)]

BASES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9, nesterov=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.02),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.005, momentum=0.5),
}


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.nn.Parameter]:
    """A matrix, a vector and a scalar, the same numbers in every dtype (up to rounding)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 4), (4,), ())
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.Parameter(value.to(dtype)) for value in values]


def set_gradients(ps: Iterable[Tensor], t: int) -> None:
    """A pull towards zero and a push that changes with the step: nothing settles."""
    for i, p in enumerate(ps):
        phase = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape) + 1.7 * i + 0.9 * t
        p.grad = (0.5 * p.detach().to(wide(p.dtype)) + torch.sin(phase)).to(p.dtype)


def train(optimizer: Any, ps: Sequence[Tensor], steps: int, start: int = 0) -> None:
    for t in range(start, start + steps):
        set_gradients(ps, t)
        optimizer.step()


def constant_steps(optimizer: Any, p: Tensor, *gradients: float) -> None:
    """One step per gradient, the same for every element of p."""
    for gradient in gradients:
        p.grad = torch.full_like(p, gradient)
        optimizer.step()


def values(ps: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in ps]


def same_bits(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    """Equal to the last bit, the sign of zero and the payload of NaN included."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
        for a, b in zip(left, right, strict=True)
    )


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().contiguous()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.reshape(-1).view(torch.uint8)


def through_a_file(thing: Any) -> Any:
    """Saved and loaded with torch's defaults: weights only."""
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file)


COPIERS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}


def restore(ps: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for p, value in zip(ps, kept, strict=True):
            p.copy_(value)


def averaged(optimizer: Any, ps: Sequence[Tensor]) -> list[Tensor]:
    """What is evaluated with, where there is an average."""
    if not optimizer.has_average:
        return []
    with optimizer.eval_weights():
        return values(ps)


def check_resumes(
    fresh: Callable[[int], tuple[Sequence[Tensor], Any]],
    total: int,
    *,
    ahead: int | None = None,
    step: Callable[[Any, Sequence[Tensor], int], None] | None = None,
    events: bool = True,
) -> Any:
    """A run that is saved to a file before any step and loaded into fresh objects goes on bitwise.

    Weights and events are compared after each step, averages at the end.

    Args:
        fresh: makes parameters, from a seed, and their wrapper.
        ahead: steps that a resumed run is followed; to the end if not given.
        step: takes one step; `train` if not given.
        events: compare them too.

    Returns:
        The undisturbed wrapper.
    """
    step = step or (lambda optimizer, ps, t: train(optimizer, ps, 1, start=t))
    ps, optimizer = fresh(0)
    cuts, path = [], []
    for t in range(total):
        cuts.append(through_a_file([values(ps), optimizer.state_dict()]))
        step(optimizer, ps, t)
        path.append((values(ps), averaged(optimizer, ps), timeless(optimizer.last_event)))
    for cut, (saved, state) in enumerate(cuts):
        others, resumed = fresh(9)
        restore(others, saved)
        resumed.load_state_dict(state)
        until = min(total, cut + (ahead or total))
        for t in range(cut, until):
            step(resumed, others, t)
            assert same_bits(others, path[t][0]), f"cut at {cut}, step {t}"
            event = timeless(resumed.last_event)  # none before the first after the cut
            assert not events or event in (None, path[t][2]), f"cut at {cut}, step {t}"
        assert same_bits(averaged(resumed, others), path[until - 1][1]), f"cut at {cut}"
        assert event or until - cut <= optimizer.predictor.every or not path[until - 1][2]
    return optimizer


def pairwise(*columns: Iterable[Any], fits: Callable[..., bool] = lambda *case: True) -> list[Any]:
    """A few of all combinations; any two values of two columns that fit meet in one of them."""
    cases = [case for case in itertools.product(*columns) if fits(*case)]
    random.Random(0).shuffle(cases)  # else the first values meet all others

    def pairs(case: Sequence[Any]) -> set[Any]:
        return set(itertools.combinations(enumerate(map(str, case)), 2))

    left = set().union(*map(pairs, cases))
    chosen = []
    while left:
        chosen.append(max(cases, key=lambda case: len(pairs(case) & left)))
        left -= pairs(chosen[-1])
    return chosen


# --- what the machine sees ----------------------------------------------------------------------


def drive(
    predictor: P.Predictor, path: Sequence[Sequence[Tensor]], *, cycle: int = 1
) -> list[Tensor]:
    """The jump that a predictor makes at the end of one cycle along these points."""
    ps = [p.detach().clone() for p in path[0]]
    segments = make_segments(ps, predictor.buffers, predictor.precision(predictor.horizon))
    work = P.Workspace(segments, predictor.horizon, cycle, {}, age=cycle)
    for number, point in enumerate(path):
        for p, value in zip(ps, point, strict=True):
            p.copy_(value)
        predictor.observe_(number, work)
    scale = predictor.finish_(work)
    return [scale * buffer for buffer in segments[0].buffers[0]]


def weights_by_running(predictor: P.Predictor) -> list[float]:
    """The weights of a fixed predictor, read off points that are the unit vectors."""
    unit = torch.eye(predictor.every + 1, dtype=torch.float64)
    (jump,) = drive(predictor, [[point] for point in unit])
    return (jump + unit[-1]).tolist()


class Calls(TorchDispatchMode):
    """Counts the operations on tensors by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _tensors((args, kwargs)):
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Allocations(TorchDispatchMode):
    """Sees every storage that operations create: the bytes alive at most, and all since `mark`."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self.since_mark: list[int] = []

    def mark(self) -> None:
        self.since_mark = []

    def alive(self) -> int:
        """Bytes of the storages that are still there."""
        return sum(size for ref, size in self.known.values() if not ref.expired())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.known = {key: ref for key, ref in self.known.items() if not ref[0].expired()}
        given = {StorageWeakRef(t.untyped_storage()).cdata for t in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            ref = StorageWeakRef(tensor.untyped_storage())
            size = tensor.untyped_storage().nbytes()
            if ref.cdata not in given and ref.cdata not in self.known:
                self.known[ref.cdata] = (ref, size)
                self.since_mark.append(size)
        self.peak = max(self.peak, self.alive())
        return result


def _tensors(tree: Any) -> list[Tensor]:
    leaves = tree_leaves(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type != "meta"]


def timeless(event: ForecastEvent | None) -> ForecastEvent | None:
    """The event without the one field that differs from run to run."""
    return None if event is None else event._replace(milliseconds=0.0)
