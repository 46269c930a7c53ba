"""Checkpoints that cannot be combined, and what is asked of those that can."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bad_words import LONG, Made
from inputs import Bad

MY = "def f(state):\n    return {'loss': float(state['w'])}\n\ndef g(state):\n    return 1 / 0\n"
GOOD = {"w": torch.ones(1), "n": torch.ones(1, dtype=torch.int64)}


class Runs:
    """A pickle that would make a folder."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def one(content: Any, *more: str, name: str = "b.pt") -> Made:
    """A good checkpoint and another one: what torch saves, bytes, or what makes it."""

    def make(folder: Path) -> tuple[Any, ...]:
        torch.save(GOOD, folder / "a.pt")
        (folder / "my.py").write_text(MY)
        if callable(content):
            content(folder / name)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            torch.save(content, folder / name)
        words = more or ("--predictor", "mean", "-o", "new.pt")
        return ("combine", "a.pt", name, *words)

    return make


def good(*more: str) -> Made:
    return one(GOOD, *more)


def folder_of(**files: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name, content in files.items():
            path = folder / name.replace("_json", ".json").replace("_pt", ".pt")
            if isinstance(content, str):
                path.write_text(content)
            else:
                torch.save(content, path)

    return make


INDEX = "model.safetensors.index.json"
ITSELF: dict[str, Any] = {}
ITSELF["model"] = ITSELF
MEAN = ("--predictor", "mean", "-o")
COMBINED = [
    Bad("no checkpoints", "Missing argument 'CHECKPOINTS...'; see paramcast combine --help",
        lambda _: ("combine", "-o", "new.pt")),
    Bad("one checkpoint", "give at least 2 checkpoints of one training, got 1 (a.pt)",
        lambda folder: (torch.save(GOOD, folder / "a.pt"), "combine", "a.pt", *MEAN, "n.pt")[1:]),
    Bad("a checkpoint that is not there", "there is no checkpoint c.pt; check the path",
        lambda folder: ("combine", "c.pt", "d.pt", *MEAN, "n.pt")),
    Bad("a checkpoint with a name of 5,000 characters", "… cannot be read …",
        lambda folder: ("combine", LONG, "d.pt", *MEAN, "n.pt")),
    Bad("a checkpoint given twice", "./a.pt was given twice; give each checkpoint once",
        lambda folder: (torch.save(GOOD, folder / "a.pt"), "combine", "a.pt", "./a.pt", *MEAN,
                        "n.pt")[1:]),
    Bad("a checkpoint with another name of a tensor", "b.pt lacks n, which a.pt has (1 name in "
        "all); give checkpoints of one model", one({"w": torch.ones(1)})),
    Bad("a checkpoint of another shape", "w has the shape 1 in a.pt and 2x3 in b.pt; give "
        "checkpoints of one model, saved alike", one({**GOOD, "w": torch.ones(2, 3)})),
    Bad("a checkpoint of another dtype", "w has the dtype float32 in a.pt and float16 in b.pt; …",
        one({**GOOD, "w": torch.ones(1).half()})),
    Bad("a checkpoint that is a list", "b.pt holds no state dict but a list; save one: "
        "torch.save(model.state_dict(), ...)", one([torch.ones(1)])),
    Bad("a checkpoint whose keys are numbers", "b.pt holds no state dict but a dict with keys that "
        "are not names; …", one({3: torch.ones(1)})),
    Bad("a checkpoint without tensors", "b.pt holds no weights; it must be a state dict, or hold "
        "one under state_dict, model, model_state_dict, module or --key", one({"epoch": 3})),
    Bad("a checkpoint with weights under a key of its own", "b.pt holds no weights (it has tensors "
        "under net); …", one({"net": GOOD})),
    Bad("a checkpoint with two usual keys", "b.pt holds weights under state_dict and model; say "
        "which with --key", one({"model": GOOD, "state_dict": GOOD})),
    Bad("a checkpoint that holds itself", "b.pt is nested too deeply; …", one(ITSELF)),
    Bad("a key that leads nowhere", "a.pt has nothing under --key ema",
        good("--key", "ema", *MEAN, "n.pt")),
    Bad("a checkpoint whose pickle runs code", "b.pt cannot be loaded: it may hold only tensors "
        "and plain values, such as state dicts, got …mkdir", one({"w": Runs()})),
    Bad("a checkpoint of text", "b.pt is not a whole checkpoint (it is neither an "
        "archive nor a pickle); leave it out", one(b"hello")),
    Bad("a file of safetensors whose header claims 2^60 bytes",
        "b.safetensors is not a whole safetensors file …",
        one((2**60).to_bytes(8, "little") + b"{}", name="b.safetensors")),
    Bad("a checkpoint of another ending", "b.h5 is not a checkpoint by its name; it must end in "
        ".pt, .pth, .bin, .ckpt or .safetensors, or be a Hugging Face folder",
        one(b"", name="b.h5")),
    Bad("a checkpoint that is a pipe", "b.pt is not a regular file; give checkpoints",
        one(lambda path: os.mkfifo(path))),
    Bad("a tensor of a few bytes that claims ten terabytes", "w in b.pt is one value repeated very "
        "often; …", one({**GOOD, "w": torch.ones(1).expand(2_500_000_000_000)})),
    Bad("a folder of shards without an index", "b has no model.safetensors, pytorch_model.bin or "
        "index of shards such as model.safetensors.index.json; if x.pt is a checkpoint by itself, "
        "name the file", one(folder_of(x_pt=GOOD), name="b")),
    Bad("a folder whose index is not JSON", f"b/{INDEX} cannot be read …",
        one(folder_of(**{INDEX: "{"}), name="b")),
    Bad("an index that leads out of its folder", "b lacks ../a.pt, which model…json names",
        one(folder_of(**{INDEX: json.dumps({"weight_map": {"w": "../a.pt"}})}), name="b")),
    Bad("an output that exists", "a.pt exists already and was left alone; choose another name",
        good(*MEAN, "a.pt")),
    Bad("an output that is a folder", "out . is a folder; name a file in it, such as new.pt",
        good(*MEAN, ".")),
    Bad("an output of another ending", "out new.h5 must end in .pt, .pth, .bin, .ckpt or "
        ".safetensors", good(*MEAN, "new.h5")),
    Bad("an output in no folder", "out x/new.pt is in no folder that exists; make x first",
        good(*MEAN, "x/new.pt")),
    Bad("nothing to do", "nothing to do: give -o FILE for the result, --eval to choose, or both",
        good("--predictor", "mean")),
    Bad("two checkpoints for rre", "rre reads at least 3 checkpoints, got 2; add earlier ones",
        good("--predictor", "rre", "-o", "n.pt")),
    Bad("more checkpoints than there are", "last must be from 2 to the 2 checkpoints, got 3",
        good("--last", "3", *MEAN, "n.pt")),
    Bad("an unknown predictor", "predictor must be one of mean, ema, rre, line, got 'sma'",
        good("--predictor", "sma", "-o", "n.pt")),
    Bad("all predictors without an evaluation", "without an evaluation one combination can be "
        "made, got several; …", good("-o", "n.pt")),
    Bad("an evaluation that always fails", "g failed with ZeroDivisionError: division by zero "
        "(line 5)", good("--eval", "my.py:g", "-o", "n.pt")),
    Bad("an evaluation that is not there", "my.py has no function 'h'; it has f, g; name it as "
        "my.py:FUNCTION", good("--eval", "my.py:h", "-o", "n.pt")),
    Bad("a metric that is not there", "f returned loss; it has no 'accuracy'",
        good("--eval", "my.py:f", "--metric", "accuracy", "-o", "n.pt")),
    Bad("a test without an evaluation", "test needs an evaluation that chooses; give evaluate too",
        good("--test", "my.py:f", *MEAN, "n.pt")),
    Bad("batch norm of a model without it", "batch_norm is for batch norm, and the checkpoints "
        "hold none of it", good("--batch-norm", "my.py:f", *MEAN, "n.pt")),
]  # fmt: skip
