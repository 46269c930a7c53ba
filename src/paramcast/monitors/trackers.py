"""Monitors that write to experiment trackers."""

from __future__ import annotations

import os
from abc import abstractmethod
from importlib import import_module
from typing import Any

from ..errors import ArgumentError
from ..events import ForecastEvent
from .base import Monitor


class _Tracker(Monitor):
    """Writes the numbers of each event under "paramcast/", and anomalies as text."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tracker:
        return self  # one connection: a copied optimizer writes to it too

    def __reduce__(self) -> str:
        raise ArgumentError(
            f"a {type(self).__name__} monitor holds an open connection and cannot be pickled; "
            "save optimizer.state_dict() instead, and give a new wrapper a new monitor"
        )

    def look(self, event: ForecastEvent) -> None:
        # the numbers that are known; counts are left out, and True is 1
        known = {k: v for k, v in event._asdict().items() if isinstance(v, (bool, float))}
        numbers = {f"paramcast/{name}": float(value) for name, value in known.items()}
        self._write(numbers, event.reason if event.fired else "", event.step)

    @abstractmethod
    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        """Write the numbers by name, and what an anomaly rule said, if one fired."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left and close."""


def _needed(module: str, name: str, extra: str) -> Any:
    """The module of a tracker, or an error that says how to install it."""
    try:
        return import_module(module)
    except ImportError:
        raise ArgumentError(f"{name} is not installed: pip install 'paramcast[{extra}]'") from None


class TensorBoard(_Tracker):
    """Write the numbers of each event to TensorBoard, under "paramcast/".

    Anomalies appear as text.

    Args:
        logdir: TensorBoard's folder.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: TensorBoard is not installed (pip install 'paramcast[tensorboard]').
    """

    def __init__(self, logdir: str | os.PathLike[str], **requests: Any) -> None:
        super().__init__(**requests)
        tensorboard = _needed("torch.utils.tensorboard", "TensorBoard", "tensorboard")
        self.writer = tensorboard.SummaryWriter(str(logdir))

    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        if anomaly:
            self.writer.add_text("paramcast/anomaly", anomaly, step)

    def close(self) -> None:
        self.writer.close()


class MLflow(_Tracker):
    """Write the numbers of each event to an MLflow run, under "paramcast/".

    The last anomaly is the tag "paramcast.anomaly".

    It is the run under way (`mlflow.start_run()`) or, if there is none, a new one, which `close`
    ends.

    Args:
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: MLflow is not installed (pip install 'paramcast[mlflow]').

    Example::

        with mlflow.start_run():
            optimizer = PLP(base, monitors=[MLflow(every=20)])
    """

    def __init__(self, **requests: Any) -> None:
        super().__init__(**requests)
        self._mlflow = _needed("mlflow", "MLflow", "mlflow")
        active = self._mlflow.active_run()
        self._ours = active is None
        self.run_id = (active or self._mlflow.start_run()).info.run_id

    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        # by its id, or they would go to whatever run is under way now
        self._mlflow.log_metrics(numbers, step=step, run_id=self.run_id)
        if anomaly:
            text = f"step {step}: {anomaly}"
            self._mlflow.MlflowClient().set_tag(self.run_id, "paramcast.anomaly", text)

    def close(self) -> None:
        if self._ours:
            self._mlflow.end_run()


class WandB(_Tracker):
    """Write the numbers of each event to a run of Weights & Biases, under "paramcast/".

    They are plotted against "paramcast/step", so they do not disturb the steps of anything else
    that the run logs. Anomalies are the text "paramcast/anomaly".

    Args:
        run: what `wandb.init()` returned; None for the active one or, if there is none, a new one,
            which `close` ends.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: W&B is not installed (pip install 'paramcast[wandb]').

    Example::

        run = wandb.init(project="mine")
        optimizer = PLP(base, monitors=[WandB(run, every=20)])
    """

    def __init__(self, run: Any = None, **requests: Any) -> None:
        super().__init__(**requests)
        wandb = _needed("wandb", "Weights & Biases", "wandb")
        # the run that was given, the one under way, or a new one, which is ours to end
        given = run if run is not None else wandb.run
        self._ours = given is None
        self.run = wandb.init() if given is None else given
        self.run.define_metric("paramcast/*", step_metric="paramcast/step")

    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        text = {"paramcast/anomaly": anomaly} if anomaly else {}
        self.run.log({**numbers, **text, "paramcast/step": step})

    def close(self) -> None:
        if self._ours:
            self.run.finish()
