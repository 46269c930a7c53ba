"""Whether a prediction is written: gates return a decision with a reason.

Gates combine with `&`: all must agree, and the shortest jump wins. A gate that always refuses
leaves the base optimizer, bitwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from ._checks import as_constructed, finite, named, scalar, whole, within
from .errors import ArgumentError
from .events import Decision, Proposal
from .tensors import functional as F
from .tensors.segments import forget_copies


class Gate(ABC):
    """Decides on each prediction.

    Attributes:
        agreement: needs the cosine of the cycle's half displacements (two buffers).
        progress: needs the total number of steps.
    """

    agreement = False
    progress = False

    @abstractmethod
    def decide(self, proposal: Proposal) -> Decision:
        """Say whether to write the prediction, and why."""

    def parts(self) -> list[Gate]:
        """The gates that this one is combined of."""
        return [self]

    def __and__(self, other: Gate) -> Gate:
        return _All(self, other)

    def __repr__(self) -> str:
        return as_constructed(self)


class After(Gate):
    """Only after a number of steps, or after a share of the run.

    Args:
        steps: completed steps, or
        share: of the total steps, in [0, 1].
    """

    opens = True

    def __init__(self, steps: int | None = None, *, share: float | None = None) -> None:
        if (steps is None) == (share is None):
            raise ArgumentError(f"give either steps or share, got {steps!r} and {share!r}")
        self.steps = None if steps is None else whole("steps", steps, 0)
        self.share = None if share is None else within("share", share, 0.0, 1.0)
        self.progress = share is not None

    def decide(self, proposal: Proposal) -> Decision:
        if self.steps is not None:
            passed = proposal.step >= self.steps
            now, limit = f"step {proposal.step}", f"{self.steps}"
        else:
            progress, share = proposal.progress or 0.0, self.share or 0.0
            passed = progress >= share
            now, limit = f"progress {progress:.2f}", f"{share:g}"
        return Decision(passed is self.opens, f"{now} {'>=' if passed else '<'} {limit}")


class Before(After):
    """Only before a number of steps, or before a share of the run; arguments as for `After`."""

    opens = False


class Every(Gate):
    """Only every n-th cycle.

    Args:
        n: at least 1.
    """

    def __init__(self, n: int) -> None:
        self.n = whole("n", n, 1)

    def decide(self, proposal: Proposal) -> Decision:
        apply = proposal.cycle % self.n == 0
        return Decision(apply, f"cycle {proposal.cycle}, every {self.n}")


class Agreement(Gate):
    """Only while the parameters move straight ahead.

    The cycle's displacement is split into halves d_1, d_2 (for three steps: theta_2 - theta_1 and
    theta_3 - theta_2), and cos = <d_1, d_2> / (|d_1| |d_2|) must exceed `above`.

    Args:
        above: threshold, in [-1, 1).

    Memory: two elements per parameter. Needs cycles of at least 2 steps.
    """

    agreement = True

    def __init__(self, above: float = 0.0) -> None:
        self.above = within("above", above, -1.0, 1.0, ends="[)")

    def decide(self, proposal: Proposal) -> Decision:
        cosine = proposal.agreement()
        apply = cosine > self.above
        return Decision(apply, f"agreement {cosine:.2f} {'>' if apply else '<='} {self.above:.2f}")


class MaxRelativeJump(Gate):
    """A trust region: the jump may be at most a share of the parameters' norm.

    Args:
        limit: largest |jump| / |theta|, above 0.
        shorten: cut a longer jump to the limit; otherwise refuse it.
    """

    def __init__(self, limit: float, *, shorten: bool = True) -> None:
        self.limit = finite("limit", limit)
        if self.limit <= 0:
            raise ArgumentError(f"limit must be above 0, got {limit!r}")
        self.shorten = shorten

    def decide(self, proposal: Proposal) -> Decision:
        jump, norm = proposal.jump_norm(), proposal.parameter_norm()  # of this cycle, not recent
        # a parameter norm of 0 allows no jump at all
        if jump <= self.limit * norm:
            return Decision(True, f"relative jump within {self.limit:g}")
        reason = f"relative jump {jump / norm if norm else float('inf'):.3g} > {self.limit:g}"
        if not self.shorten or norm == 0.0:
            return Decision(False, reason)
        return Decision(True, f"{reason}, shortened", self.limit * norm / jump)


class LossCheck(Gate):
    """Keep the prediction only if a loss does not rise; otherwise the parameters are restored.

    Args:
        loss: a function without arguments that returns the loss at the current parameters, such as
            that of a fixed batch in evaluation mode. It is called twice per prediction, without
            gradients.
        tolerance: the largest rise allowed, at least 0.
        model: the model that the loss evaluates; needed if it is sharded with `fully_shard`, whose
            outermost module would otherwise show the parameters of its last forward pass.

    Attributes:
        evaluations: how many times the loss was computed, which is what the gate costs.

    With several processes, the mean of their losses decides.

    Memory: one element per parameter (undoing by subtraction would not be bitwise).
    """

    def __init__(
        self,
        loss: Callable[[], Tensor | float],
        *,
        tolerance: float = 0.0,
        model: nn.Module | None = None,
    ) -> None:
        if not callable(loss):
            raise ArgumentError(f"loss must be a function that returns the loss, got {loss!r}")
        self.loss = loss
        self.tolerance = within("tolerance", tolerance, 0.0, float("1e300"))
        self.model, self.evaluations = model, 0

    def decide(self, proposal: Proposal) -> Decision:
        return Decision(True, "to be checked by the loss")

    def measure(self) -> float:
        """The loss at the current parameters."""
        self.evaluations += 1
        forget_copies()  # the base's step overwrote parameters too
        if self.model is not None:
            F.reshard_(self.model)
        try:
            value = self.loss()
        except TypeError as error:
            raise ArgumentError(
                f"loss must be a function without arguments; calling {self.loss!r} failed: {error}"
            ) from error
        # all processes decide by the same number
        loss = F.mean_over_ranks(scalar("what loss() returns", value))
        if self.model is not None:
            F.reshard_(self.model)
        return loss

    def __repr__(self) -> str:
        return f"LossCheck(loss={named(self.loss)}, tolerance={self.tolerance!r})"


class _All(Gate):
    """All must agree; the shortest jump wins."""

    def __init__(self, *gates: Gate) -> None:
        for gate in gates:
            if not isinstance(gate, Gate):
                raise ArgumentError(f"gates combine with gates, got {gate!r}")
        self.gates = gates
        self.agreement = any(gate.agreement for gate in gates)
        self.progress = any(gate.progress for gate in gates)

    def decide(self, proposal: Proposal) -> Decision:
        decisions = []
        for gate in self.gates:  # in order: once one refuses, the rest are not asked
            decisions.append(gate.decide(proposal))
            if not decisions[-1].apply:
                return decisions[-1]
        shortest = min(decision.scale for decision in decisions)
        fired = tuple(each for decision in decisions for each in decision.fired)
        return Decision(True, " and ".join(d.reason for d in decisions), shortest, fired)

    def parts(self) -> list[Gate]:
        return [part for gate in self.gates for part in gate.parts()]

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.gates))})"
