"""Lightning, the real one: training, resuming, averaged evaluation, metrics, Fabric."""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning")
from lightning.fabric import Fabric
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from small import (
    Averaging,
    Make,
    adamw,
    averaged,
    cosine,
    each_average,
    loss_of,
    network,
    plp,
    same,
    sgd,
    spoiled,
    train,
)

import paramcast as pc
from paramcast.errors import ArgumentError, BaseOptimizerError
from paramcast.integrations.common import unwrap
from paramcast.integrations.lightning import LIVE, ForecastCallback

BATCHES = 20  # of 32, an epoch: two steps into a cycle of three


class Digits(LightningModule):
    """A small network; `make` gives the optimizer."""

    def __init__(self, make: Make = sgd, manual: bool = False) -> None:
        super().__init__()
        self.net, self.make = network(), make
        self.automatic_optimization = not manual

    def training_step(self, batch: Any, index: int) -> Tensor | None:
        loss = loss_of(self.net, batch)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.lr_schedulers().step()
        return None

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cosine(optimizer), "interval": "step"},
        }


class Validated(Digits):
    """The same with a validation that remembers which weights it saw."""

    def __init__(self, make: Make = averaged) -> None:
        super().__init__(make)
        self.seen: list[Tensor] = []

    def validation_step(self, batch: Any, index: int) -> None:
        self.seen.append(self.net[0].weight.detach().clone())
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


def by_hand(make: Make, loader: Any, epochs: int, scheduled: bool = True) -> torch.nn.Module:
    """The plain loop that Lightning must agree with."""
    net = network()
    optimizer = make(net.parameters())
    scheduler = cosine(optimizer)
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
            if scheduled:
                scheduler.step()
    return net


def trainer(epochs: int, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, **options}
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **quiet,
    )


@pytest.fixture
def loader(digits: tuple[Tensor, Tensor]) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*digits), batch_size=32)


# --- training -------------------------------------------------------------------------------------


@pytest.mark.compat(stack="Lightning", feature="train")
@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("base", [sgd, adamw])
def test_training_equals_the_plain_loop(loader: Any, base: Make, manual: bool) -> None:
    module = Digits(plp(base), manual)
    trainer(2).fit(module, loader)
    assert same(module.net, by_hand(plp(base), loader, 2))
    assert not same(module.net, by_hand(base, loader, 2))


@pytest.mark.compat(stack="Lightning", feature="train")
def test_an_accumulated_micro_batch_is_no_step(loader: Any) -> None:
    run = trainer(1, accumulate_grad_batches=2)
    run.fit(Digits(plp(sgd)), loader)
    assert run.optimizers[0].state_dict()["paramcast"]["steps"] == BATCHES // 2


@pytest.mark.compat(stack="Lightning", feature="train")
def test_bfloat16_mixed_precision_with_clipping_counts_every_step(loader: Any) -> None:
    run = trainer(1, precision="bf16-mixed", gradient_clip_val=0.5)
    run.fit(Digits(plp(adamw)), loader)
    assert run.optimizers[0].state_dict()["paramcast"]["steps"] == BATCHES
    assert run.optimizers[0].last_event.applied


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.compat(stack="Lightning", feature="resume in mid-cycle")
@pytest.mark.parametrize("base", [sgd, adamw])
def test_resuming_at_an_epochs_end_is_bitwise(loader: Any, base: Make, tmp_path: Path) -> None:
    first = trainer(1)
    first.fit(Digits(plp(base)), loader)
    first.save_checkpoint(tmp_path / "epoch.ckpt")
    assert first.optimizers[0].state_dict()["paramcast"]["cycle"]["done"] == 2
    resumed, undisturbed = spoiled(Digits(plp(base))), Digits(plp(base))
    trainer(3).fit(resumed, loader, ckpt_path=tmp_path / "epoch.ckpt")
    trainer(3).fit(undisturbed, loader)
    assert same(resumed, undisturbed)


