"""Checkpoints as they lie on the disk: files of torch and safetensors, folders of shards.

Tensors are mapped, not read: a checkpoint takes up memory only where it is used. Nothing in a file
is executed (`weights_only=True`).
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ..checkpoints import load_mapped
from ..errors import CheckpointError
from .nesting import check_tensor, steps_in, weights_in

OF_TORCH, SAFE = (".pt", ".pth", ".bin", ".ckpt"), ".safetensors"
SINGLE = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors",
          "adapter_model.bin", "diffusion_pytorch_model.safetensors")  # fmt: skip
INDEX = tuple(f"{name}.index.json" for name in SINGLE)
"""The files that hold the weights of a Hugging Face folder, and the indices of its shards."""
MOST_INDEX = 64 * 2**20
"""Bytes of an index or a trainer's state."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        name: its path, as the user wrote it.
        tensors: by name; a value is mapped from the file when it is asked for.
        others: what else the state dict holds.
        steps: when it was saved, by the names of the steps.
        path: the keys that lead to the state dict in the file.
        metadata: torch's versions of the modules.
    """

    name: str
    tensors: Mapping[str, Tensor]
    others: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    metadata: Any = None


def open_checkpoint(path: Path, key: str = "") -> Checkpoint:
    """Open a checkpoint: a file, or a Hugging Face folder with one file or with shards.

    Raises:
        CheckpointError: it is missing, damaged, holds something else, or is of no known kind.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)[:200]!r} cannot be read ({error})") from None
    if stat.S_ISDIR(mode):
        return _open_folder(path, key)
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is not a regular file; give checkpoints")
    if path.suffix in (*OF_TORCH, SAFE):
        return _open_file(path, key)
    raise CheckpointError(
        f"{path} is not a checkpoint by its name; it must end in {', '.join(OF_TORCH)} or {SAFE}, "
        "or be a Hugging Face folder"
    )


def from_content(name: str, content: Any, key: str = "") -> Checkpoint:
    """A checkpoint of what a file of torch holds.

    Raises:
        CheckpointError: it holds no weights.
    """
    path, state = weights_in(name, content, key)
    tensors = {k: check_tensor(name, k, v) for k, v in state.items() if isinstance(v, Tensor)}
    others = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
    steps = steps_in(content) if path else {}
    metadata = getattr(state, "_metadata", None)
    return Checkpoint(
        name, tensors, others, steps, path, metadata if isinstance(metadata, Mapping) else None
    )


class SafeFile(Mapping[str, Tensor]):
    """The tensors of a file of safetensors.

    Raises:
        CheckpointError: it is damaged, or the package is not installed.
    """

    def __init__(self, path: Path) -> None:
        needs_safetensors(path)
        from safetensors import SafetensorError, safe_open

        self._path, opening = path, cast("Any", safe_open)
        try:
            self._file = opening(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({str(error)[:160]}); leave it out"
            ) from None
        self._names = dict.fromkeys(self._file.keys())
        self.metadata: Mapping[str, str] = self._file.metadata() or {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        try:
            tensor = self._file.get_tensor(name)
        except Exception as error:  # a dtype that this torch lacks, for instance
            raise CheckpointError(
                f"{name} in {self._path} cannot be read ({str(error)[:160]})"
            ) from None
        return check_tensor(str(self._path), name, tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Shards(Mapping[str, Tensor]):
    """The tensors of several files: each name leads to the file that holds it."""

    def __init__(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _open_file(path: Path, key: str) -> Checkpoint:
    if path.suffix != SAFE:
        return from_content(str(path), load_mapped(path), key)
    if key:
        raise CheckpointError(f"{path} has no sub-dictionaries; leave --key out")
    tensors = SafeFile(path)
    return Checkpoint(str(path), tensors, steps=steps_in(tensors.metadata))


def needs_safetensors(path: Path) -> None:
    """Refuse a path that needs the package where it is not installed.

    Raises:
        CheckpointError: it is not.
    """
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise CheckpointError(
            f"{path} needs a package that is not installed: pip install 'paramcast[safetensors]'"
        ) from None


def _open_folder(folder: Path, key: str) -> Checkpoint:
    """A folder as transformers and others save it."""
    steps = {}
    if (folder / "trainer_state.json").is_file():
        steps = steps_in(_json(folder / "trainer_state.json"))
    for name in INDEX:
        if (folder / name).is_file():
            return Checkpoint(str(folder), _sharded(folder, name), steps=steps)
    for name in SINGLE:
        if (folder / name).is_file():
            found = _open_file(folder / name, key)
            return replace(found, name=str(folder), steps=steps or found.steps)
    if (folder / ".metadata").is_file():
        raise CheckpointError(
            f"{folder} is a checkpoint of torch.distributed.checkpoint; convert it first: python "
            f"-m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE.pt"
        )
    shards = sorted(p.name for p in folder.iterdir() if p.suffix in (*OF_TORCH, SAFE))
    raise CheckpointError(
        f"{folder} has no {SINGLE[0]}, {SINGLE[1]} or index of shards such as {INDEX[0]}"
        + (f"; if {shards[0]} is a checkpoint by itself, name the file" if shards else "")
    )


def _sharded(folder: Path, index: str) -> Shards:
    """The tensors of all shards, as the index places them."""
    places = _json(folder / index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{folder / index} has no weight_map; save the model again")
    opened: dict[str, Mapping[str, Tensor]] = {}
    for name, shard in places.items():
        # a plain name: an index from elsewhere leads to no other folder
        if (
            not isinstance(shard, str)
            or shard != Path(shard).name
            or not (folder / shard).is_file()
        ):
            raise CheckpointError(f"{folder} lacks {str(shard)[:80]}, which {index} names")
        if shard not in opened:
            opened[shard] = _open_file(folder / shard, "").tensors
        if name not in opened[shard]:
            raise CheckpointError(f"{folder / shard} lacks {name[:80]}, which {index} places there")
    return Shards({name: opened[shard] for name, shard in places.items()})


def _json(path: Path) -> dict[str, Any]:
    """The object in a small file of JSON.

    Raises:
        CheckpointError: it is too large, damaged, or something else.
    """
    try:
        if path.stat().st_size > MOST_INDEX:
            raise ValueError(f"it has more than {MOST_INDEX} bytes")
        value = json.loads(path.read_text("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({str(error)[:160]})") from None
    return value
