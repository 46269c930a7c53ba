"""Runs in MLflow: an experiment for the pilot or study, a run for each run."""

from __future__ import annotations

import logging
import os

from ...errors import StudyError
from ..html.load import Run
from ..watch.board import anomalies, reason, run_name
from . import names
from .following import Tracker

KEY, FINISHED = "paramcast.key", "FINISHED"
MOST = 1000
"""Metrics that MLflow takes at once, and runs that it tells of at once."""


SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is told to anyone else
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of 7, which take four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class MLflow(Tracker):
    """Writes each run once it has finished: settings as parameters, its curve as metrics.

    MLflow itself is asked which runs it has: they bear the tag "paramcast.key". The verdict is a
    description of the experiment.

    Args:
        experiment: the name of the pilot or study.
        uri: a tracking server or store, such as sqlite:///mlflow.db; None for MLflow's own setting.

    Raises:
        StudyError: MLflow is not installed, or does not answer.
    """

    name = "MLflow"

    def __init__(self, experiment: str, uri: str | None) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient, entities
        except ImportError:
            raise StudyError(
                "--mlflow needs more packages: pip install 'paramcast[mlflow]'"
            ) from None
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # making tables
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._entities = entities
        try:
            self._client = MlflowClient(uri)
            found = self._client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self._client.create_experiment(experiment)
            self._experiment = str(number)
            self._there = self._known()
        except Exception as error:
            raise StudyError(
                f"--mlflow {uri or ''} cannot be used ({names.first_line(error)[:200]}); give a "
                "tracking server's address or a file such as sqlite:///mlflow.db"
            ) from None

    def _known(self) -> dict[str, tuple[str, bool]]:
        """By key: the MLflow run, and whether it is complete."""
        found: dict[str, tuple[str, bool]] = {}
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=MOST, page_token=token)
            for run in page:
                if KEY in run.data.tags:
                    found[run.data.tags[KEY]] = (run.info.run_id, run.info.status == FINISHED)
            token = page.token
            if not token:
                return found

    def ended(self, run: Run, kind: str) -> None:
        number, complete = self._there.get(run.key, ("", False))
        if complete:
            return
        # a run that a killed command left half written goes on under its number
        if not number:
            tags = {KEY: run.key, "status": run.outcome["status"], "reason": reason(run)}
            tags["anomalies"] = "\n".join(text for _, text in anomalies(run.curve))
            made = self._client.create_run(
                self._experiment,
                run_name=run_name(run.spec),
                tags={name: text for name, text in tags.items() if text},
            )
            number = made.info.run_id
        # milliseconds since 1970, as MLflow counts
        metrics = [
            self._entities.Metric(name, value, int(1000 * at), step)
            for step, at, found in names.points(run)
            for name, value in found.items()
        ]
        for begin in range(0, len(metrics), MOST):
            self._client.log_batch(number, metrics=metrics[begin : begin + MOST])
        # parameters last: a run that has ended is complete
        settings = names.settings(run.spec).items()
        self._client.log_batch(
            number, params=[self._entities.Param(k, str(v)) for k, v in settings]
        )
        self._client.set_terminated(number)
        self._there[run.key] = (number, True)

    def verdict(self, text: str) -> None:
        self._client.set_experiment_tag(self._experiment, "mlflow.note.content", text)
