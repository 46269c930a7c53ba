"""Hugging Face Trainer: metrics of the predictions, evaluation with averaged weights.

The wrapper itself needs nothing: `Trainer(..., optimizers=(PLP(optimizer), scheduler))`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..forecast import Forecast
from .common import Averaged, numbers, unwrap

try:
    from transformers import TrainerCallback
except ImportError:
    raise ArgumentError(
        "Transformers is not installed: pip install 'paramcast[transformers]'"
    ) from None


class ForecastCallback(TrainerCallback):
    """Log the predictions; evaluate, predict and save with the averaged weights.

    Whenever the Trainer logs, the last event's numbers (`ForecastEvent`) go into the log and into
    `trainer.state.log_history` as "forecast/jump_norm" and so on. Trackers of `report_to` are asked
    before the callbacks that you pass; put this one first for them to see the numbers:
    `trainer.callback_handler.callbacks.insert(0, ForecastCallback())`.

    Where the wrapper has an average, `evaluate` and `predict` see the averaged weights from the
    start of the training on, and each checkpoint has a folder "averaged" with them, to be loaded by
    `from_pretrained`; the checkpoint itself holds the live weights and resumes with them.

    Args:
        metrics: log the events.
        averaged: evaluate and save with the averaged weights.

    Raises:
        ArgumentError: when training starts, if the optimizer is no paramcast wrapper, or if
            `load_best_model_at_end` would load live weights whose average was best.

    Example:
        Trainer(model, args, optimizers=(PLP(optimizer), None), callbacks=[ForecastCallback()])
    """

    def __init__(self, *, metrics: bool = True, averaged: bool = True) -> None:
        self.metrics, self.averaged = metrics, averaged
        self._average = Averaged()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any
    ) -> None:
        forecast = unwrap(optimizer)
        self._average.close()
        if not self.averaged or forecast.average is None:
            return
        if args.load_best_model_at_end:
            raise ArgumentError(
                "load_best_model_at_end would load the live weights of the step whose averaged "
                'weights were best; switch it off and load the "averaged" folder of the best '
                "checkpoint, or use ForecastCallback(averaged=False)"
            )
        # The Trainer calls optimizer.eval() before each evaluation and optimizer.train() before
        # each training step, where the optimizer has them; on_evaluate comes in between.
        forecast.eval = lambda: self._average.open([forecast])  # type: ignore[attr-defined]
        forecast.train = self._average.close  # type: ignore[attr-defined]

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._average.close()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self._average.close()

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, Any] | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        if not self.metrics or logs is None or "loss" not in logs:
            return
        found = numbers(unwrap(optimizer).last_event)
        logs.update(found)
        state.log_history[-1].update(found)

    def on_save(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        if self.averaged and state.is_world_process_zero:
            _save_averaged(unwrap(optimizer), model, args.output_dir, state.global_step)


def _save_averaged(forecast: Forecast, model: Any, folder: str, step: int) -> None:
    """Write the averaged weights beside the live ones of the checkpoint."""
    if forecast.has_average and hasattr(model, "save_pretrained"):
        with forecast.eval_weights():
            model.save_pretrained(Path(folder) / f"checkpoint-{step}" / "averaged")
