"""What the wrapper adds in sharded checkpoints: a `Stateful` for `torch.distributed.checkpoint`.

Of an optimizer, `torch.distributed.checkpoint` keeps only the `state` and the groups. The
"paramcast" entry of a plain state dict travels here, under the same keys at every point of a cycle:

    header            all plain values as JSON, in a tensor whose length depends only on the
                      parameters; for each part of the buffers, whether it holds anything
    members, seen, kept, covered   one byte per parameter, in the order of their names: takes part,
                      has had a gradient, has buffers, has an average
    <part>.<i>.<name>, average.<kind>.<name>     sharded like the parameter of that name
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, CheckpointError
from ..forecast import Forecast
from ..running.checking import check
from ..running.evaluation import NAMES as AVERAGES
from ..running.saving import load, save
from ..tensors import functional as F
from ..tensors.segments import all_parameters

# Bytes of the header, without its share for each parameter.
HEADER = 1 << 14


class CycleState:
    """The part of a `Forecast` that torch's distributed checkpoints leave out.

    Save it alongside model and optimizer; load it after `set_optimizer_state_dict`, which starts a
    new cycle (`TrainingState` does both). The number of processes may have changed since saving.

    Args:
        model: the model whose parameters the optimizer was constructed with.
        optimizer: the wrapper, `PLP` or another `Forecast`.

    Memory: while saving and loading, one copy of this process's shards of the buffers.

    Raises:
        ArgumentError: not a `Forecast`, parameters that are not the model's, or a model that is
            sharded by the older `FullyShardedDataParallel`.

    Example:
        >>> from paramcast import PLP
        >>> model = nn.Linear(2, 1)
        >>> state = CycleState(model, PLP(torch.optim.SGD(model.parameters(), lr=0.1)))
        >>> sorted(state.state_dict())
        ['buffers.0.bias', 'buffers.0.weight', 'header', 'kept', 'members', 'seen']
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Forecast):
            raise ArgumentError(
                f"optimizer must be a paramcast wrapper such as PLP, got {type(optimizer).__name__}"
            )
        self.model, self.optimizer = model, optimizer
        self._names()

    def state_dict(self) -> dict[str, Tensor]:
        """The wrapper's entry as tensors; the keys do not depend on where in a cycle it is."""
        optimizer, names = self.optimizer, self._names()
        settings, parameters = optimizer._settings, all_parameters(optimizer.param_groups)
        with torch.no_grad():
            saved = save(optimizer._cycle, optimizer._averager, optimizer.param_groups)
        cycle, average = saved["cycle"], saved.get("average", {})
        # the buffers by column: one tensor per parameter and buffer, sharded like the parameter
        columns: dict[str, tuple[torch.dtype | None, list[Tensor | None]]] = {}
        for part, place in settings.layout.parts().items():
            rows = cycle.pop(part)
            for i in range(len(place)):
                column = [None if row is None else row[i] for row in rows]
                columns[f"{part}.{i}"] = settings.precision(), column
            cycle[part] = any(row is not None for row in rows)  # the header says whether it is live
            if part == "buffers":
                cycle["kept"] = [row is not None for row in rows]
        for name in AVERAGES:
            if name in average:
                columns[f"average.{name}"] = torch.float32, average[name]
                average["covered"] = [row is not None for row in average.pop(name)]
        # one byte per parameter, by name: another run may order its groups differently
        flags = {name: holder.pop(name) for name, holder in _flags(cycle, average)}
        order = sorted(range(len(parameters)), key=lambda i: names[id(parameters[i])])
        state = {"header": _pack(saved, _length([names[id(p)] for p in parameters]))}
        for name, flag in flags.items():
            row = [flag[i] for i in order]
            state[name] = torch.tensor(row, dtype=torch.uint8, device="cpu")
        with torch.no_grad():
            for name, (dtype, column) in columns.items():
                for p, shard in zip(parameters, column, strict=True):
                    state[f"{name}.{names[id(p)]}"] = _like(p, dtype, shard)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, once it is known to fit.

        `Forecast.load_state_dict` says what may differ from the saved run.

        Raises:
            CheckpointError: it is damaged, or was written with another predictor or average.
        """
        optimizer, names = self.optimizer, self._names()
        if optimizer._averager.open:
            raise ArgumentError("load_state_dict() inside eval_weights(): leave it first")
        settings, parameters = optimizer._settings, all_parameters(optimizer.param_groups)
        # the header first: it says what else there is
        keys = [names[id(p)] for p in parameters]
        saved = _unpack(_entry(state_dict, "header"))
        cycle, average = saved.get("cycle"), saved.get("average", {})
        if optimizer.average is None and isinstance(average, dict):
            average = {}  # its tensors were not asked for
        if not isinstance(cycle, dict) or not isinstance(average, dict):
            raise CheckpointError("the checkpoint's cycle is damaged: its header lacks parts")
        for name, holder in _flags(cycle, average):
            flag = state_dict.get(name)
            if not (
                isinstance(flag, Tensor)
                and flag.shape == (len(keys),)
                and flag.layout == torch.strided
            ):
                raise CheckpointError(
                    f"the checkpoint's cycle is not one of these {len(keys)} parameters; "
                    "load it into the model that it was saved from"
                )
            by_name = dict(zip(sorted(keys), map(bool, flag.tolist()), strict=True))
            holder[name] = [by_name[key] for key in keys]

        def shards(name: str, chosen: Sequence[bool]) -> list[Tensor | None]:
            return [
                F.local(_entry(state_dict, f"{name}.{key}")) if there else None
                for key, there in zip(keys, chosen, strict=True)
            ]

        # back into rows, in group order, as a plain state dict has them
        kept = cycle.pop("kept")
        for part, place in settings.layout.parts().items():
            if cycle.pop(part, None) is not True and part != "buffers":
                continue
            chosen = kept if part == "buffers" else cycle["members"]
            columns = [shards(f"{part}.{i}", chosen) for i in range(len(place))]
            cycle[part] = [
                None if row[0] is None else list(row) for row in zip(*columns, strict=True)
            ]
        if "covered" in average:
            covered = average.pop("covered")
            for name in AVERAGES:
                if any(f"average.{name}.{key}" in state_dict for key in keys):
                    average[name] = shards(f"average.{name}", covered)
        check(saved, optimizer._averager, settings, parameters)
        with torch.inference_mode(False), torch.no_grad():
            load(optimizer._cycle, optimizer._averager, saved, parameters)

    def _names(self) -> dict[int, str]:
        """The optimizer's parameters by id: their names in the model as its user wrote it."""
        F.reshard_(self.model)  # or the model shows whole parameters that are not the optimizer's
        names = {id(p): _plain(name) for name, p in _unwrap(self.model).named_parameters()}
        strangers = [p for p in all_parameters(self.optimizer.param_groups) if id(p) not in names]
        if strangers:
            raise ArgumentError(
                f"{len(strangers)} of the optimizer's parameters are not in the model; give the "
                "model whose parameters the optimizer was constructed with"
            )
        return names


