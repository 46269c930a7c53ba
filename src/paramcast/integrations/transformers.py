"""Hugging Face Trainer: metrics of the predictions, evaluation with averaged weights.

The wrapper itself needs nothing: `Trainer(..., optimizers=(PLP(optimizer), scheduler))`.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CheckpointError
from ..forecast import Forecast
from .common import Averaged, check_shows_average, numbers, sharded, unwrap

try:
    import safetensors.torch
    from accelerate import PartialState
    from transformers import PreTrainedModel, TrainerCallback
except ImportError:
    raise ArgumentError(
        "Transformers is not installed: pip install 'paramcast[transformers]'"
    ) from None

_log = logging.getLogger("paramcast")


class ForecastCallback(TrainerCallback):
    """Log the predictions; evaluate, predict and save with the averaged weights.

    Whenever the Trainer logs, the last event's numbers (`ForecastEvent`) go into the log and into
    `trainer.state.log_history` as "forecast/jump_norm" and so on. The trackers of `report_to` are
    called before the callbacks that you pass; for them to see the numbers, put this one first:
    `trainer.callback_handler.callbacks.insert(0, ForecastCallback())`.

    Where the wrapper has an average, `evaluate` and `predict` see the averaged weights from the
    start of training, and each checkpoint has a folder "averaged" with them, for `from_pretrained`
    to load; the checkpoint itself holds the live weights and resumes with them. With
    `load_best_model_at_end`, the model ends with the weights that scored best, averaged or not, and
    from then on `evaluate` and `predict` see the model as it is.

    Args:
        averaged: evaluate and save with the averaged weights.

    Raises:
        ArgumentError: when training starts, if the optimizer is not a paramcast wrapper, if
            DeepSpeed hides its average from the model, or if `load_best_model_at_end` is combined
            with an average in a sharded model or in `hyperparameter_search`.
        CheckpointError: at the end, if the best averaged weights cannot be loaded.

    Example:
        Trainer(model, args, optimizers=(PLP(optimizer), None), callbacks=[ForecastCallback()])
    """

    def __init__(self, *, averaged: bool = True) -> None:
        self.averaged = averaged
        self._average = Averaged()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        forecast, model = unwrap(given["optimizer"]), given["model"]
        self._average.close([forecast])
        if not self.averaged or not forecast.averages:
            return
        check_shows_average(given["optimizer"])
        if args.load_best_model_at_end and (sharded(model) or state.is_hyper_param_search):
            where = "hyperparameter_search" if state.is_hyper_param_search else "a sharded model"
            raise ArgumentError(
                f"load_best_model_at_end cannot load averaged weights in {where}; switch it off, "
                "or use ForecastCallback(averaged=False)"
            )
        # The Trainer calls optimizer.eval() before each evaluation and optimizer.train() before
        # each training step, where the optimizer has them; on_evaluate comes in between.
        forecast.eval = lambda: self._average.open([forecast], model)  # type: ignore[attr-defined]
        forecast.train = self._average.close  # type: ignore[attr-defined]

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        forecast, best = unwrap(given["optimizer"]), state.best_model_checkpoint
        if not (self.averaged and forecast.averages and args.load_best_model_at_end and best):
            return
        # The Trainer has loaded the live weights of the best checkpoint. If the average had not
        # begun by then, they are the ones that were evaluated.
        PartialState().wait_for_everyone()  # the main process may still be writing the folder
        if (averaged := Path(best) / "averaged").is_dir():
            _load_averaged(given["model"], averaged)
            _log.info("the model has the best averaged weights, of %s", averaged)
        forecast.restart_cycle()
        forecast.restart_average()
        del forecast.eval, forecast.train  # type: ignore[attr-defined] # the average is of a later step

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._average.close()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self._average.close()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        found = numbers(unwrap(given["optimizer"]).last_event)
        logs.update(found)
        state.log_history[-1].update(found)

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        # A search writes its checkpoints elsewhere; each process holds part of a sharded model.
        model = given["model"]
        unknown = state.is_hyper_param_search or sharded(model)
        if self.averaged and args.should_save and not unknown:
            _save_averaged(unwrap(given["optimizer"]), model, args.output_dir, state.global_step)


def _save_averaged(forecast: Forecast, model: Any, folder: str, step: int) -> None:
    """Write the averaged weights beside the live ones of the checkpoint."""
    averaged = Path(folder) / f"checkpoint-{step}" / "averaged"
    shutil.rmtree(averaged, ignore_errors=True)  # left by an earlier run in the same folder
    if not forecast.has_average:
        return
    with forecast.eval_weights():
        if isinstance(model, PreTrainedModel):
            # under the model's own names, which load_state_dict and from_pretrained both know
            model.save_pretrained(averaged, save_original_format=False)
        elif hasattr(model, "save_pretrained"):
            model.save_pretrained(averaged)
        else:
            averaged.mkdir()
            safetensors.torch.save_model(model, str(averaged / "model.safetensors"))


def _load_averaged(model: Any, folder: Path) -> None:
    """Put what `_save_averaged` wrote into the model."""
    weights = folder / "model.safetensors"
    try:
        if weights.exists():
            safetensors.torch.load_model(model, weights)
        else:  # PEFT's adapter
            model.load_adapter(str(folder), model.active_adapters[0])
    except (AttributeError, IndexError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the best averaged weights cannot be loaded into the {type(model).__name__} "
            f"({error}); the model has the live ones of that step, load {folder} yourself"
        ) from error
