"""bfloat16, compiled steps and channels-last: the same training within stated tolerances.

The compiler's front end and its backward passes run here (`aot_eager`); code is generated in the
test marked slow, which needs a C++ compiler, and on a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from paramcast.errors import StudyError
from paramcast.study.spec import Numerics, RunSpec
from paramcast.study.tasks.task import Prepared, Task, prepare
from paramcast.study.tasks.vision import crop_and_flip
from paramcast.study.training import precision
from paramcast.study.training.loop import run
from paramcast.study.training.precision import choose, evaluation_batch
from runs import run_spec

FAST = {"precision": "bfloat16", "compiled": True, "channels_last": True}
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _compiler_without_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(precision, "BACKEND", "aot_eager")
    torch.compiler.reset()
    precision._compiled.cache_clear()
    yield
    torch.compiler.reset()
    precision._compiled.cache_clear()


def split(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    patterns = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return patterns[targets] + 0.7 * torch.randn(count, 3, 8, 8, generator=draw), targets


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(72, 3),
    )  # fmt: skip


def images(**changes: Any) -> Prepared:
    """Three noisy patterns: 7 batches of 16 and one of 8 per epoch."""
    settings: dict[str, Any] = {
        "name": "patterns", "model": network, "epochs": 2, "batch_size": 16,
        "train": split(120, 1), "validation": split(90, 2), "test": split(90, 3),
    }  # fmt: skip
    return prepare(Task(**(settings | changes)))


def spec(prepared: Prepared, method: str = "plp", **changes: Any) -> RunSpec:
    return run_spec(prepared, **{"method": method, "lr": 0.05, **changes})


def losses(outcome: dict[str, Any]) -> list[float]:
    """Training and validation loss of each epoch, then the test loss."""
    curve = [
        point[name] for point in outcome["curve"] for name in ("train_loss", "validation_loss")
    ]
    return [*curve, outcome["test"]["loss"]]


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


# --- the same training ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["base", "plp"])
def test_a_compiled_run_is_the_eager_run(method: str) -> None:
    task = images(augment=crop_and_flip)
    eager, compiled = (run(spec(task, method, compiled=c), task) for c in (False, True))
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)
    assert compiled["test"]["metric"] == eager["test"]["metric"]
    assert compiled["steps"] == eager["steps"] == 16


def test_channels_last_changes_rounding_only(prepared: Callable[..., Prepared]) -> None:
    task = images(augment=crop_and_flip)
    usual, last = (run(spec(task, channels_last=c), task) for c in (False, True))
    assert losses(last) == pytest.approx(losses(usual), rel=1e-4)
    task = prepared()  # other inputs than images stay as they are
    usual, last = (run(spec(task, channels_last=c), task) for c in (False, True))
    assert losses(last) == losses(usual)


@pytest.mark.parametrize(
    ("method", "changes"), [("base", FAST), ("plp", {"precision": "bfloat16"})]
)
def test_bfloat16_trains_to_nearly_the_same_loss(method: str, changes: dict[str, Any]) -> None:
    # bfloat16 keeps 8 bits: a relative error of 2^-9 = 0.2 % per product.
    task = images(epochs=4)
    full, half = (run(spec(task, method, epochs=4, **c), task) for c in ({}, changes))
    assert half["status"] == "done"
    assert losses(half) == pytest.approx(losses(full), rel=0.05, abs=0.02)
    assert losses(half) != pytest.approx(losses(full), rel=1e-5)  # it did compute in bfloat16
    assert half["test"]["metric"] == pytest.approx(full["test"]["metric"], abs=0.03)
    assert half["curve"][-1]["train_loss"] < 0.5 * half["curve"][0]["train_loss"]


def test_weights_gradients_and_the_prediction_stay_float32() -> None:
    seen: set[torch.dtype] = set()

    class Watched(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.update(t.dtype for t in (self.weight, self.weight.grad) if t is not None)
            outputs = super().forward(inputs)
            computed.add(outputs.dtype)
            return outputs

    computed: set[torch.dtype] = set()
    task = images(model=lambda: nn.Sequential(nn.Flatten(), Watched(192, 3)))
    computed.clear()
    run(spec(task, precision="bfloat16"), task)
    assert seen == {torch.float32}
    assert computed == {torch.bfloat16}


# --- one compilation ------------------------------------------------------------------------------


def test_runs_of_one_process_share_a_compilation_and_the_last_batch_needs_none() -> None:
    task = images()
    torch._dynamo.utils.counters.clear()
    for seed in range(3):
        for method in ("base", "plp"):
            run(spec(task, method, seed=seed, compiled=True), task)
    assert graphs() == 1


def test_every_batch_size_is_compiled_once_however_many_there_are() -> None:
    # torch gives up after 8 compilations of one function, without a word.
    task = images()
    torch._dynamo.utils.counters.clear()
    for size in (*range(12, 21), 12):
        run(spec(task, batch_size=size, compiled=True, epochs=1), task)
    assert graphs() == 9


@pytest.mark.slow
def test_a_run_through_the_code_generator_is_the_eager_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "BACKEND", "inductor")
    task = images(augment=crop_and_flip)
    for method in ("base", "plp"):
        eager, compiled = (run(spec(task, method, compiled=c), task) for c in (False, True))
        assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)


@pytest.mark.slow
def test_workers_compile(paramcast: Callable[..., Any]) -> None:
    # A daemon may have no children of its own; the code generator starts some.
    words = ("pilot", "digits/mlp", *QUICK, "--workers", 2, "--json")
    eager, compiled = paramcast(*words), paramcast(*words[:-1], "--json", "--out", "b", "--compile")
    assert compiled.code == 0, compiled.err
    for one, two in zip(eager.cell["table"], compiled.cell["table"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


# --- no waiting for the device --------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: numbers read, sizes that depend on data."""

    WAIT = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += function.overloadpacket.__name__ in self.WAIT
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("method", "changes"),
    [("base", {}), ("demon", {"precision": "bfloat16", "channels_last": True})],
)
def test_steps_read_nothing_from_the_device(method: str, changes: dict[str, Any]) -> None:
    task = images(augment=crop_and_flip)
    reads = []
    for size in (60, 10):
        with Reads() as counted:
            assert run(spec(task, method, batch_size=size, **changes), task)["steps"] == 240 // size
        reads.append(counted.count)
    assert reads[0] == reads[1] > 0  # at the ends of epochs only, whatever the number of steps


