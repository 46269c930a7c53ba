"""The running cycle in sharded checkpoints: a `Stateful` for `torch.distributed.checkpoint`.

`torch.distributed.checkpoint` keeps of an optimizer what belongs to its `state` and its groups.
What the wrapper adds (its counters and buffers) travels here, under the same keys at every phase:

    header            everything plain (counters, horizon, pending event, anomaly rules) as JSON in
                      a tensor whose length depends on the parameters alone
    members, seen, averaged   one byte per parameter, in the order of their names
    buffers.<i>.<name>, average.<name>     sharded like the parameter of that name
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import functional as F
from ..errors import ArgumentError, CheckpointError
from ..evaluation import check_average
from ..forecast import Forecast
from ..saving import check_saved, load, save
from ..segments import all_parameters

HEADER = 1 << 14
"""Bytes of the header, beside those for numbers of each parameter."""
_FLAGS = ("members", "seen", "averaged")
_AVERAGES = {"buffers": "average", "slower": "slower"}
"""What a checkpoint calls the averages of `Averager.state_dict`."""


class CycleState:
    """The part of a `Forecast` that torch's distributed checkpoints leave out.

    Save it beside model and optimizer; load it after `set_optimizer_state_dict`, which starts a new
    cycle (`TrainingState` does both). The processes may be more or fewer than those that saved.

    Args:
        model: whose parameters the optimizer was constructed with.
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
        ['buffers.0.bias', 'buffers.0.weight', 'header', 'members', 'seen']
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Forecast):
            raise ArgumentError(
                f"optimizer must be a paramcast wrapper such as PLP, got {type(optimizer).__name__}"
            )
        self.model, self.optimizer = model, optimizer
        self._names()

    def state_dict(self) -> dict[str, Tensor]:
        """The cycle as tensors, copied; the keys do not depend on where in a cycle it is."""
        optimizer, names = self.optimizer, self._names()
        rules, parameters = optimizer._rules, all_parameters(optimizer.param_groups)
        saved = save(optimizer._cycle, rules, optimizer.param_groups)
        lists = {name: saved.pop(name) for name in ("members", "seen", "buffers")}
        kinds = {f"buffers.{i}": rules.precision() for i in range(rules.layout.total)}
        rows = {kind: _column(lists["buffers"], i) for i, kind in enumerate(kinds)}
        saved["live"] = any(row is not None for row in lists["buffers"])
        saved["model_holds"] = "average" if optimizer._averager.open else "live"
        if optimizer.average is not None:
            average = optimizer._averager.state_dict(optimizer.param_groups, optimizer.average)
            saved["updates"] = average["updates"]
            for name, kind in _AVERAGES.items():
                if name in average:
                    kinds[kind], rows[kind] = torch.float32, average[name]
            lists["averaged"] = [row is not None for row in average["buffers"]]
        order = sorted(range(len(parameters)), key=lambda i: names[id(parameters[i])])
        state = {"header": _pack(saved, _length([names[id(p)] for p in parameters]))}
        for flag in lists.keys() & set(_FLAGS):
            state[flag] = torch.tensor(
                [lists[flag][i] for i in order], dtype=torch.uint8, device="cpu"
            )
        with torch.no_grad():
            for kind, dtype in kinds.items():
                for p, row in zip(parameters, rows[kind], strict=True):
                    state[f"{kind}.{names[id(p)]}"] = _like(p, dtype, row)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, once it is known to fit.

        Raises:
            CheckpointError: it is damaged, or was written with another predictor or gate.
        """
        optimizer, names = self.optimizer, self._names()
        if optimizer._averager.open:
            raise ArgumentError("load_state_dict() inside eval_weights(): leave it first")
        rules, parameters = optimizer._rules, all_parameters(optimizer.param_groups)
        saved = _unpack(_entry(state_dict, "header"))
        keys = [names[id(p)] for p in parameters]
        flags = {
            flag: dict(zip(sorted(keys), map(bool, state_dict[flag].tolist()), strict=True))
            for flag in _FLAGS
            if isinstance(state_dict.get(flag), Tensor)
            and state_dict[flag].shape == (len(keys),)
            and state_dict[flag].layout == torch.strided
        }
        if not {"members", "seen"} <= flags.keys():
            raise CheckpointError(
                f"the checkpoint's cycle is not one of these {len(keys)} parameters; "
                "load it into the model that it was saved from"
            )
        saved["members"] = [flags["members"][key] for key in keys]
        saved["seen"] = [flags["seen"][key] for key in keys]
        saved["buffers"] = [
            [F.local(_entry(state_dict, f"buffers.{i}.{key}")) for i in range(rules.layout.total)]
            if flags["members"][key] and saved.get("live")
            else None
            for key in keys
        ]
        check_saved(saved, rules, parameters)
        average = None
        if optimizer.average is not None and "averaged" in flags:
            average = {"updates": saved.get("updates")}
            for name, kind in _AVERAGES.items():
                if name == "buffers" or any(f"{kind}.{key}" in state_dict for key in keys):
                    average[name] = [
                        F.local(_entry(state_dict, f"{kind}.{key}"))
                        if flags["averaged"][key]
                        else None
                        for key in keys
                    ]
            check_average(average, parameters, optimizer.average)
        optimizer.restart_cycle()
        with torch.no_grad():
            load(optimizer._cycle, saved, rules, parameters)
            if average is not None and optimizer.average is not None:
                optimizer._averager.load_state_dict(average, parameters, optimizer.average)

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
        Save and load, with as many processes as there are now::

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

        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state_dict["model"],
            optim_state_dict=state_dict["optimizer"],
        )
        self.cycle.load_state_dict(state_dict["paramcast"])


def _column(rows: list[list[Tensor] | None], i: int) -> list[Tensor | None]:
    return [None if row is None else row[i] for row in rows]


def _like(parameter: Tensor, dtype: torch.dtype | None, shard: Tensor | None) -> Tensor:
    """A tensor sharded like the parameter that holds a buffer's shard, or zeros."""
    wide = parameter.dtype if dtype is None else torch.promote_types(parameter.dtype, dtype)
    whole = torch.zeros_like(parameter.detach(), dtype=wide)
    if shard is not None:
        F.local(whole).copy_(shard)
    return whole


def _length(names: list[str]) -> int:
    """Bytes of the header: a tensor in a checkpoint must not change its length.

    An event that waits for its score may hold a name and four numbers of each parameter.
    """
    return HEADER + sum(160 + 2 * len(name) for name in names)


def _pack(values: dict[str, Any], length: int) -> Tensor:
    text = json.dumps(values).encode("ascii")
    if len(text) > length:
        raise CheckpointError(
            f"the cycle's plain values take {len(text)} bytes, at most {length} fit: the "
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
    inside = {"DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
    while type(model).__name__ in inside:
        model = getattr(model, inside[type(model).__name__])
    return model


def _plain(name: str) -> str:
    """A parameter's name without the parts that torch's own wrappers add."""
    added = ("_orig_mod", "_checkpoint_wrapped_module")
    return ".".join(part for part in name.split(".") if part not in added)