class TrainingState:
    """Model, optimizer and cycle as one `Stateful`, loaded in the right order.

    Args:
        model, optimizer: as for `CycleState`.

    Example:
        Save and load, with however many processes there are now::

            import torch.distributed.checkpoint as dcp

            dcp.save({"training": TrainingState(model, optimizer)}, checkpoint_id=folder)
            dcp.load({"training": TrainingState(model, optimizer)}, checkpoint_id=folder)
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.cycle = CycleState(model, optimizer)

    def state_dict(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "paramcast": self.cycle.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        from torch.distributed.checkpoint.state_dict import set_state_dict

        # the optimizer first: loading it starts a new cycle, which ours then replaces
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state_dict["model"],
            optim_state_dict=state_dict["optimizer"],
        )
        self.cycle.load_state_dict(state_dict["paramcast"])


def _flags(cycle: dict[str, Any], average: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The lists of one boolean per parameter, which travel as bytes, and where each belongs."""
    own = [(name, cycle) for name in ("members", "seen", "kept")]
    return own + [("covered", average)] * ("updates" in average)


def _like(parameter: Tensor, dtype: torch.dtype | None, shard: Tensor | None) -> Tensor:
    """A tensor sharded like the parameter that holds a buffer's shard, or zeros."""
    wide = parameter.dtype if dtype is None else torch.promote_types(parameter.dtype, dtype)
    whole = torch.zeros_like(parameter.detach(), dtype=wide)
    if shard is not None:
        F.local(whole).copy_(shard)
    return whole


def _length(names: list[str]) -> int:
    """Bytes of the header: a tensor in a checkpoint must not change its length."""
    return HEADER + sum(160 + 2 * len(name) for name in names)


def _pack(values: dict[str, Any], length: int) -> Tensor:
    text = json.dumps(values).encode("ascii")
    if len(text) > length:
        raise CheckpointError(
            f"the cycle's plain values take {len(text)} bytes, but at most {length} fit: the "
            "predictor's weights or the anomaly rules are too many"
        )
    return torch.frombuffer(bytearray(text.ljust(length)), dtype=torch.uint8)


def _unpack(header: Tensor) -> dict[str, Any]:
    values = None
    if header.dtype == torch.uint8 and header.ndim == 1 and header.layout == torch.strided:
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(bytes(header.tolist()))
    if not isinstance(values, dict):
        raise CheckpointError("the checkpoint's cycle is damaged: its header cannot be read")
    return values


def _entry(state_dict: Mapping[str, Any], key: str) -> Tensor:
    if not isinstance(state_dict.get(key), Tensor):
        raise CheckpointError(f"the checkpoint's cycle is damaged: it lacks {key}")
    entry: Tensor = state_dict[key]
    return entry


def _unwrap(model: nn.Module) -> nn.Module:
    """The model inside `DistributedDataParallel` and `torch.compile`."""
    # by name, so that neither torch.distributed nor torch._dynamo is imported for it
    inside = {"DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
    while type(model).__name__ in inside:
        model = getattr(model, inside[type(model).__name__])
    return model


def _plain(name: str) -> str:
    """A parameter's name without the parts that torch's own wrappers add."""
    added = ("_orig_mod", "_checkpoint_wrapped_module")
    return ".".join(part for part in name.split(".") if part not in added)
