"""torch's own optimizer test data as a suite: every optimizer, every input, wrapped with PLP.

`optim_db` is what torch tests its optimizers with. Each input is a case, in all implementations
that torch lists for CUDA, which are the most (one by one, foreach, fused, differentiable,
capturable); sparse gradients and complex parameters are further cases of the optimizers that
support them. Each check takes a function that wraps, so that the same check runs on the bare
optimizer: a case may fail only where the bare optimizer fails too.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
)

import paramcast as pc

Wrap = Callable[[Optimizer], Optimizer]
MATRICES = ((4, 3), (3, 2))  # Muon takes nothing else
SHAPES = ((3, 4), (4,), ())
LATER = 20


class Case(NamedTuple):
    """One optimizer with one input of torch's."""

    info: OptimizerInfo
    number: int
    kwargs: dict[str, Any]
    label: str
    sparse: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def name(self) -> str:
        return f"{self.info.name}-{self.number}-{self.label}"

    def parameters(self) -> list[torch.nn.Parameter]:
        draw = torch.Generator().manual_seed(0)
        shapes = MATRICES if self.info.name == "Muon" or self.sparse else SHAPES
        values = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
        return [torch.nn.Parameter(value.to(self.device, self.dtype)) for value in values]

    def optimizer(self, parameters: list[torch.nn.Parameter]) -> Optimizer:
        return self.info.optim_cls(parameters, **copy.deepcopy(self.kwargs))


def cases(device: str = "cpu") -> Iterator[Case]:
    """All of torch's inputs, and what the optimizers say that they support beside them."""
    for info in optim_db:
        inputs = _get_optim_inputs_including_global_cliquey_kwargs("cuda", torch.float32, info)
        only_sparse = info.only_supports_sparse_grads
        rows = [Case(info, 0, each.kwargs, each.desc, only_sparse) for each in inputs]
        if info.supports_sparse and not only_sparse:
            rows.append(Case(info, 0, info.metadata_for_sparse[0], "sparse gradients", True))
        if info.supports_complex and not only_sparse:
            rows.append(Case(info, 0, {}, "complex parameters", dtype=torch.complex64))
        for number, row in enumerate(rows):
            yield row._replace(number=number, device=device)


@lru_cache(maxsize=1024)
def push(i: int, t: int, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A gradient that changes with the step: nothing settles."""
    places = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
    return torch.sin(places + 1.7 * i + 0.9 * t).to(device, dtype)


def train(case: Case, optimizer: Optimizer, ps: list[Any], steps: int, start: int = 0) -> None:
    """A pull towards zero and a push."""
    with torch.sparse.check_sparse_tensor_invariants(enable=True):
        for t in range(start, start + steps):
            for i, p in enumerate(ps):
                grad = 0.5 * p.detach() + push(i, t, p.shape, p.dtype, p.device)
                p.grad = grad.to_sparse(1) if case.sparse else grad
            optimizer.step()


# --- the checks -----------------------------------------------------------------------------------


def predicts(case: Case, wrap: Wrap) -> None:
    """Two steps are the base's, bitwise; the third is its step and the jump of PLP."""
    slow, ps = case.parameters(), case.parameters()
    bare, optimizer = case.optimizer(slow), wrap(case.optimizer(ps))
    points = []
    for t in range(3):
        if t == 2:
            expect("before the prediction", ps, slow)
        train(case, bare, slow, 1, t)
        train(case, optimizer, ps, 1, t)
        points.append([p.detach().clone() for p in slow])
    if optimizer is not bare and isinstance(optimizer, pc.Forecast):
        for first, second, p in zip(*points[:2], slow, strict=True):
            p.data.add_(first - second, alpha=-0.5)
        assert not same([p.detach() for p in slow], points[2])
    expect("after it", ps, slow)


def resume(case: Case, wrap: Wrap) -> None:
    """In the middle of a cycle: through a file into a fresh object, then 20 equal steps."""
    ps = case.parameters()
    optimizer = wrap(case.optimizer(ps))
    train(case, optimizer, ps, 5)
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), [p.detach() for p in ps]], file)
    file.seek(0)
    state, values = torch.load(file)
    fresh = [torch.nn.Parameter(value) for value in values]
    resumed = wrap(case.optimizer(fresh))
    resumed.load_state_dict(state)
    go_on(case, (ps, optimizer), (fresh, resumed), 5)


def degenerate(case: Case, wrap: Wrap) -> None:
    """With the weights (0, 0, 0, 1) parameters and state are the bare optimizer's, bitwise."""
    nothing = pc.predictors.Affine((0.0, 0.0, 0.0, 1.0))
    ps, slow = case.parameters(), case.parameters()
    optimizer, bare = pc.Forecast(case.optimizer(ps), nothing), case.optimizer(slow)
    train(case, optimizer, ps, LATER)
    train(case, bare, slow, LATER)
    expect("parameters", ps, slow)
    expect("state", ours(optimizer), ours(bare))


def deepcopied(case: Case, wrap: Wrap) -> None:
    """A deep copy in the middle of a cycle has all public attributes and goes on equally."""
    copies(case, wrap, copy.deepcopy)


