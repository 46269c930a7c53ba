"""One training run, in the study's loop and as others write it: equal steps and evaluations.

Each makes the steps of a tuning run (SGD with momentum, a cosine schedule, each epoch evaluated on
the validation split) and returns how many steps those were.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from paramcast.study.spec import RunSpec
from paramcast.study.tasks.task import Prepared, Task
from paramcast.study.training.evaluating import evaluate
from paramcast.study.training.loop import run

LR, MOMENTUM = 0.05, 0.9
Run = Callable[[Prepared, RunSpec], int]


def steps_of(prepared: Prepared, spec: RunSpec) -> int:
    return spec.epochs * math.ceil(len(prepared.train) / spec.batch_size)


def study(prepared: Prepared, spec: RunSpec) -> int:
    """What a worker of the pilot does."""
    return int(run(spec, prepared)["steps"])


def bare(prepared: Prepared, spec: RunSpec) -> int:
    """As one writes it by hand."""
    task, steps = prepared.task, steps_of(prepared, spec)
    inputs, targets = prepared.train.inputs, prepared.train.targets
    model, draw = task.model(), torch.Generator().manual_seed(0)
    optimizer = sgd(model, task)
    scheduler = CosineAnnealingLR(optimizer, steps)
    for _ in range(spec.epochs):
        model.train()
        for batch in torch.randperm(len(inputs)).split(spec.batch_size):
            images = inputs[batch]
            if task.augment is not None:
                images = task.augment(images, draw)
            optimizer.zero_grad()
            task.loss(model(images), targets[batch]).backward()
            optimizer.step()
            scheduler.step()
        evaluate(model, prepared, prepared.validation)
    return steps


def sgd(model: nn.Module, task: Task) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=task.weight_decay
    )


def lightning(prepared: Prepared, spec: RunSpec) -> int:
    """Lightning, with everything switched off that it does beside training."""
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    task, steps = prepared.task, steps_of(prepared, spec)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.draw = task.model(), torch.Generator().manual_seed(0)

        def training_step(self, batch: Any, index: int) -> Tensor:
            images, labels = batch
            if task.augment is not None:
                images = task.augment(images, self.draw)
            return task.loss(self.model(images), labels)

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("loss", task.loss(self.model(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            optimizer = sgd(self.model, task)
            scheduler = {"scheduler": CosineAnnealingLR(optimizer, steps), "interval": "step"}
            return [optimizer], [scheduler]

    def loader(examples: Any, size: int, *, shuffle: bool) -> Any:
        return DataLoader(TensorDataset(examples.inputs, examples.targets), size, shuffle=shuffle)

    trainer = Trainer(
        max_epochs=spec.epochs, accelerator="cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    validation = loader(prepared.validation, 1024, shuffle=False)
    trainer.fit(Module(), loader(prepared.train, spec.batch_size, shuffle=True), validation)
    return int(trainer.global_step)


def skorch(prepared: Prepared, spec: RunSpec) -> int:
    """skorch, silent, with a scheduler."""
    from skorch import NeuralNet
    from skorch.callbacks import LRScheduler
    from skorch.dataset import unpack_data
    from skorch.helper import predefined_split
    from torch.utils.data import TensorDataset

    task, steps = prepared.task, steps_of(prepared, spec)
    draw = torch.Generator().manual_seed(0)

    class Loss(nn.Module):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return task.loss(outputs, targets)

    class Net(NeuralNet):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            images, labels = unpack_data(batch)
            if task.augment is not None:
                images = task.augment(images, draw)
            return super().train_step_single((images, labels), **fit_params)

    validation = TensorDataset(prepared.validation.inputs, prepared.validation.targets)
    net = Net(
        task.model(), Loss, optimizer=torch.optim.SGD, optimizer__momentum=MOMENTUM,
        optimizer__weight_decay=task.weight_decay, lr=LR, max_epochs=spec.epochs,
        batch_size=spec.batch_size, iterator_train__shuffle=True, verbose=0,
        train_split=predefined_split(validation), iterator_valid__batch_size=1024,
        callbacks=[LRScheduler(CosineAnnealingLR, T_max=steps, step_every="batch")],
    )  # fmt: skip
    net.fit(TensorDataset(prepared.train.inputs, prepared.train.targets), None)
    return steps


LOOPS: dict[str, Run] = {"study": study, "bare": bare, "lightning": lightning, "skorch": skorch}