class Resumable:
    """A loader that knows where it is, as Lightning's protocol for stateful loaders asks."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader, self.at = loader, 0

    def __iter__(self) -> Any:
        for i, batch in enumerate(self.loader):
            if i >= self.at:
                self.at = i + 1
                yield batch
        self.at = 0

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


@pytest.mark.compat(stack="Lightning", feature="resume in mid-cycle")
@pytest.mark.parametrize("cut", [3, 4, 5])
@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")  # resumed in place
def test_resuming_in_mid_epoch_with_a_stateful_loader_is_bitwise(
    loader: Any, cut: int, tmp_path: Path
) -> None:
    def saving() -> Trainer:
        callback = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=cut, save_top_k=-1)
        return trainer(2, callbacks=[callback], enable_checkpointing=True)

    undisturbed, resumed = Digits(plp(adamw)), spoiled(Digits(plp(adamw)))
    saving().fit(undisturbed, Resumable(loader))
    saving().fit(
        resumed, Resumable(loader), ckpt_path=tmp_path / f"step={cut}.ckpt", weights_only=True
    )
    assert same(resumed, undisturbed)


@pytest.mark.slow  # two processes that import Lightning
@pytest.mark.compat(stack="Lightning", feature="sharded")
@pytest.mark.compat(stack="Lightning", feature="averaged evaluation")
@each_average
def test_sharded_training_is_the_unsharded_one_and_validates_with_the_average(
    kind: Averaging, digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    x, y = digits[0][:96], digits[1][:96]
    torch.save((x, y), tmp_path / "data.pt")
    script = Path(__file__).with_name("sharded_lightning.py")
    command = [sys.executable, str(script), str(tmp_path), kind.make.__name__]
    subprocess.run(command, check=True, timeout=300)
    written = torch.load(tmp_path / "written.pt")
    batches = list(zip(x.split(32), y.split(32), strict=True))
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)

    for epoch in (1, 2):
        average = kind.of(written["points"][: 3 * epoch])
        for seen in written["validated"][3 * (epoch - 1) : 3 * epoch]:
            close(seen, average)
        assert not torch.allclose(average, written["points"][3 * epoch - 1], atol=1e-4)
    plain = by_hand(kind.make, batches, 2, scheduled=False)
    for name, p in plain.named_parameters():
        close(written["first"][name], p.detach())
    # PLP loses nothing at a cycle's end; what PrimalAveraging remembers is not in the checkpoint.
    if kind.make is averaged:
        for name, p in by_hand(kind.make, batches, 3, scheduled=False).named_parameters():
            close(written["resumed"][name], p.detach())


# --- averaged evaluation and checkpoints ----------------------------------------------------------


class Recorder(Callback):
    """The first weight after every step."""

    def __init__(self) -> None:
        self.points: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.points.append(pl_module.net[0].weight.detach().clone())


@pytest.mark.compat(stack="Lightning", feature="averaged evaluation")
@each_average
def test_validation_sees_the_average_and_training_goes_on_live(
    loader: Any, kind: Averaging
) -> None:
    recorder, module = Recorder(), Validated(kind.make)
    trainer(1, callbacks=[recorder, ForecastCallback()]).fit(module, loader, loader)
    torch.testing.assert_close(module.seen[0], kind.of(recorder.points))
    assert not torch.equal(module.seen[0], recorder.points[-1])
    assert same(module.net, by_hand(kind.make, loader, 1))


@pytest.mark.compat(stack="Lightning", feature="averaged evaluation")
@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")  # resumed in place
@each_average
def test_a_checkpoint_holds_the_average_and_resumes_live(
    loader: Any, kind: Averaging, tmp_path: Path
) -> None:
    def saving() -> Trainer:
        keep = ModelCheckpoint(tmp_path, "{epoch}", monitor="accuracy", mode="max", save_top_k=-1)
        return trainer(2, callbacks=[keep, ForecastCallback()], enable_checkpointing=True)

    undisturbed, resumed = Validated(kind.make), spoiled(Validated(kind.make))
    saving().fit(undisturbed, loader, loader)

    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)
    assert torch.equal(saved["state_dict"]["net.0.weight"], undisturbed.seen[0])
    assert not torch.equal(saved["state_dict"]["net.0.weight"], saved[LIVE]["net.0.weight"])
    assert saved["optimizer_states"][0]["paramcast"]["model_holds"] == "average"
    loaded = Validated.load_from_checkpoint(tmp_path / "epoch=0.ckpt", make=kind.make)
    assert torch.equal(loaded.net[0].weight.cpu(), undisturbed.seen[0])

    saving().fit(resumed, loader, loader, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert same(resumed, undisturbed)


@pytest.mark.compat(stack="Lightning", feature="averaged evaluation")
@each_average
def test_testing_the_best_checkpoint_uses_its_average(
    loader: Any, kind: Averaging, tmp_path: Path
) -> None:
    saving = ModelCheckpoint(tmp_path, monitor="accuracy", mode="max")
    module = Validated(kind.make)
    run = trainer(1, callbacks=[saving, ForecastCallback()], enable_checkpointing=True)
    run.fit(module, loader, loader)
    live = module.net[0].weight.detach().clone()
    run.validate(module, loader, verbose=False)
    assert torch.equal(module.seen[-1], live)
    best = run.validate(module, loader, ckpt_path="best", verbose=False)[0]["accuracy"]
    assert best == pytest.approx(float(saving.best_model_score))
    assert torch.equal(module.seen[-1], module.seen[0])
    assert not torch.equal(module.seen[-1], live)


def test_the_batch_norm_statistics_are_estimated_anew_and_put_back(loader: Any) -> None:
    class Statistics(Callback):
        seen: Tensor

        def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.seen = pl_module.net[1].running_mean.clone()

    statistics, module = Statistics(), Validated()
    module.forward = module.net.forward
    trainer(1, callbacks=[ForecastCallback(update_bn=loader), statistics]).fit(
        module, loader, loader
    )
    live = by_hand(averaged, loader, 1)[1].running_mean
    assert torch.equal(module.net[1].running_mean, live)
    assert not torch.allclose(statistics.seen, live, atol=1e-3)


class Partial(Validated):
    """Its checkpoints leave out a layer."""

    strict_loading = False

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state = super().state_dict(*args, **kwargs)
        return {name: p for name, p in state.items() if not name.startswith("net.3")}


def test_a_checkpoint_of_a_part_resumes(loader: Any, tmp_path: Path) -> None:
    first, resumed = Partial(), Partial()
    run = trainer(1, callbacks=[ForecastCallback()])
    run.fit(first, loader, loader)
    run.save_checkpoint(tmp_path / "part.ckpt")
    again = trainer(1, callbacks=[ForecastCallback()])
    again.fit(resumed, loader, loader, ckpt_path=tmp_path / "part.ckpt")
    assert torch.equal(resumed.net[0].weight, first.net[0].weight)


def test_a_checkpoint_during_validation_holds_both(loader: Any, tmp_path: Path) -> None:
    class Saving(Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "inside.ckpt")
            pl_module.seen.append(pl_module.net[0].weight.detach().clone())

    recorder, module = Recorder(), Validated()
    trainer(1, callbacks=[recorder, Saving(), ForecastCallback()]).fit(module, loader, loader)
    saved = torch.load(tmp_path / "inside.ckpt", weights_only=False)
    assert torch.equal(saved["state_dict"]["net.0.weight"], module.seen[0])
    assert torch.equal(saved[LIVE]["net.0.weight"], recorder.points[-1])
    assert torch.equal(module.seen[-1], module.seen[0])  # validation goes on with the average
    assert torch.equal(module.net[0].weight, recorder.points[-1])


def test_the_sanity_check_sees_the_live_weights(loader: Any) -> None:
    module = Validated()
    start = module.net[0].weight.detach().clone()
    run = trainer(1, callbacks=[ForecastCallback()])
    run.num_sanity_val_steps = 1
    run.fit(module, loader, loader)
    assert torch.equal(module.seen[0], start)
    assert not torch.equal(module.seen[-1], module.net[0].weight)


def test_checkpoints_without_the_average_are_announced(
    loader: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fit(module: Validated, folder: Path) -> None:
        bare = ModelCheckpoint(folder, "bare", save_weights_only=True)
        run = trainer(1, callbacks=[bare, ForecastCallback()], enable_checkpointing=True)
        run.fit(module, loader, loader)

    module = Validated()
    fit(module, tmp_path)
    saved = torch.load(tmp_path / "bare.ckpt", weights_only=False)
    assert torch.equal(saved["state_dict"]["net.0.weight"], module.net[0].weight)
    warning = "checkpoints with save_weights_only=True hold the live weights, but validation"
    assert warning in caplog.text
    caplog.clear()
    fit(Validated(plp(sgd)), tmp_path / "plp")
    assert warning not in caplog.text


def test_a_failing_validation_leaves_the_live_weights(loader: Any) -> None:
    class Failing(Validated):
        def validation_step(self, batch: Any, index: int) -> None:
            raise RuntimeError("no disk")

    module = Failing()
    with pytest.raises(RuntimeError, match="no disk"):
        trainer(1, callbacks=[ForecastCallback()]).fit(module, loader, loader)
    assert same(module.net, by_hand(averaged, loader, 1))


# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.compat(stack="Lightning", feature="metrics")
def test_the_numbers_of_the_events_are_logged(loader: Any, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    run = trainer(1, logger=logger, log_every_n_steps=5, callbacks=[ForecastCallback()])
    run.fit(Digits(plp(sgd)), loader)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [float(row["forecast/step"]) for row in rows] == [3, 9, 15, 18]
    assert all(float(row["forecast/jump_norm"]) > 0 for row in rows)
    assert run.callback_metrics["forecast/jump_norm"] > 0


# --- Fabric ---------------------------------------------------------------------------------------


def fabric_steps(fabric: Fabric, net: Any, optimizer: Any, batches: Any) -> None:
    for batch in batches:
        optimizer.zero_grad()
        fabric.backward(loss_of(net, batch))
        optimizer.step()


@pytest.mark.compat(stack="Lightning Fabric", feature="train")
@pytest.mark.compat(stack="Lightning Fabric", feature="resume in mid-cycle")
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_fabric_resumes_bitwise(loader: Any, cut: int, tmp_path: Path) -> None:
    batches = list(loader)
    fabric = Fabric(accelerator="cpu", devices=1)

    def fresh() -> tuple[Any, Any]:
        net = network()
        return fabric.setup(net, pc.PLP(adamw(net.parameters())))

    net, optimizer = fresh()
    fabric_steps(fabric, net, optimizer, batches[:cut])
    fabric.save(tmp_path / "fabric.ckpt", {"net": net, "optimizer": optimizer})
    fabric_steps(fabric, net, optimizer, batches[cut:])
    again, resumed = fresh()
    spoiled(again)
    fabric.load(tmp_path / "fabric.ckpt", {"net": again, "optimizer": resumed})
    fabric_steps(fabric, again, resumed, batches[cut:])
    assert same(again, net)

    plain = network()
    train(plain, pc.PLP(adamw(plain.parameters())), batches)
    assert same(plain, net.module)


@pytest.mark.compat(stack="Lightning Fabric", feature="averaged evaluation")
@pytest.mark.compat(stack="Lightning Fabric", feature="metrics")
@each_average
def test_fabrics_wrapper_evaluates_with_the_average(loader: Any, kind: Averaging) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    net = network()
    net, optimizer = fabric.setup(net, kind.make(net.parameters()))
    points = []
    for batch in loader:
        fabric_steps(fabric, net, optimizer, [batch])
        points.append(net.module[0].weight.detach().clone())
    with unwrap(optimizer).eval_weights():
        torch.testing.assert_close(net.module[0].weight, kind.of(points))
        assert not torch.equal(net.module[0].weight, points[-1])
    assert torch.equal(net.module[0].weight, points[-1])
    assert optimizer.last_event.step == BATCHES - BATCHES % optimizer.predictor.every


# --- bad input ------------------------------------------------------------------------------------


def test_wrapping_what_lightning_or_fabric_has_wrapped_is_refused(loader: Any) -> None:
    from lightning.pytorch.core.optimizer import LightningOptimizer

    net = network()
    _, fabrics = Fabric(accelerator="cpu", devices=1).setup(net, sgd(net.parameters()))
    for wrapped in (fabrics, LightningOptimizer(sgd(net.parameters()))):
        with pytest.raises(BaseOptimizerError, match=r"of lightning.*wrap the plain optimizer"):
            pc.PLP(wrapped)


def test_the_callback_needs_a_wrapper(loader: Any) -> None:
    with pytest.raises(ArgumentError, match="there is: SGD"):
        trainer(1, callbacks=[ForecastCallback()]).fit(Digits(sgd), loader)
