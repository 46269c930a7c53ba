"""The new checkpoint and the record beside it, each written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import checkpoints
from .._files import replacing
from ..errors import CheckpointError
from .formats import OF_TORCH, SAFE, needs_safetensors


def record_of(out: Path) -> Path:
    """The path of the record beside a checkpoint."""
    return out.with_name(f"{out.name}.json")


def check_out(out: Path) -> None:
    """Refuse a path that cannot become the new checkpoint, before anything is computed.

    Raises:
        CheckpointError: its ending is unknown, it exists already, or its folder does not.
    """
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


def write(
    out: Path, state: OrderedDict[str, Any], path: Sequence[str], record: Mapping[str, Any]
) -> None:
    """Write the checkpoint and its record.

    In a file of torch the state dict lies where it lay in the checkpoints, and the record is its
    attribute `paramcast`; in one of safetensors it is in the header.

    Args:
        out: the file.
        state: the state dict.
        path: the keys that led to it in the checkpoints.
        record: how it was made.

    Raises:
        CheckpointError: it cannot be written; nothing is left.
    """
    beside = record_of(out)
    try:
        if out.suffix == SAFE:
            _write_safetensors(out, state, record)
        else:
            state.paramcast = dict(record)  # type: ignore[attr-defined] # beside torch's _metadata
            content: Any = state
            for key in reversed(path):
                content = {key: content}
            checkpoints.save(out, content)
        with replacing(beside) as file:
            file.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        with contextlib.suppress(OSError):
            out.unlink()
        raise CheckpointError(
            f"{error.filename or out} cannot be written ({error.strerror or error}); make room or "
            "access"
        ) from error


def _write_safetensors(out: Path, state: Mapping[str, Any], record: Mapping[str, Any]) -> None:
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
    metadata = {"format": "pt", "paramcast": json.dumps(record, allow_nan=False)}
    with replacing(out) as file:
        try:
            save_file(tensors, file.name, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)[:160]) from error
        # that made another file of this name, which only its owner could read
        os.chmod(file.name, os.fstat(file.fileno()).st_mode & 0o777)
        with open(file.name, "rb") as written:
            os.fsync(written.fileno())
