"""Lightning: metrics of the predictions, evaluation and checkpoints with averaged weights.

The wrapper itself needs nothing: return it from `configure_optimizers`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError
from .common import Averaged, check_shows_average, numbers_of, sharded, wrappers

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.trainer.states import TrainerFn
except ImportError:
    raise ArgumentError("Lightning is not installed: pip install 'paramcast[lightning]'") from None

_log = logging.getLogger("paramcast")
# Checkpoint key of the live weights, with which training resumes.
LIVE = "paramcast_live"


class ForecastCallback(Callback):
    """Log the predictions; validate, and write checkpoints, with the averaged weights.

    The last event's numbers (`ForecastEvent`) are logged as "forecast/jump_norm" and so on,
    whenever the trainer logs. Where the wrapper has an average, validation sees the averaged
    weights. Checkpoints hold them too, under "state_dict", as `load_from_checkpoint` and
    `trainer.test(ckpt_path="best")` expect; the live weights are under "paramcast_live", with which
    `trainer.fit(ckpt_path=...)` resumes if this callback is there again. Two kinds of checkpoints
    hold only the live weights, and a warning says so when training starts: those of a sharded
    model, and those with `save_weights_only=True`, for which Lightning asks no callback.

    Args:
        averaged: evaluate and save with the averaged weights.
        update_bn: batches from which to re-estimate the batch-norm statistics for the averaged
            weights each time they are used; None keeps the live statistics.

    Raises:
        ArgumentError: when training starts, if no optimizer is a paramcast wrapper, or if DeepSpeed
            hides its average from the model.

    Example:
        trainer = Trainer(callbacks=[ForecastCallback()])
    """

    def __init__(self, *, averaged: bool = True, update_bn: Iterable[Any] | None = None) -> None:
        self.averaged, self.update_bn = averaged, update_bn
        self._average = Averaged()
        self._logged_at = 0
        self._numbers: dict[str, float] = {}

    # --- metrics --------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = wrappers(trainer.optimizers)  # or an error, before the first step
        self._logged_at, self._numbers = trainer.global_step, {}
        if not self.averaged or not any(forecast.averages for forecast in found):
            return
        for optimizer in trainer.optimizers:
            check_shows_average(optimizer)
        bare = any(getattr(c, "save_weights_only", False) for c in trainer.checkpoint_callbacks)
        if bare or sharded(pl_module):
            _log.warning(
                "checkpoints %s hold the live weights, but validation scores the averaged ones",
                "with save_weights_only=True" if bare else "of a sharded model",
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps
        if not every:
            return
        # An event waits for an accelerator: ask for it only where Lightning logs.
        if trainer.global_step // every != self._logged_at // every:
            self._logged_at = trainer.global_step
            self._numbers = numbers_of(wrappers(trainer.optimizers))
        if self._numbers:
            pl_module.log_dict(self._numbers, on_step=True, on_epoch=False)

    # --- evaluation -----------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.averaged and trainer.state.fn == TrainerFn.FITTING:
            self._average.open(wrappers(trainer.optimizers), pl_module, self.update_bn)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._average.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._average.close()

    # --- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        # Not empty, so that Lightning warns anyone who resumes without this callback.
        return {"averaged": self.averaged}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.averaged or not trainer.optimizers:
            return
        # the live weights, then the averaged ones, which `state_dict` is to hold
        was_open = self._average.is_open
        self._average.close()
        live = _copied(trainer)
        if sharded(pl_module):  # Lightning saves nothing else of it
            checkpoint["state_dict"] = live
        try:
            opened = self._average.open(wrappers(trainer.optimizers), pl_module, self.update_bn)
            if opened and not sharded(pl_module):
                checkpoint["state_dict"], checkpoint[LIVE] = _copied(trainer), live
                _model_holds("average", checkpoint)
        finally:
            if not was_open:
                self._average.close()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if LIVE in checkpoint and trainer.state.fn == TrainerFn.FITTING:
            live = {"state_dict": checkpoint[LIVE]}
            trainer.strategy.load_model_state_dict(live, strict=pl_module.strict_loading)
            _model_holds("live", checkpoint)


def _copied(trainer: Trainer) -> dict[str, Any]:
    """A copy of the model's weights, as Lightning saves them."""
    state = trainer.strategy.lightning_module_state_dict()
    return {name: value.clone() for name, value in state.items()}


def _model_holds(what: str, checkpoint: dict[str, Any]) -> None:
    """Say in the optimizers' states which weights the checkpoint's model has."""
    for state in checkpoint.get("optimizer_states", []):
        if "paramcast" in state:
            state["paramcast"]["model_holds"] = what