# --- size of an evaluation's batches --------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "device", "size"),
    [
        ((64,), "cpu", 256),
        ((1, 28, 28), "cpu", 256),
        ((3, 32, 32), "cpu", 256),
        ((3, 32, 32), "cuda", 2048),
        ((3, 2000, 2000), "cpu", 1),
    ],
)
def test_an_evaluation_is_cut_by_the_size_of_the_inputs(
    shape: tuple[int, ...], device: str, size: int
) -> None:
    assert evaluation_batch(torch.empty(1, *shape, device="meta"), device) == size


# --- what is chosen -------------------------------------------------------------------------------


def test_a_cpu_computes_as_before_and_a_gpu_fast() -> None:
    assert choose("cpu") == Numerics() == Numerics("float32", False, False)
    assert choose("cuda:1") == Numerics("bfloat16", True, True)
    assert choose("cuda", "float32", False, False) == Numerics()
    assert choose("cpu", "bfloat16", True, True) == Numerics(**FAST)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(StudyError, match="--precision must be one of float32, bfloat16, got 'fp8'"):
        choose("cpu", "fp8")


def test_the_key_tells_numerics_apart_and_the_usual_ones_keep_it() -> None:
    plain = spec(images())
    others = [replace(plain, **{name: value}) for name, value in FAST.items()]
    assert len({s.key for s in (plain, *others)}) == 4
    assert replace(plain, **Numerics()._asdict()).key == plain.key


@pytest.mark.parametrize(("tf32", "frozen"), [(False, True), (True, False)])
def test_a_gpus_arithmetic_is_set_for_the_run_and_given_back(
    tf32: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flags of torch, which are there without a GPU; `conv.fp32_precision` is what cuDNN is given.
    def flags() -> tuple[Any, ...]:
        backends = torch.backends
        return (
            backends.cuda.matmul.allow_tf32, backends.cudnn.conv.fp32_precision == "tf32",
            backends.cudnn.benchmark,
        )  # fmt: skip

    before = flags()
    # torch's own test helpers, which other tests load, freeze them for the rest of the process
    monkeypatch.setattr(torch.backends, "__allow_nonbracketed_mutation_flag", not frozen)
    with precision.arithmetic("cuda:0", tf32=tf32):
        assert flags() == (tf32, tf32, True)
    assert flags() == before
    with precision.arithmetic("cpu", tf32=tf32):
        assert flags() == before


# --- the command line -----------------------------------------------------------------------------

QUICK = ("--lr", 0.05, "--seeds", 2, "--methods", "plp", "--epochs", 1, "--out", "out")


def test_a_pilot_in_bfloat16_goes_on_and_refuses_another_precision(
    paramcast: Callable[..., Any], task_file: Callable[..., Path]
) -> None:
    task_file()
    words = ("pilot", "blobs.py", *QUICK, "--precision", "bfloat16", "--workers", 1, "--json")
    first, again = paramcast(*words), paramcast(*words)
    assert (first.code, again.code) == (0, 0), first.err
    assert first.result["reused_runs"] == 0
    assert again.cell["table"] == first.cell["table"]
    assert again.result["reused_runs"] > 0
    assert "--precision bfloat16" in first.result["command"]
    other = paramcast("pilot", "blobs.py", *QUICK, "--workers", 1)
    assert other.code == 2
    assert "precision: there bfloat16, asked float32" in other.err


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("method", ["base", "plp"])
def test_on_a_gpu_all_of_it_trains_to_nearly_the_same_loss(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "BACKEND", "inductor")
    here, there = images(epochs=4), images(epochs=4).to("cuda")
    full = run(spec(here, method, epochs=4), here)
    single = run(spec(there, method, epochs=4, device="cuda"), there)
    half = run(spec(there, method, epochs=4, device="cuda", **FAST), there)
    assert losses(single) == pytest.approx(losses(full), rel=1e-3)
    assert losses(half) == pytest.approx(losses(full), rel=0.05, abs=0.02)
    assert 0 < half["peak_memory"] < 2**30


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("method", ["base", "plp", "demon"])
def test_on_a_gpu_a_step_waits_for_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = images(augment=crop_and_flip).to("cuda")
    step = torch.optim.lr_scheduler.LambdaLR.step

    def watched(scheduler: Any, *args: Any) -> None:  # called in the middle of every training step
        torch.cuda.set_sync_debug_mode("warn")
        step(scheduler, *args)

    def waits(size: int) -> int:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run(spec(task, method, device="cuda", epochs=1, batch_size=size), task)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(w.message) for w in caught)

    waits(60)
    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", watched)
    assert waits(60) == waits(10) > 0  # at the epoch's end only, whether after 2 steps or 12
