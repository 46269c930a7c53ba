"""`paramcast.combine`: averages and predictions over checkpoints that exist already."""

from __future__ import annotations

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._checks import finite, whole, within
from .._files import replacing
from ..errors import ArgumentError, CheckpointError
from .choosing import Function, Watch, choose, own, tested
from .combination import Combination, record_of
from .formats import OF_TORCH, SAFE, from_content, needs_safetensors, open_checkpoint
from .rules import PREDICTORS, Knobs, Rule, candidates
from .series import Series


def combine(
    checkpoints: Sequence[str | Path | Mapping[str, Any]],
    out: str | Path | None = None,
    *,
    predictor: str | Rule | Sequence[str | Rule] | None = None,
    last: int | Sequence[int] = (),
    decay: float | Sequence[float] = (),
    horizon: float | Sequence[float] = (),
    evaluate: str | Function | None = None,
    test: str | Function | None = None,
    batch_norm: str | Function | None = None,
    metric: str = "",
    higher_is_better: bool | None = None,
    key: str = "",
    as_given: bool = False,
    watch: Watch = iter,
    tell: Callable[[str], None] = lambda said: None,
) -> Combination:
    """Average or extrapolate saved checkpoints, and choose the best by an evaluation.

    Each combination has weights that sum to 1: theta = sum_j w_j theta_j over the checkpoints, in
    float64, rounded to their dtypes. Integers, flags and the statistics of batch norm are the last
    checkpoint's; tied tensors stay tied.

    Args:
        checkpoints: files of torch (.pt, .pth, .bin, .ckpt) or safetensors, Hugging Face folders,
            or state dicts; at least 2 of one training. They are sorted by the step stored in them,
            else by the numbers in their names; state dicts must be in order.
        out: the file to write, in any of these formats; None to write nothing.
        predictor: "mean", "ema", "rre" or "line", or an average, an affine predictor or `RRE` of
            the library; several are tried if there is an evaluation, by default these four.
        last: how many of the last checkpoints a mean, an extrapolation or a line reads.
        decay: of the moving average, per checkpoint.
        horizon: of the line, in checkpoints past the last.
        evaluate: takes a state dict and returns a number, or numbers by name, on validation data;
            or "file.py:function". The state dict is its own to change.
        test: the same on test data, for the last checkpoint and the chosen combination.
        batch_norm: takes a state dict and returns it with running statistics estimated again.
        metric: the name of the result that decides.
        higher_is_better: its direction, unless its name says it.
        key: where the weights lie in a file, such as "ema.model".
        as_given: keep the order of the checkpoints.
        watch: goes through the combinations as they are evaluated, such as `tqdm.tqdm`.
        tell: told whose code runs.

    Returns:
        Everything that was tried and what was chosen; print it, or take its `state_dict()`.

    Raises:
        ParamcastError: checkpoints that do not fit each other, a file that cannot be read or
            written, a knob out of its range, an evaluation that fails on the last checkpoint.

    Example:
        >>> import torch
        >>> states = [{"weight": torch.tensor([float(i)])} for i in (1, 2, 6)]
        >>> combine(states, predictor="mean").state_dict()["weight"]
        tensor([3.])

    Source: Izmailov et al. (2018), arXiv 1803.05407 (mean); Sidi (2017) (rre).
    """
    place = None if out is None else Path(out)
    if place is not None:
        _check_out(place)
    if evaluate is None:
        for name, given in (("test", test), ("metric", metric)):
            if given:
                raise ArgumentError(f"{name} needs an evaluation that chooses; give evaluate too")
    # what there is, and what to try
    series = _series_of(checkpoints, key, as_given=as_given)
    notes = series.notes()
    kinds = _listed(predictor) or list(PREDICTORS)
    knobs = Knobs(
        [whole("last", each, 2) for each in _listed(last)],
        [within("decay", each, 0.0, 1.0, ends="()") for each in _listed(decay)],
        [finite("horizon", each) for each in _listed(horizon)],
    )
    if predictor is None and min([len(series), *knobs.last]) < 3:
        kinds.remove("rre")
        notes.append("rre was left out, which reads at least 3 checkpoints")
    if batch_norm is not None and not series.statistics:
        raise ArgumentError("batch_norm is for batch norm, and the checkpoints hold none of it")
    if series.statistics and batch_norm is None:
        notes.append(
            "the running statistics of batch norm are the last checkpoint's, which belong to other "
            "weights; a function batch_norm (--batch-norm) estimates them again"
        )
    tried = candidates(kinds, len(series), knobs, many=evaluate is not None)
    # the user's functions, and the choice by them
    modules: dict[Path, ModuleType] = {}
    decides, tests, estimates = (
        None if given is None else own(name, given, modules, tell)
        for name, given in (("evaluate", evaluate), ("test", test), ("batch_norm", batch_norm))
    )
    found = choose(
        series, tried, notes, decides, estimates,
        metric=metric, higher=higher_is_better, watch=watch,
    )  # fmt: skip
    if tests is not None:
        found = tested(found, tests)
    if place is not None and found.chosen is not found.base:
        _write(place, found.state_dict(), series.last.path, found.record())
        found = replace(found, out=place)
    return found


