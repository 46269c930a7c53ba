"""The weights inside of what a checkpoint holds, and the step at which it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

USUAL = ("state_dict", "model", "model_state_dict", "module")
"""The keys under which frameworks keep the weights."""
LONGEST_NAME = 1000
"""Characters of a tensor's name, which messages repeat."""
MOST_REPEATED = 2**24
"""Bytes of a tensor whose elements share memory (`expand`)."""
DEEPEST = 8
"""Of such keys inside each other: a pickle may hold itself."""
STEPS = ("global_step", "step", "steps", "iteration", "iter", "epoch")
"""The keys under which they keep the step; the first that all checkpoints have counts."""


def weights_in(where: str, content: Any, key: str) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Find the state dict in a checkpoint.

    Args:
        where: the checkpoint, for messages.
        content: what it holds.
        key: where the user says that the weights are, such as "ema.model"; "" to look for them.

    Returns:
        The keys that lead to the state dict, and the state dict.

    Raises:
        CheckpointError: there is none, or several and no key.
    """
    _mapping(where, content)
    path = _named(where, content, key) if key else _usual(where, content)
    for part in path:
        content = content[part]
    if not has_tensors(_mapping(where, content)):
        under = f" under {'.'.join(path)}" if path else ""
        raise CheckpointError(
            f"{where} holds no weights{under}{_choices(content)}; it must be a state dict, or hold "
            f"one under {', '.join(USUAL)} or --key"
        )
    return path, content


def _usual(where: str, content: Mapping[str, Any], deep: int = 0) -> tuple[str, ...]:
    """The keys that frameworks use, as deep as they go."""
    if deep > DEEPEST:
        raise CheckpointError(f"{where} is nested too deeply; say where its weights are with --key")
    found = [name for name in USUAL if isinstance(content.get(name), Mapping) and content[name]]
    if len(found) > 1:
        raise CheckpointError(
            f"{where} holds weights under {' and '.join(found)}; say which with --key"
        )
    if not found:
        return ()
    return (found[0], *_usual(where, content[found[0]], deep + 1))


def _named(where: str, content: Any, key: str) -> tuple[str, ...]:
    """The keys of a path such as "a.b", where a key may have dots itself."""
    if isinstance(content, Mapping):
        if key in content:
            return (key,)
        for name in content:
            if isinstance(name, str) and key.startswith(f"{name}."):
                return (name, *_named(where, content[name], key[len(name) + 1 :]))
    raise CheckpointError(f"{where} has nothing under --key {key}{_choices(content)}")


def _choices(content: Any) -> str:
    """The keys that could be meant."""
    if not isinstance(content, Mapping):
        return ""
    names = [str(k)[:40] for k, v in content.items() if isinstance(v, Mapping) and has_tensors(v)]
    return f" (it has tensors under {', '.join(names[:6])})" if names else ""


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or not all(map(is_name, content)):
        kind = f"a {type(content).__name__}"
        what = f"{kind} with keys that are not names" if isinstance(content, Mapping) else kind
        raise CheckpointError(
            f"{where} holds no state dict but {what}; save one: torch.save(model.state_dict(), ...)"
        )
    return content


def is_name(key: object) -> bool:
    """Whether a key can be shown in a line."""
    return isinstance(key, str) and key.isprintable() and len(key) <= LONGEST_NAME


def has_tensors(content: Mapping[str, Any]) -> bool:
    """Whether any of its values is a tensor."""
    return any(isinstance(value, Tensor) for value in content.values())


def check_tensor(where: str, name: str, tensor: Tensor) -> Tensor:
    """A tensor that can be combined or copied, without its history.

    Raises:
        CheckpointError: it is sparse, quantized, sharded or without values.
    """
    kind = "a sharded tensor" if type(tensor).__name__ == "DTensor" else None
    if tensor.layout != torch.strided:
        kind = "sparse"
    elif tensor.is_quantized or (tensor.dtype.is_floating_point and tensor.dtype.itemsize < 2):
        kind = f"quantized ({str(tensor.dtype).removeprefix('torch.')})"
    elif tensor.device.type == "meta":
        kind = "without values"
    elif tensor.nbytes > max(tensor.untyped_storage().nbytes(), MOST_REPEATED):
        kind = "one value repeated very often"  # a small file may claim terabytes
    if kind is not None:
        raise CheckpointError(
            f"{name} in {where} is {kind}; combine dense tensors of at least 16 bits, and quantize "
            "or shard the result"
        )
    return tensor.detach()


def steps_in(content: Mapping[str, Any]) -> dict[str, int]:
    """The steps that a checkpoint states, by key."""
    found = {}
    for key in STEPS:
        value = content.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:18])
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point():
            value = value.item()
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            found[key] = value
    return found
