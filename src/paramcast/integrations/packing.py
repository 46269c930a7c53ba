"""A torch state dict as named arrays of bytes, for stores that know arrays only; no pickle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError

if TYPE_CHECKING:
    import numpy


def pack(state: Any) -> dict[str, numpy.ndarray[Any, Any]]:
    """The tree of dicts, lists, tuples, tensors and plain values as arrays of bytes.

    Raises:
        CheckpointError: a value of another type.

    Example:
        >>> unpack(pack({"lr": 0.1, "betas": (0.9, 0.999), 0: torch.ones(2)}))
        {'lr': 0.1, 'betas': (0.9, 0.999), 0: tensor([1., 1.])}
    """
    arrays: dict[str, numpy.ndarray[Any, Any]] = {}
    tree = _describe(state, arrays)
    arrays["tree"] = _bytes(
        torch.tensor(list(json.dumps(tree).encode()), dtype=torch.uint8, device="cpu")
    )
    return arrays


def unpack(arrays: Any) -> Any:
    """What `pack` was given.

    Raises:
        CheckpointError: the arrays do not fit together.
    """
    try:
        return _rebuild(json.loads(_tensor(arrays["tree"]).numpy().tobytes()), arrays)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError,
            OverflowError) as error:  # fmt: skip # a RecursionError is a RuntimeError
        raise CheckpointError(
            f"the saved state of the optimizer is damaged ({type(error).__name__}: {error}); "
            "load the weights alone, or an earlier file"
        ) from None


def _bytes(tensor: Tensor) -> numpy.ndarray[Any, Any]:
    flat: Tensor = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def _tensor(array: Any) -> Tensor:
    import numpy

    return torch.from_numpy(numpy.array(array, dtype=numpy.uint8))


def _describe(value: Any, arrays: dict[str, numpy.ndarray[Any, Any]]) -> Any:
    if isinstance(value, dict):
        pairs = [[_describe(k, arrays), _describe(v, arrays)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_describe(v, arrays) for v in value]}
    if isinstance(value, Tensor):
        name = str(len(arrays))
        arrays[name] = _bytes(value)
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": name, "dtype": dtype, "shape": list(value.shape)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(
        f"the optimizer's state has a {type(value).__name__}, which cannot be saved here; "
        "save it with torch.save(optimizer.inner.state_dict(), ...)"
    )


def _rebuild(node: Any, arrays: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if "dict" in node:
        return {_rebuild(k, arrays): _rebuild(v, arrays) for k, v in node["dict"]}
    if "list" in node:
        return [_rebuild(v, arrays) for v in node["list"]]
    if "tuple" in node:
        return tuple(_rebuild(v, arrays) for v in node["tuple"])
    dtype = getattr(torch, node["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{node['dtype']} is no dtype")
    return _tensor(arrays[node["tensor"]]).view(dtype).reshape(node["shape"])
