"""Final runs in Weights & Biases: a group for the pilot or study, a run for each run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ...study.stored import read_result
from ..html.load import Run
from ..watch.board import anomalies, reason, run_name
from . import names
from .following import Tracker

SENT = "sent-{project}.txt"
SETTINGS = {
    "WANDB_ERROR_REPORTING": "false",  # nothing is told to anyone else
    "WANDB__SERVICE_WAIT": "300",  # seconds for its process to start beside runs on every core
}


class WandB(Tracker):
    """Writes each final run once it has finished: settings as config, its curve as history.

    Tuning runs are left out: W&B takes about a second a run, and they are many and short. A file
    in the output folder notes which runs were sent.

    Args:
        out: the output folder; W&B's own files go to "wandb" in it.
        project: W&B's.

    Raises:
        StudyError: W&B is not installed, or nobody is logged in.
    """

    name = "Weights & Biases"

    def __init__(self, out: Path, project: str) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import wandb
        except ImportError:
            raise StudyError(
                "--wandb needs more packages: pip install 'paramcast[wandb]'"
            ) from None
        self._wandb, self._out, self._project = wandb, out, project
        if os.environ.get("WANDB_MODE", "online") == "online":
            try:
                wandb.login()  # asks now, not while runs go on
            except Exception as error:
                raise StudyError(
                    f"--wandb cannot be used ({names.first_line(error)}); log in with `wandb "
                    "login`, or set WANDB_MODE=offline and send the runs later with `wandb sync`"
                ) from None
        self._list = out / "wandb" / SENT.format(project=names.safe(project))
        self._sent = set(self._list.read_text("utf-8").split()) if self._list.is_file() else set()

    def ended(self, run: Run, kind: str) -> None:
        if run.spec["phase"] != "final" or run.key in self._sent:
            return
        made = self._init(run_name(run.spec), run.key[:32], names.settings(run.spec), "final")
        for step, _, found in names.points(run):
            made.log(found, step=step)
        made.summary["status"] = run.outcome["status"]
        texts = [reason(run), *(text for _, text in anomalies(run.curve))]
        made.summary["events"] = "\n".join(filter(None, texts))
        made.finish(exit_code=0)
        # noted only now: what was cut off is sent again under the same number
        with self._list.open("a", encoding="utf-8") as file:
            file.write(run.key + "\n")
        self._sent.add(run.key)

    def _init(self, name: str, number: str, config: dict[str, Any], kind: str) -> Any:
        self._list.parent.mkdir(parents=True, exist_ok=True)
        quiet = self._wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
        )
        return self._wandb.init(
            project=self._project, group=self._out.name, name=name, id=number, job_type=kind,
            dir=str(self._out), config=config, reinit="create_new", settings=quiet,
        )  # fmt: skip

    def verdict(self, text: str) -> None:
        # not by the folder's name, which another comparison of the project may have
        identity = read_result(self._out)["identity"][:24]
        made = self._init("verdict", f"verdict-{identity}", {}, "verdict")
        made.summary["verdict"] = text
        made.finish(exit_code=0)

    def close(self) -> None:
        self._wandb.teardown()
