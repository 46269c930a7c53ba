"""A script of two processes: Lightning with FSDP2 on CPU, validated with an average of that kind.

Two epochs of three steps end with a cycle; a checkpoint there, and a third epoch resumed from it.
It writes the whole weights after both, and after each step and validation of the two epochs.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from small import averaged, loss_of, network, primal
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from paramcast.integrations.lightning import ForecastCallback


class Sharded(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.points: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def first(self) -> torch.Tensor:
        """The first weight, whole: as a forward pass left it, or gathered from its shards."""
        weight = self.net[0].weight.detach()
        return weight.full_tensor() if isinstance(weight, DTensor) else weight.clone()

    def configure_model(self) -> None:
        if not isinstance(self.net[0].weight, DTensor):
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, index: int) -> Any:
        return loss_of(self.net, batch)

    def on_train_batch_end(self, *_: Any) -> None:
        self.points.append(self.first())

    def validation_step(self, batch: Any, index: int) -> None:
        self.net(batch[0])
        self.validated.append(self.first())

    def configure_optimizers(self) -> Any:
        return {"averaged": averaged, "primal": primal}[sys.argv[2]](self.parameters())


def trainer(epochs: int) -> Trainer:
    return Trainer(
        strategy=ModelParallelStrategy(2, 1, process_group_backend="gloo"),
        accelerator="cpu",
        devices=2,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # both see the same batches
        callbacks=[ForecastCallback()],
    )


def whole(module: Sharded) -> dict[str, torch.Tensor]:
    assert isinstance(module.net[0].weight, DTensor)
    return {name: p.full_tensor().detach() for name, p in module.net.named_parameters()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = warnings.append  # type: ignore[method-assign]
    logging.getLogger("paramcast").addHandler(handler)
    data = DataLoader(TensorDataset(*torch.load(folder / "data.pt")), 32)
    first, module = trainer(2), Sharded()
    first.fit(module, data, data)
    assert "of a sharded model hold the live weights" in warnings[0].getMessage()
    first.save_checkpoint(folder / "checkpoint")
    written = {
        "first": whole(module),
        "points": module.points,
        "validated": module.validated,
    }

    resumed, module = trainer(3), Sharded()
    resumed.fit(module, data, data, ckpt_path=folder / "checkpoint", weights_only=True)
    written["resumed"] = whole(module)
    if resumed.is_global_zero:
        torch.save(written, folder / "written.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
