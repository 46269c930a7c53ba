"""A script of two processes: Lightning with FSDP2 on CPU; writes the whole weights at its end.

Two epochs of three steps end with a cycle; a checkpoint there, and a third epoch resumed from it.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from small import loss_of, network, sgd
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

import paramcast as pc


class Sharded(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def configure_model(self) -> None:
        if not isinstance(self.net[0].weight, DTensor):
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, index: int) -> Any:
        return loss_of(self.net, batch)

    def configure_optimizers(self) -> Any:
        return pc.PLP(sgd(self.parameters()))


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
        use_distributed_sampler=False,  # both see the same batches
    )


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    data = DataLoader(TensorDataset(*torch.load(folder / "data.pt")), 32)
    first = trainer(2)
    first.fit(Sharded(), data)
    first.save_checkpoint(folder / "checkpoint")

    resumed, module = trainer(3), Sharded()
    resumed.fit(module, data, ckpt_path=folder / "checkpoint", weights_only=True)
    assert isinstance(module.net[0].weight, DTensor)
    whole = {name: p.full_tensor().detach() for name, p in module.net.named_parameters()}
    if resumed.is_global_zero:
        torch.save(whole, folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