def pickled(case: Case, wrap: Wrap) -> None:
    """The same through pickle."""
    copies(case, wrap, lambda both: pickle.loads(pickle.dumps(both)))


def copies(case: Case, wrap: Wrap, copier: Callable[[Any], Any]) -> None:
    ps = case.parameters()
    optimizer = wrap(case.optimizer(ps))
    train(case, optimizer, ps, 5)
    twins, twin = copier((ps, optimizer))
    public = [{name for name in vars(o) if name[0] != "_"} for o in (optimizer, twin)]
    assert public[0] == public[1]
    assert all(a is not b for a, b in zip(ps, twins, strict=True))
    go_on(case, (ps, optimizer), (twins, twin), 5)


def hooks(case: Case, wrap: Wrap) -> None:
    """Each hook runs once per call on its own optimizer, may change what torch lets it change."""
    ps = case.parameters()
    optimizer = wrap(case.optimizer(ps))
    inner = getattr(optimizer, "base", optimizer)
    calls: Counter[str] = Counter()

    def count(name: str, owner: Optimizer) -> Callable[..., None]:
        def hook(seen: Optimizer, *_: Any) -> None:
            assert seen is owner
            calls[name] += 1

        return hook

    def mark(seen: Optimizer) -> None:
        seen.state["mark"] = 1

    def unmark(seen: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        assert state["state"].pop("mark") == 1
        return {**state, "added": True}

    def slower(seen: Optimizer, state: dict[str, Any]) -> None:
        state["param_groups"][0]["lr"] = 0.002

    handles = [
        register_optimizer_step_pre_hook(count("global pre", inner)),
        register_optimizer_step_post_hook(count("global post", inner)),
        optimizer.register_step_pre_hook(count("pre", optimizer)),
        optimizer.register_step_post_hook(count("post", optimizer)),
        optimizer.register_state_dict_pre_hook(mark),
        optimizer.register_state_dict_post_hook(unmark),
        optimizer.register_load_state_dict_pre_hook(slower),
        optimizer.register_load_state_dict_post_hook(count("loaded", optimizer)),
    ]
    try:
        train(case, optimizer, ps, 4)
        state = copy.deepcopy(optimizer.state_dict())
        assert state.pop("added") is True
        optimizer.load_state_dict(state)
    finally:
        for handle in handles:
            handle.remove()
    steps = dict.fromkeys(("global pre", "global post", "pre", "post"), 4)
    assert calls == {**steps, "loaded": 1}
    assert optimizer.param_groups[0]["lr"] == 0.002
    train(case, optimizer, ps, 1, 4)
    assert calls.total() == 17


CHECKS: dict[str, Callable[[Case, Wrap], None]] = {
    "predicts": predicts,
    "resume": resume,
    "degenerate": degenerate,
    "deepcopy": deepcopied,
    "pickle": pickled,
    "hooks": hooks,
}


# --- the outcome ----------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """`kind` is passed, refused, as bare (the bare optimizer fails too) or failed."""

    kind: str
    why: str = ""


def outcome(case: Case, check: str) -> Outcome:
    """Run one check on one case, and on the bare optimizer if it fails."""
    try:
        base = case.optimizer(case.parameters())
    except Exception as bare:
        return Outcome("as bare", f"{type(bare).__name__}: {bare}")
    try:
        pc.PLP(base)
    except pc.errors.BaseOptimizerError as error:
        return Outcome("refused", str(error))
    try:
        CHECKS[check](case, pc.PLP)
    except Exception as error:
        try:
            CHECKS[check](case, lambda base: base)
        except Exception as bare:
            return Outcome("as bare", f"{type(bare).__name__}: {bare}")
        return Outcome("failed", f"{type(error).__name__}: {error}")
    return Outcome("passed")


def expected(case: Case) -> str:
    """The kind of outcome that every check of a case has."""
    if case.info.name == "LBFGS" or case.kwargs.get("differentiable"):
        return "refused"
    graphs = case.kwargs.get("capturable") and not case.kwargs.get("fused")
    return "as bare" if graphs and case.device == "cpu" else "passed"


# --- helpers --------------------------------------------------------------------------------------


def go_on(case: Case, one: tuple[Any, Any], other: tuple[Any, Any], start: int) -> None:
    """20 steps of both, equal to the last bit."""
    for ps, optimizer in (one, other):
        train(case, optimizer, ps, LATER, start)
    expect("parameters", one[0], other[0])
    expect("state", one[1].state_dict(), other[1].state_dict())


def ours(optimizer: Optimizer) -> dict[str, Any]:
    return {key: value for key, value in optimizer.state_dict().items() if key != "paramcast"}


def expect(what: str, left: Any, right: Any) -> None:
    if not same(left, right):
        raise AssertionError(f"{what} differ")


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, through lists and dictionaries."""
    if isinstance(left, Tensor):
        left, right = left.detach(), right.detach()
        alike = left.dtype == right.dtype and left.shape == right.shape
        return alike and torch.equal(bits(left), bits(right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and (left == right or left != left)


def bits(tensor: Tensor) -> Tensor:
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.contiguous().reshape(-1).view(torch.uint8)
