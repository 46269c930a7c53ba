"""Checkpoints as they lie on the disk: files of torch and safetensors, folders of shards.

Tensors are mapped, not read: a checkpoint takes up memory only where it is used. Nothing in a file
is executed (`weights_only=True`). What cannot be read or combined is a `CheckpointError`.
"""

from __future__ import annotations

import json
import pickle
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError

OF_TORCH, SAFE = (".pt", ".pth", ".bin", ".ckpt"), ".safetensors"
SINGLE = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors",
          "adapter_model.bin", "diffusion_pytorch_model.safetensors")  # fmt: skip
# The files that hold the weights of a Hugging Face folder, and the indices of its shards.
INDEX = tuple(f"{name}.index.json" for name in SINGLE)
# The keys under which frameworks keep the weights.
USUAL = ("state_dict", "model", "model_state_dict", "module")
# The keys under which they keep the step; the first that all checkpoints have counts.
STEPS = ("global_step", "step", "steps", "iteration", "iter", "epoch")
# Bytes of an index or a trainer's state.
MOST_INDEX = 64 * 2**20
# Characters of a tensor's name, which messages repeat.
LONGEST_NAME = 1000
# Bytes of a tensor whose elements share memory (`expand`).
MOST_REPEATED = 2**24
# Usual keys inside each other: a pickle may hold itself.
DEEPEST = 8


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


class Lazy(Mapping[str, Tensor]):
    """Tensors by name; each is read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._readers = readers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


# --- files and folders ----------------------------------------------------------------------------


def open_checkpoint(path: Path, key: str = "") -> Checkpoint:
    """Open a file, or a Hugging Face folder with one file or with shards."""
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


def _open_file(path: Path, key: str) -> Checkpoint:
    if path.suffix != SAFE:
        return from_content(str(path), _read(path), key)
    if key:
        raise CheckpointError(f"{path} has no sub-dictionaries; leave --key out")
    needs_safetensors(path)
    from safetensors import SafetensorError, safe_open

    try:
        file = cast("Any", safe_open)(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({str(error)[:160]}); leave it out"
        ) from None

    def read(name: str) -> Tensor:
        try:
            tensor = file.get_tensor(name)
        except Exception as error:  # a dtype that this torch lacks, for instance
            raise CheckpointError(f"{name} in {path} cannot be read ({str(error)[:160]})") from None
        return _checked(str(path), name, tensor)

    names = file.keys()
    tensors = Lazy({name: partial(read, name) for name in names})
    return Checkpoint(str(path), tensors, steps=_steps_in(file.metadata() or {}))


def _read(path: Path) -> Any:
    """What torch saved, its tensors mapped; before torch 1.6 it wrote no archives."""
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            with zipfile.ZipFile(path) as opened:  # it has a checksum for each entry
                if (damaged := opened.testzip()) is not None:
                    raise ValueError(f"the content of {damaged} has changed")
        else:
            with path.open("rb") as old:
                if old.read(1) != pickle.PROTO:
                    raise ValueError("it is neither an archive nor a pickle")
        return torch.load(path, map_location="cpu", mmap=archive, weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        if isinstance(error, pickle.PickleError):
            named = re.search(r"GLOBAL (\S+)", str(error))
            raise CheckpointError(
                f"{path} cannot be loaded: it may hold only tensors and plain values, such as "
                f"state dicts, got {named[1] if named else said}"
            ) from error
        raise CheckpointError(f"{path} is not a whole checkpoint ({said}); leave it out") from error


def needs_safetensors(path: Path) -> None:
    """Refuse a path that needs the package where it is not installed."""
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
        steps = _steps_in(_json(folder / "trainer_state.json"))
    # shards first: their index says which files belong together
    for name in INDEX:
        if (folder / name).is_file():
            return Checkpoint(str(folder), _sharded(folder, name), steps=steps)
    for name in SINGLE:
        if (folder / name).is_file():
            found = _open_file(folder / name, key)
            return replace(found, name=str(folder), steps=steps or found.steps)
    # nothing that can be read: say what it may be instead
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


def _sharded(folder: Path, index: str) -> Lazy:
    """The tensors of all shards, as the index places them."""
    places = _json(folder / index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{folder / index} has no weight_map; save the model again")
    opened: dict[str, Mapping[str, Tensor]] = {}
    for name, shard in places.items():
        # a plain name: an index from elsewhere leads to no other folder
        plain = isinstance(shard, str) and shard == Path(shard).name
        if not plain or not (folder / shard).is_file():
            raise CheckpointError(f"{folder} lacks {str(shard)[:80]}, which {index} names")
        if shard not in opened:
            opened[shard] = _open_file(folder / shard, "").tensors
        if name not in opened[shard]:
            raise CheckpointError(f"{folder / shard} lacks {name[:80]}, which {index} places there")
    return Lazy({n: partial(opened[shard].__getitem__, n) for n, shard in places.items()})


def _json(path: Path) -> dict[str, Any]:
    """The object in a small file of JSON."""
    try:
        if path.stat().st_size > MOST_INDEX:
            raise ValueError(f"it has more than {MOST_INDEX} bytes")
        value = json.loads(path.read_text("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({str(error)[:160]})") from None
    return value


# --- the weights inside of what a file of torch holds ---------------------------------------------


def from_content(name: str, content: Any, key: str = "") -> Checkpoint:
    """A checkpoint of what a file of torch holds; `key` says where, such as "ema.model"."""
    state = _mapping(name, content)
    path = _named(name, state, key) if key else _usual(name, state)
    for part in path:
        state = state[part]
    if not _has_tensors(_mapping(name, state)):
        under = f" under {'.'.join(path)}" if path else ""
        raise CheckpointError(
            f"{name} holds no weights{under}{_choices(state)}; it must be a state dict, or hold "
            f"one under {', '.join(USUAL)} or --key"
        )
    # what is combined or copied, and what else a state dict may hold (`_extra_state`)
    tensors = {k: _checked(name, k, v) for k, v in state.items() if isinstance(v, Tensor)}
    others = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
    metadata = getattr(state, "_metadata", None)
    metadata = metadata if isinstance(metadata, Mapping) else None
    return Checkpoint(name, tensors, others, _steps_in(content) if path else {}, path, metadata)


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


def _usual(where: str, content: Mapping[str, Any], deep: int = 0) -> tuple[str, ...]:
    """The keys that frameworks use, as deep as they go."""
    if deep > DEEPEST:
        raise CheckpointError(f"{where} is nested too deeply; say where its weights are with --key")
    found = [name for name in USUAL if isinstance(content.get(name), Mapping) and content[name]]
    if len(found) > 1:
        raise CheckpointError(
            f"{where} holds weights under {' and '.join(found)}; say which with --key"
        )
    return (found[0], *_usual(where, content[found[0]], deep + 1)) if found else ()


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
    inside = content.items() if isinstance(content, Mapping) else ()
    names = [str(k)[:40] for k, v in inside if isinstance(v, Mapping) and _has_tensors(v)]
    return f" (it has tensors under {', '.join(names[:6])})" if names else ""


def _has_tensors(content: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _checked(where: str, name: str, tensor: Tensor) -> Tensor:
    """A tensor that can be combined or copied, without its history."""
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


def _steps_in(content: Mapping[str, Any]) -> dict[str, int]:
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
