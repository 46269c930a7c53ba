"""A script of two processes: the Trainer with DDP on CPU, whose last averaged weights are best.

Each process checks that its model ends with what it evaluated; only the main one writes.
"""

import os
import sys
from pathlib import Path

import torch
from small import averaged
from test_transformers import Watcher, best, text, trainer
from transformers import GPT2LMHeadModel

from paramcast.integrations.transformers import ForecastCallback


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    watcher = Watcher()
    options = best(first=False, ddp_backend="gloo")
    run = trainer(text, averaged, folder, [watcher, ForecastCallback()], **options)
    if rank == 1:  # a process that writes would overwrite the main one's files
        GPT2LMHeadModel.save_pretrained = None  # type: ignore[method-assign]
    run.train()
    assert torch.equal(next(run.model.parameters()), watcher.evaluated[-1])
    assert not torch.equal(watcher.evaluated[-1], watcher.points[-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
