"""A user's training as the subject of a comparison."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..judging.verdict import PERCENT
from ..reading import MOST_SEEDS
from ..spec import RunSpec, axis_seed, hash_of
from ..tasks.description import Description
from ..tasks.own_file import HERE
from ..tasks.source import Source, code_hash
from ..tasks.task import Prepared, Sizes, Usual
from .declared import Declared, declare

OWN = TRIAL, COMMAND = "trial", "command"
"""The kinds of source that are a user's training."""


@dataclass(frozen=True)
class OwnTraining:
    """A function of one trial, or commands, with what is declared about its results.

    Attributes:
        source: where it comes from.
        declared: what is judged and what tunes.
        code: a hash of its code.
        function: what trains; None for commands.
    """

    source: Source
    declared: Declared
    code: str
    function: Callable[..., Any] | None = None

    @classmethod
    def of_function(cls, source: Source, function: Callable[..., Any]) -> OwnTraining:
        """A function of a file that has just been imported."""
        module = vars(sys.modules[function.__module__])
        return cls(source, declare(source, module), code_hash(source), function)

    @classmethod
    def of_commands(cls, source: Source) -> OwnTraining:
        """The commands of a source."""
        from .command import hash_of_files

        return cls(source, declare(source, {}), hash_of_files(source))

    @property
    def name(self) -> str:
        if self.source.kind == TRIAL:
            return Path(self.source.where).stem
        words = self.source.commands[0][1]
        scripts = [word for word in words if word.endswith(".py")]
        return Path((scripts or words)[0]).stem

    @property
    def wraps(self) -> bool:
        """Whether `Trial.wrap` applies its methods; else each candidate has its own command."""
        return len(self.source.commands) < 2

    @property
    def usual(self) -> Usual:
        return Usual("own", self.declared.lr_range)

    @property
    def metric_name(self) -> str:
        return self.declared.judged

    @property
    def higher_is_better(self) -> bool:
        return self.declared.higher_is_better

    @property
    def description(self) -> Description:
        d = self.declared
        facts: dict[str, Any] = {}
        if self.source.kind == TRIAL:
            own, item = self.source.where in HERE, self.source.item
            name = item if own else f"{Path(self.source.where).name}:{item}"
            facts["own_function"] = {"name": name}
        else:
            several = len(self.source.commands) > 1
            commands = [
                f"{arm}: {shlex.join(words)}" if several else shlex.join(words)
                for arm, words in self.source.commands
            ]
            facts["own_command"] = {"commands": commands}
        facts["own_results"] = {
            "metric": d.metric,
            "because": "higher" if d.higher_is_better else "lower",
        }
        if len(self.source.commands) < 2:  # commands to compare bring rates of their own
            facts["own_tunes"] = {"tune_by": d.tune_by}
        return facts

    @property
    def sizes(self) -> Sizes:
        return Sizes(test=self.declared.test_examples)

    @property
    def example_share(self) -> float:
        """What one test example is worth: in the metric's own unit if in per cent, of a mean its
        share. 0 for a ranking, and where this is not known."""
        d = self.declared
        return 1.0 / d.test_examples if d.test_examples and d.judged in PERCENT else 0.0

    @property
    def constant_value(self) -> float | None:
        """What the best constant prediction scores on test; None if there is none to compare."""
        return None

    def fingerprint(self) -> str:
        """A hash of all that determines a run beside its specification: data, code, settings."""
        d = self.declared
        judged = (d.metric, d.higher_is_better, d.tune_by, d.tune_higher)
        return hash_of([self.code, self.source.item, self.source.commands, judged])

    def steps(self, epochs: int, batch_size: int, share: float = 1.0) -> int | None:
        """The optimizer steps of a run; None because only the training knows."""
        return None

    def work(self, epochs: int, share: float) -> float:
        """A measure of how long a run takes, among those of the subject's kind."""
        return share

    def trial(self, spec: RunSpec, folder: Path) -> dict[str, Any]:
        """The arguments of the `Trial` of a run, as strict JSON."""
        return {
            # final runs have the seeds 0, 1, ..., tuning runs others
            "seed": spec.seed + (MOST_SEEDS if spec.phase == "tune" else 0),
            "lr": spec.lr,
            "share": spec.share,
            "phase": spec.phase,
            "method": spec.method,
            "device": spec.device,
            "folder": str(folder),
            "settings": dict(spec.settings),
            "noise_seed": axis_seed("control", spec.phase, spec.seed),
            "wraps": self.wraps,
        }


Subject = Prepared | OwnTraining
"""What a comparison trains: a task of ours, or a training of the user's."""