def _series_of(
    checkpoints: Sequence[str | Path | Mapping[str, Any]], key: str, *, as_given: bool
) -> Series:
    """Open checkpoints, each given once, and put them in order."""
    if isinstance(checkpoints, (str, os.PathLike, Mapping)):
        checkpoints = [checkpoints]  # type: ignore[list-item] # one, which is too few
    opened, seen = [], set()
    for i, each in enumerate(checkpoints, 1):
        if isinstance(each, Mapping):
            opened.append(from_content(f"checkpoint {i}", each, key))
            as_given = True
        elif isinstance(each, (str, os.PathLike)):
            place = os.path.realpath(each)
            if place in seen:
                raise CheckpointError(f"{each} was given twice; give each checkpoint once")
            seen.add(place)
            opened.append(open_checkpoint(Path(each), key))
        else:
            raise CheckpointError(
                f"a checkpoint is a path or a state dict, got {type(each).__name__}"
            )
    return Series(opened, as_given=as_given)


def _listed(given: Any) -> list[Any]:
    """One or several values as a list."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [] if given is None else [given]
    return list(given)


def _check_out(out: Path) -> None:
    """Refuse a path that cannot become the new checkpoint, before anything is computed."""
    if out.is_dir():
        raise CheckpointError(f"out {out} is a folder; name a file in it, such as {out / 'new.pt'}")
    if out.suffix not in (*OF_TORCH, SAFE):
        raise CheckpointError(f"out {out} must end in {', '.join(OF_TORCH)} or {SAFE}")
    for path in (out, record_of(out)):
        if os.path.lexists(path):
            raise CheckpointError(f"{path} exists already and was left alone; choose another name")
    if not out.parent.is_dir():
        raise CheckpointError(f"out {out} is in no folder that exists; make {out.parent} first")
    if out.suffix == SAFE:
        needs_safetensors(out)


def _write(
    out: Path, state: OrderedDict[str, Any], path: Sequence[str], record: Mapping[str, Any]
) -> None:
    """Write the checkpoint and, beside it, the record of how it was made; both or nothing.

    In a file of torch the state dict lies under the keys `path`, as it lay in the checkpoints.
    """
    content: Any = state
    for key in reversed(path):
        content = {key: content}
    try:  # the checkpoint first: a record without it would be of nothing
        if out.suffix == SAFE:
            _write_safetensors(out, state)
        else:
            with replacing(out) as file:
                torch.save(content, file)
        with replacing(record_of(out)) as file:
            file.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    except (OSError, RuntimeError) as error:  # torch's writer makes the second of the first
        with contextlib.suppress(OSError):
            out.unlink()
        raise CheckpointError(f"{out} cannot be written ({error}); make room or access") from error


def _write_safetensors(out: Path, state: Mapping[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    foreign = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise CheckpointError(
            f"safetensors cannot hold {foreign[0]}, which is not a tensor; choose a name in .pt"
        )
    # tied tensors become one copy for each name, which the format demands
    seen: set[int] = set()
    tensors = {}
    for name, value in state.items():
        tied = value.data_ptr() in seen and value.numel()
        seen.add(value.data_ptr())
        tensors[name] = value.clone() if tied else value.contiguous()
    with replacing(out) as file:
        try:
            save_file(tensors, file.name, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)[:160]) from error
        # that made another file of this name, which only its owner could read
        os.chmod(file.name, os.fstat(file.fileno()).st_mode & 0o777)
        with open(file.name, "rb") as written:
            os.fsync(written.fileno())
