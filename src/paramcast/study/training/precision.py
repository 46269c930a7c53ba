"""How a run computes: number format, memory layout, and compiled or not."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import StudyError
from ..spec import DEFAULT, Numerics, RunSpec
from ..tasks.task import Task

Loss = Callable[[Tensor, Tensor], Tensor]
TrainingLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]

# number formats of the forward pass; weights, gradients and predictions keep their own
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
BACKEND = "inductor"
# The most examples in one batch of an evaluation. A larger one does not fit a CPU's caches: one
# core passes 585 images a second through resnet8 in batches of 512, and 1,370 in batches of 256.
LARGEST_BATCH, LARGEST_BATCH_ON_CPU = 2048, 256
# the most input values in one batch on a CPU; activations take many times as much memory
ELEMENTS = 2**21


def choose(
    device: str,
    precision: str | None = None,
    compiled: bool | None = None,
    channels_last: bool | None = None,
) -> Numerics:
    """The device's default numerics, overridden by the user's choices.

    A CPU computes as the plain loop does; a GPU takes bfloat16, channels-last and a compiled step,
    which its matrix units need.

    Raises:
        StudyError: an unknown precision, or one that the GPU does not support.

    Example:
        >>> choose("cpu", precision="bfloat16")
        Numerics(precision='bfloat16', compiled=False, channels_last=False)
    """
    asked = zip(Numerics._fields, (precision, compiled, channels_last), strict=True)
    given: dict[str, Any] = {name: value for name, value in asked if value is not None}
    fast = device.startswith("cuda")
    chosen = Numerics("bfloat16" if fast else "float32", compiled=fast, channels_last=fast)
    chosen = chosen._replace(**given)
    if chosen.precision not in PRECISIONS:
        raise StudyError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    here = fast and torch.cuda.is_available()  # else a Ray worker has it
    able = not here or torch.cuda.is_bf16_supported(including_emulation=False)
    if chosen.precision == "bfloat16" and not able:
        raise StudyError(f"the GPU of --device {device} has no bfloat16; add --precision float32")
    return chosen


class Computation:
    """Computes the training batches of one run, from inputs to loss.

    In a compiled run, batches of the full size go through the compiled function. The smaller batch
    at an epoch's end and evaluations run eagerly, because each size would be compiled again. The
    backward passes of compiled batches are compiled with them.

    The optimizer's step is not compiled: predictions read and write what the base has just written,
    on their own schedule, and torch's `foreach` kernels leave little to fuse.

    Args:
        spec, task, model: the run, its task, and its model on its device.
        mode: of torch.compile; "reduce-overhead" records CUDA graphs, again for each new model.
    """

    def __init__(
        self, spec: RunSpec, task: Task, model: nn.Module, *, mode: str | None = None
    ) -> None:
        self.model, self.batch_size = model, spec.batch_size
        self.numerics = Numerics(spec.precision, spec.compiled, spec.channels_last)
        if spec.channels_last:  # weights of 4 dimensions
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        device, dtype = torch.device(spec.device).type, PRECISIONS[spec.precision]
        self._eager = self._full = training_loss(task.loss, device, dtype)
        if spec.compiled:
            self._full = _compiled(task.model, task.loss, device, dtype, spec.batch_size, mode)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of one training batch."""
        compute = self._full if len(inputs) == self.batch_size else self._eager
        return compute(self.model, laid_out(inputs, self.numerics), targets)


def outputs(model: nn.Module, inputs: Tensor, numerics: Numerics = DEFAULT) -> Tensor:
    """The model's outputs for a whole split as float32, computed in pieces."""
    kind = inputs.device.type
    with autocast(kind, PRECISIONS[numerics.precision]):
        # in pieces that fit into memory
        pieces = inputs.split(evaluation_batch(inputs, kind))
        parts = [model(laid_out(piece, numerics)) for piece in pieces]
    return widened(torch.cat(parts))


def laid_out(inputs: Tensor, numerics: Numerics) -> Tensor:
    """Lay images out channels-last if asked for; other inputs stay as they are."""
    if numerics.channels_last and inputs.ndim == 4:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def training_loss(loss: Loss, device: str, dtype: torch.dtype | None) -> TrainingLoss:
    """Make the function (model, inputs, targets) -> loss, under autocast on float32 outputs."""

    def compute(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(device, dtype):
            return loss(widened(model(inputs)), targets)

    return compute


@lru_cache(maxsize=16)
def _compiled(
    model: Callable[[], nn.Module],
    loss: Loss,
    device: str,
    dtype: torch.dtype | None,
    batch_size: int,
    mode: str | None,
) -> TrainingLoss:
    """Compile the training loss, once for each task, network and batch size of this process.

    The module is an argument, and torch takes its weights as inputs of the graph, so that the next
    run's fresh module of the same kind uses the same code. `model` and `batch_size` are here for
    the cache: each pair gets its own function, and with it its own limit of 8 compilations.
    """
    options: dict[str, Any] = {"backend": BACKEND, "dynamic": False, "mode": mode}
    # from the torch version that has it, each function has its own limit
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        options["isolate_recompiles"] = True
    compiled: TrainingLoss = torch.compile(training_loss(loss, device, dtype), **options)
    return compiled


def autocast(device: str, dtype: torch.dtype | None) -> torch.autocast:
    """torch's autocast to a number format; None switches it off."""
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def widened(outputs: Tensor) -> Tensor:
    """Half-precision outputs as float32; others stay as they are."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def evaluation_batch(inputs: Tensor, device: str) -> int:
    """Examples per forward pass of an evaluation: fast on the device, and sure to fit its memory.

    >>> evaluation_batch(torch.zeros(1, 3, 32, 32), "cpu")
    256
    """
    if device.startswith("cuda"):
        return LARGEST_BATCH
    return max(1, min(LARGEST_BATCH_ON_CPU, ELEMENTS // max(1, inputs[0].numel())))


@contextlib.contextmanager
def arithmetic(device: str, *, tf32: bool = False) -> Iterator[None]:
    """Set a GPU's arithmetic during a run: IEEE float32, or TensorFloat-32.

    cuDNN times its algorithms once per process for each shape of convolution and takes the fastest.
    """
    if not device.startswith("cuda"):
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32
    matmul.allow_tf32 = tf32
    try:
        # the context manager also works where a program has frozen these flags
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=True,
            benchmark_limit=cudnn.benchmark_limit,
            deterministic=cudnn.deterministic,
            allow_tf32=tf32,
        ):
            yield
    finally:
        matmul.allow_tf32 = before
