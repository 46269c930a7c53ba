"""A torch state dict as one array of bytes, for stores that hold only arrays; no code in it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from ..errors import CheckpointError

if TYPE_CHECKING:
    import numpy


def pack(state: Any) -> numpy.ndarray[Any, Any]:
    """The tree of dicts, lists, tuples, tensors and plain values, as `torch.save` writes it.

    Example:
        >>> unpack(pack({"lr": 0.1, "betas": (0.9, 0.999), 0: torch.ones(2)}))
        {'lr': 0.1, 'betas': (0.9, 0.999), 0: tensor([1., 1.])}
    """
    import numpy

    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, map_location="meta", weights_only=True)  # what it refuses is not saved
    except Exception as error:
        raise CheckpointError(
            f"the optimizer's state cannot be saved here ({type(error).__name__}: {error}); "
            "save it with torch.save(optimizer.inner.state_dict(), ...)"
        ) from error
    return numpy.frombuffer(file.getvalue(), dtype=numpy.uint8)


def unpack(array: Any) -> Any:
    """What `pack` was given, on the CPU; other bytes are a `CheckpointError`."""
    import numpy

    try:
        file = io.BytesIO(numpy.asarray(array, dtype=numpy.uint8).tobytes())
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise anything
        raise CheckpointError(
            f"the saved state of the optimizer is damaged ({type(error).__name__}); load the "
            "weights alone, or an earlier file"
        ) from None
