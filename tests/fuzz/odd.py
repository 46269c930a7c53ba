"""Edits that bytes describe: of bytes, and of trees such as a state dict or what JSON holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

EVIL = "<img src=x onerror=alert(1)>\"'; DROP TABLE runs;--=1+1\x1b[31m"
ODD: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: False, lambda: 0, lambda: 1, lambda: -1, lambda: 2**53,
    lambda: 2**63, lambda: 10**400, lambda: 10**5000, lambda: 0.5, lambda: -0.0, lambda: 1e-320,
    lambda: 1e308, lambda: float("nan"), lambda: float("inf"), lambda: -float("inf"), lambda: "",
    lambda: "x", lambda: EVIL, lambda: "\0", lambda: "../../up", lambda: "a" * 5000,
    lambda: "\ud800", list, dict, lambda: [1, "x", None], lambda: {"a": 1},
    lambda: [[[]]],
]  # fmt: skip
"""What no reader expects. Those of a tree that JSON cannot hold are left out by its target."""
TENSORS: list[Callable[[], Any]] = [
    lambda: torch.zeros(()), lambda: torch.zeros(3), lambda: torch.full((), 10**12),
    lambda: torch.zeros(2, 3, dtype=torch.complex64), lambda: torch.tensor([float("nan")] * 3),
    lambda: torch.zeros(3, dtype=torch.int64), lambda: torch.zeros(3).to_sparse(),
    lambda: torch.zeros(3, device="meta"), lambda: torch.zeros(3, dtype=torch.float16),
    lambda: torch.tensor([255, 0, 7], dtype=torch.uint8), lambda: torch.zeros(0), lambda: (1, 2),
    lambda: b"bytes", lambda: {1, 2}, lambda: object(), lambda: lambda: 1 / 0,
]  # fmt: skip


class Choices:
    """Whole numbers read off bytes, 0 when they are used up."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def below(self, end: int) -> int:
        value = int.from_bytes(self.content[self.at : self.at + 2], "little")
        self.at += 2
        return value % end if end > 0 else 0

    def __bool__(self) -> bool:
        return self.at < len(self.content)


def edited(tree: Any, choices: Choices, odd: list[Callable[[], Any]] = ODD) -> Any:
    """A copy of a tree of which some nodes are replaced, deleted or exchanged."""
    root = [copy.deepcopy(tree)]
    for _ in range(4):
        _edit(root, choices, odd)
        if not choices:
            break
    return root[0]


def _edit(root: list[Any], choices: Choices, odd: list[Callable[[], Any]]) -> None:
    parent, key = root, 0
    while isinstance(parent[key], (dict, list)) and parent[key] and choices.below(8):
        parent = parent[key]
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = keys[choices.below(len(keys))]
    if parent is not root and choices.below(6) == 1:
        del parent[key]
    elif isinstance(parent[key], list) and choices.below(3) == 1:
        parent[key] = parent[key] * 2
    else:
        parent[key] = odd[choices.below(len(odd))]()


def spliced(seed: bytes, choices: Choices) -> bytes:
    """Bytes of which some are changed, left out, put in, or cut off."""
    content = bytearray(seed)
    for _ in range(6):
        at = choices.below(len(content) + 1)
        kind = choices.below(6)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            del content[at : at + 1 + choices.below(8)]
        elif kind == 2:
            content[at:at] = bytes([choices.below(256)]) * (1 + choices.below(64))
        elif kind == 3:
            content[at : at + 4] = (b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff" * 4)[choices.below(3)]
        elif content[at : at + 1]:
            content[at] = choices.below(256)
        if not choices:
            break
    return bytes(content)
