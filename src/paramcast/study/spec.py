"""A run as a frozen value, and the key under which its result is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

PROTOCOL = 3
"""Version of what a run does; raising it makes all stored runs stale. 3: what "diverged" means."""
Base = Literal["sgd", "nesterov", "adamw", "muon", "rmsprop", "demon", "lookahead", "ema"]
"""The optimizers to compare with; the last three are SGD with something on top."""
Schedule = Literal["constant", "warmup", "cosine", "cyclic", "wsd"]
Precision = Literal["float32", "bfloat16"]
ALWAYS, OPEN, NEVER = "always", "open", "never"
"""When a comparison asks whether a method is faster: OPEN where its quality leaves that open."""
BASES, SCHEDULES, FORMATS = get_args(Base), get_args(Schedule), get_args(Precision)


class Numerics(NamedTuple):
    """How a run computes, where this can change its result (see `precision.choose`)."""

    precision: str = "float32"
    compiled: bool = False
    channels_last: bool = False


DEFAULT = Numerics()
"""How a CPU computes unless told otherwise."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that determines the result of one training run on one machine.

    `method` is a method with its knobs, such as "plp(horizon=0.5)"; `base` is the base optimizer;
    `momentum`, `weight_decay` and `beta2` replace the task's own, which None keeps;
    `share` is the part of the task's steps that the (complete) schedule spans; `phase` is "tune" or
    "final", which have different seeds; `probes` names what a final run measures beside its result;
    `precision`, `compiled` and `channels_last` are those of `Numerics`; `code` is the version of a
    method that is the user's (`training.own.identity`); `settings` are what is
    searched beside the learning rate in a training or an optimizer of the user's.
    """

    task: str
    fingerprint: str
    method: str
    base: str
    lr: float
    schedule: str
    epochs: int
    batch_size: int
    share: float
    phase: str
    seed: int
    device: str
    versions: str
    momentum: float | None = None
    weight_decay: float | None = None
    probes: tuple[str, ...] = ()
    protocol: int = PROTOCOL
    precision: str = "float32"
    compiled: bool = False
    channels_last: bool = False
    code: str = ""
    settings: tuple[tuple[str, float | str], ...] = ()
    beta2: float | None = None

    @cached_property
    def key(self) -> str:
        """The sha256 of the canonical JSON of the fields that `identifying` keeps."""
        return hash_of(identifying(self.fields()))

    def fields(self) -> dict[str, Any]:
        """The fields by name; `asdict` would copy each deeply, at ten times the cost."""
        fields = dict(vars(self))
        fields.pop("key", None)  # cached_property stores it there too
        return fields


_USUAL: dict[str, Any] = {
    **DEFAULT._asdict(),
    "probes": (),
    "code": "",
    "settings": (),
    "beta2": None,
}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def identifying(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without the options that are at their default: a new option changes no old key."""
    used = dict(fields)
    for name, usual in _USUAL.items():
        if used.get(name, ...) == usual:
            del used[name]
    return used


def hash_of(value: object) -> str:
    """sha256 of a value's canonical JSON: sorted keys, no spaces, floats by their shortest form."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def axis_seed(axis: str, phase: str, seed: int) -> int:
    """The seed of one source of randomness ("order", "initialisation", "dropout", "control").

    Each axis is hashed on its own, so that what one method draws changes nothing for another.
    """
    digest = hashlib.sha256(f"paramcast/{axis}/{phase}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits fit a signed integer
