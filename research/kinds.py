"""Small tasks whose networks are unlike the rest: `FILE.py:FUNCTION` for the pilot and leads.py.

Does a default do harm there? LSTM, U-Net, tied weights, a mixture of experts of which some get no
gradient in a step, and LoRA beside frozen weights. All data are scikit-learn's digits or Tiny
Shakespeare; the base is AdamW with a cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from paramcast.study import Task
from paramcast.study.tasks.source import find, load

CHARACTERS = 65
USUAL: dict[str, Any] = {"base": "adamw", "schedule": "cosine", "lr_range": (1e-3, 3e-2)}


def _digits(name: str, model: Callable[[], nn.Module], **changes: Any) -> Task:
    """The built-in digits, 300 of them to train on, with another network."""
    prepared = load(find("digits"))
    return replace(prepared.task, name=name, model=model, **USUAL, **changes)


def _text(name: str, model: Callable[[], nn.Module]) -> Task:
    prepared = load(find("shakespeare/gpt-tiny@60000"))
    test = prepared.test.inputs[:300], prepared.test.targets[:300]
    task = replace(prepared.task, name=name, model=model, test=test)
    return replace(task, **USUAL, epochs=5, batch_size=8, weight_decay=0.01)


class LSTM(nn.Module):
    """Characters in, scores (batch, characters, positions) out."""

    def __init__(self, width: int = 64, *, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, CHARACTERS)
        if tied:
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.lstm(self.embedding(x))[0]).transpose(1, 2)
        return out


class UNet(nn.Module):
    """Two scales and a skip: of each pixel, whether it belongs to the digit."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, width, 3, padding=1)
        self.deep = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.out = nn.Conv2d(2 * width, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = nnf.relu(self.down(x))
        coarse = nnf.relu(self.deep(nnf.max_pool2d(fine, 2)))
        out: Tensor = self.out(torch.cat([fine, nnf.relu(self.up(coarse))], 1))
        return out


class Experts(nn.Module):
    """Each example goes to one of eight experts; those without one get no gradient at all."""

    def __init__(self, width: int = 32, experts: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(64, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        share, chosen = self.gate(x).softmax(1).max(1)
        out = x.new_zeros(len(x), 10)
        for i, expert in enumerate(self.experts):
            mine = (chosen == i).nonzero()[:, 0]
            if len(mine):
                out = out.index_add(0, mine, share[mine, None] * expert(x[mine]))
        return out


class LowRank(nn.Module):
    """Frozen random layers, each with a trained addition of rank 4, and a trained head."""

    def __init__(self, width: int = 128, rank: int = 4) -> None:
        super().__init__()
        sizes, up = (64, width), [nn.Linear(rank, width, bias=False) for _ in range(2)]
        self.frozen = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.frozen.requires_grad_(False)
        self.down = nn.ModuleList(nn.Linear(size, rank, bias=False) for size in sizes)
        self.up = nn.ModuleList(up)
        for each in up:
            nn.init.zeros_(each.weight)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for frozen, down, up in zip(self.frozen, self.down, self.up, strict=True):
            x = nnf.relu(frozen(x) + up(down(x)))
        out: Tensor = self.head(x)
        return out


def lstm() -> Task:
    return _text("lstm", LSTM)


def tied() -> Task:
    """An LSTM whose embedding is its last layer too."""
    return _text("tied", lambda: LSTM(tied=True))


def unet() -> Task:
    """Which pixels of a noisy digit belong to it?"""
    prepared = load(find("digits"))
    noise = torch.Generator().manual_seed(0)
    splits = {}
    for name in ("train", "validation", "test"):
        inputs = getattr(prepared, name).inputs
        noisy = inputs + 1.5 * torch.randn(inputs.shape, generator=noise)
        splits[name] = noisy, (inputs[:, 0] > 0).long()
    return _digits("unet", UNet, **splits)


def experts() -> Task:
    return _digits("experts", Experts)


def lora() -> Task:
    return _digits("lora", LowRank)
