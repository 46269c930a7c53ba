"""Monitors that write to experiment trackers."""

from __future__ import annotations

import os
import time
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

    Args:
        run_id: the run; None for the active one (`mlflow.start_run()`) or, if there is none, a new
            one, which `close` ends.
        tracking_uri: where the run is; None for MLflow's own setting.
        experiment: the experiment of a new run.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: MLflow is not installed (pip install 'paramcast[mlflow]').

    Example::

        with mlflow.start_run():
            optimizer = PLP(base, monitors=[MLflow(every=20)])
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        tracking_uri: str | None = None,
        experiment: str = "paramcast",
        **requests: Any,
    ) -> None:
        super().__init__(**requests)
        mlflow = _needed("mlflow", "MLflow", "mlflow")
        self._metric = mlflow.entities.Metric
        self.client = mlflow.MlflowClient(tracking_uri)
        # the run that was given, the one under way, or a new one, which is ours to end
        active = mlflow.active_run() if run_id is None else None
        self._ours = run_id is None and active is None
        self.run_id = run_id if active is None else active.info.run_id
        if self.run_id is None:
            found = self.client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self.client.create_experiment(experiment)
            self.run_id = self.client.create_run(number).info.run_id

    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        now = int(1000 * time.time())
        # a client of its own: `mlflow.log_metrics` would write to whatever run is under way now
        metrics = [self._metric(name, value, now, step) for name, value in numbers.items()]
        for begin in range(0, len(metrics), 1000):  # as many as MLflow takes at once
            self.client.log_batch(self.run_id, metrics=metrics[begin : begin + 1000])
        if anomaly:
            self.client.set_tag(self.run_id, "paramcast.anomaly", f"step {step}: {anomaly}")

    def close(self) -> None:
        if self._ours:
            self.client.set_terminated(self.run_id)


class WandB(_Tracker):
    """Write the numbers of each event to a run of Weights & Biases, under "paramcast/".

    They are plotted against "paramcast/step", so they do not disturb the steps of anything else
    that the run logs. Anomalies are the text "paramcast/anomaly".

    Args:
        run: what `wandb.init()` returned; None for the active one or, if there is none, a new one,
            which `close` ends.
        project: the project of a new run.
        requests: every and scored, as in `Monitor`.

    Raises:
        ArgumentError: W&B is not installed (pip install 'paramcast[wandb]').

    Example::

        run = wandb.init(project="mine")
        optimizer = PLP(base, monitors=[WandB(run, every=20)])
    """

    def __init__(self, run: Any = None, *, project: str = "paramcast", **requests: Any) -> None:
        super().__init__(**requests)
        wandb = _needed("wandb", "Weights & Biases", "wandb")
        # the run that was given, the one under way, or a new one, which is ours to end
        given = run if run is not None else wandb.run
        self._ours = given is None
        self.run = wandb.init(project=project) if given is None else given
        self.run.define_metric("paramcast/*", step_metric="paramcast/step")

    def _write(self, numbers: dict[str, float], anomaly: str, step: int) -> None:
        text = {"paramcast/anomaly": anomaly} if anomaly else {}
        self.run.log({**numbers, **text, "paramcast/step": step})

    def close(self) -> None:
        if self._ours:
            self.run.finish()
