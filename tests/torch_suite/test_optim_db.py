"""Every optimizer and every input of torch's own test data, wrapped with PLP."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("expecttest")  # torch.testing._internal needs it

from optim_cases import CHECKS, Case, cases, expected, optim_db, outcome

import paramcast as pc

CASES = list(cases())
REASONS = {
    "LBFGS": "a predicted jump invalidates its curvature pairs",
    "differentiable": "predictions are written in place, outside autograd",
}


@pytest.mark.compat(stack="PyTorch: every optimizer of torch", feature="train")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_check_passes_or_the_bare_optimizer_fails_too(case: Case) -> None:
    for check in CHECKS:
        result = outcome(case, check)
        assert result.kind == expected(case), f"{check}: {result}"
        if result.kind == "refused":
            assert REASONS["LBFGS" if case.info.name == "LBFGS" else "differentiable"] in result.why
        if result.kind == "as bare":
            assert "capturable=True" in result.why


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("info", optim_db, ids=lambda info: info.name)
def test_every_check_passes_on_cuda(info: object) -> None:
    for case in cases("cuda"):
        if case.info is info:
            for check in CHECKS:
                result = outcome(case, check)
                assert result.kind in (expected(case), "as bare"), f"{case.name}, {check}: {result}"


def test_every_optimizer_of_torch_is_there() -> None:
    public = {
        name
        for name, thing in vars(torch.optim).items()
        if isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer)
    }
    assert {info.name for info in optim_db} == public - {"Optimizer"}


# --- the checks can fail --------------------------------------------------------------------------


class Forgetful(pc.PLP):
    """Loads nothing of the running cycle."""

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "paramcast"})


class Leaky(pc.PLP):
    """Runs its post hooks twice."""

    def step(self, closure=None):
        super().step(closure)
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (), {})


def test_a_wrapper_that_forgets_its_cycle_does_not_resume() -> None:
    with pytest.raises(AssertionError, match="parameters differ"):
        CHECKS["resume"](CASES[0], Forgetful)


def test_a_wrapper_that_calls_hooks_twice_is_found() -> None:
    with pytest.raises(AssertionError):
        CHECKS["hooks"](CASES[0], Leaky)


def test_a_wrapper_that_predicts_something_else_is_found() -> None:
    with pytest.raises(AssertionError, match="after it differ"):
        CHECKS["predicts"](CASES[0], lambda base: pc.PLP(base, horizon=1.5))
