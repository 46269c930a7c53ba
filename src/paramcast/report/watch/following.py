"""Following a pilot or study: each look reads what has come since the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ...errors import StudyError
from ...study.judging.sentences import caution, kind, sentence
from ...study.store.folder import RESULT, reading, remembers, specification_of
from ...study.store.live import InProgress, driver, in_progress
from ...study.stored import Result, read_result
from ...study.words import Words
from ..html.comparison import counts
from ..html.load import Failure, Run, new_failures, new_runs


class Look(NamedTuple):
    """What a look found.

    Attributes:
        kind: "pilot" or "study".
        name, folder: what it is called, and where it is.
        state: "running" while a driver is at work, "finished" when the verdict is there for the
            seeds that were asked for last, else "stopped".
        planned: runs by phase ("tuning", "final"), a pilot's "seeds", and the least, usual and most
            runs of its "price"; empty if not known.
        result: None until the verdict.
        ended, failed: runs and failed attempts that are new.
        running: runs in progress that can be seen from here.
    """

    kind: str
    name: str
    folder: Path
    state: str
    planned: dict[str, Any]
    result: Result | None
    ended: list[Run]
    failed: list[Failure]
    running: list[InProgress]

    def verdicts(self) -> list[str]:
        """The sentences of a pilot, or how often a study gave each verdict; none before the end."""
        if self.result is None or self.state != "finished":
            return []
        if self.kind == "pilot":
            (judged,), words = self.result["cells"], Words("en")
            metric = judged["metric"]
            return [
                f"{method}, {question}: {kind(verdict, words)}. {sentence(verdict, metric, words)} "
                f"{caution(verdict, metric, words)}".rstrip()
                for method, answers in judged["verdicts"].items()
                for question, verdict in answers.items()
            ]
        return [
            f"{method}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
            for method, kinds in counts(self.result["cells"]).items()
        ]


class Follower:
    """Reads a folder's store again and again, each run once.

    Args:
        folder: of a pilot or study; for another place of the store it may be missing.
        url: of a PostgreSQL store; None for the one that the folder names, else its file.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder, self.url = folder, url
        self._seen: set[str] = set()
        self._failed = 0
        self._verdict: tuple[int, Result | None] = (0, None)

    def look(self) -> Look:
        """Read what is new.

        Raises:
            StudyError: there is no store, or it cannot be read.
        """
        if self.url is None and not remembers(self.folder):
            raise StudyError(
                f"{self.folder} holds no pilot or study yet; give the folder of one (its --out)"
            )
        # the store alone says what has ended; files beside it say what goes on
        with reading(self.folder, self.url) as store:
            about = specification_of(store)
            ended = new_runs(store, self.folder, self.url, self._seen)
            failed = new_failures(store, self._failed)
            planned = store.about("planned") or {}
            at_work = store.driver or driver(self.folder)
        self._seen.update(run.key for run in ended)
        self._failed += len(failed)
        known = about if about["kind"] == "study" else about.get("common", {})
        name = str(known.get("name" if about["kind"] == "study" else "task"))
        result, state = self._result(), "running" if at_work else "stopped"
        if result and not at_work:
            # a pilot that was asked for more seeds since is not finished
            asked = planned.get("seeds")
            if asked in (None, result["cells"][0]["planned_seeds"]):
                state = "finished"
        running = [run for run in in_progress(self.folder) if run.key not in self._seen]
        return Look(about["kind"], name, self.folder, state, planned, result, ended, failed,
                    running)  # fmt: skip

    def _result(self) -> Result | None:
        """The verdict's file, if it is there, read again when it changes; a damaged one is none."""
        try:
            changed = (self.folder / RESULT).stat().st_mtime_ns
            if self._verdict[0] != changed:
                self._verdict = (changed, read_result(self.folder))
        except (OSError, StudyError):
            return None
        return self._verdict[1]


def newest(parent: Path) -> Path:
    """The folder itself if it has a store, else that of its folders whose store changed last."""
    if remembers(parent):
        return parent
    found = [(_changed(folder), folder) for folder in parent.glob("*") if remembers(folder)]
    return max(found)[1] if found else parent


def _changed(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*") if path.is_file()), default=0.0)
