"""DeepSpeed with the wrapper as its client optimizer, all ZeRO stages (slow: its import is)."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import paramcast as pc
from paramcast.averaging import EMA
from paramcast.errors import ArgumentError, BaseOptimizerError
from paramcast.integrations.common import check_shows_average, unwrap
from training import JOINT, Net, assert_bitwise, assert_close, loss_at, sgd, train, wrapped
from two_processes import Ranks, on_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _needs_deepspeed() -> None:
    pytest.importorskip("deepspeed")


def start(stage: str, average: EMA | None = None, bfloat16: bool = False) -> tuple[Any, pc.PLP]:
    """An engine around the small network, and the wrapper that it was given."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    warnings.simplefilter("ignore")  # DeepSpeed's own
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled
    model = Net()
    optimizer = pc.PLP(sgd(model.parameters()), average=average)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": int(stage)},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bfloat16},
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config, dist_init_required=False
    )
    return engine, optimizer


def run(engine: Any, steps: range, ranks: Ranks) -> None:
    for step in steps:
        engine.backward(loss_at(engine, step, ranks.rank, ranks.world))
        engine.step()


def values(engine: Any) -> dict[str, torch.Tensor]:
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        return {n: p.detach().clone() for n, p in engine.module.named_parameters()}


@pytest.mark.compat(stack="DeepSpeed", feature="train")
@pytest.mark.compat(stack="DeepSpeed", feature="resume in mid-cycle")
@pytest.mark.compat(stack="DeepSpeed", feature="sharded")
@on_ranks(cases=["0", "1", "2", "3"])
def test_a_run_equals_one_process_and_resumes_in_mid_cycle(ranks: Ranks, case: str) -> None:
    engine, optimizer = start(case)
    alone: nn.Module = Net()
    train(alone, wrapped(alone, JOINT)[0], range(11))
    run(engine, range(4), ranks)
    engine.save_checkpoint(str(ranks.folder))
    run(engine, range(4, 11), ranks)
    assert_close(values(engine), {n: p.detach() for n, p in alone.named_parameters()}, 1e-5)
    held = sum(
        flat.numel() for segment in optimizer._cycle.members.segments for flat in segment.flats
    )
    assert held == 26 if case == "0" else held < 26

    resumed, second = start(case)
    resumed.load_checkpoint(str(ranks.folder))
    assert (second._cycle.steps, second._cycle.done) == (4, 1)
    run(resumed, range(4, 11), ranks)
    assert_bitwise(values(resumed), values(engine))
    for wrong in (engine, engine.optimizer):
        with pytest.raises(BaseOptimizerError):
            pc.PLP(wrong)


@pytest.mark.compat(
    stack="DeepSpeed",
    feature="averaged evaluation",
    no="only with stage 0 in float32; else its master weights hide the average, which is refused",
)
@on_ranks(cases=["0", "0-bfloat16", "1", "2", "3"])
def test_an_average_that_the_model_does_not_show_is_refused(ranks: Ranks, case: str) -> None:
    engine, optimizer = start(case[0], EMA(decay=0.9), bfloat16=case.endswith("bfloat16"))
    if case == "0":
        run(engine, range(4), ranks)
        live = values(engine)
        check_shows_average(engine.optimizer)
        with optimizer.eval_weights():
            average = values(engine)
        assert not all(torch.equal(average[name], p) for name, p in live.items())
        assert_bitwise(values(engine), live)
        return
    assert unwrap(engine.optimizer) is optimizer
    with pytest.raises(ArgumentError, match="DeepSpeed keeps the averaged weights from the model"):
        check_shows_average(engine.optimizer)
    check_shows_average(start(case[0])[0].optimizer)
