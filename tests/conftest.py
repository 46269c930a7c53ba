"""One thread, fixed seeds, and the fixtures that several files use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from paramcast.predictors import Affine
from paramcast.tensors import segments
from reference import AFFINE, BASES, PREDICTORS, Case

torch.set_num_threads(1)
settings.register_profile("paramcast", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("paramcast")


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder of this test run, the same for all pytest workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    # not torch.manual_seed: where CUDA sleeps it notes the whole stack each time, for later
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(params=["apart", "gathered"])
def gathering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the few short vectors of a test one by one, and gathered."""
    if request.param == "gathered":
        monkeypatch.setattr(segments, "FEWEST", 1)


@pytest.fixture(params=AFFINE, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each predictor whose weights say all, with its rule written out."""
    return request.param


@pytest.fixture(params=PREDICTORS, ids=lambda predictor: repr(predictor))
def predictor(request: pytest.FixtureRequest) -> Affine:
    """Each predictor, the random one too."""
    return request.param


@pytest.fixture(params=AFFINE, ids=lambda case: case.name)
def fixed(request: pytest.FixtureRequest) -> Affine:
    """Each predictor that does nothing but fold and write."""
    return request.param.predictor


@pytest.fixture(params=BASES, ids=str)
def base(request: pytest.FixtureRequest) -> Callable[..., torch.optim.Optimizer]:
    """Each kind of base optimizer, as a function of the parameters."""
    return BASES[request.param]
