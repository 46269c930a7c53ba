"""A debug mode: do all processes of a distributed training decide the same?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from .._checks import within
from ..errors import RankError
from ..events import ForecastEvent
from . import Monitor

SWITCH = "PARAMCAST_CHECK_RANKS"


class CheckRanks(Monitor):
    """Compare every prediction across processes; the first that differs is an error on all.

    The processes exchange their events (step, cycle, whether and why it was written, the jump's
    norm), on the CPU, in a gloo group of its own. Replicas whose parameters have drifted apart
    differ in the jump's norm long before they differ in a decision. Each prediction costs one
    exchange and, on an accelerator, a wait: use it to find a fault.

    Args:
        group: a gloo group of the processes that must agree; all of them if not given. Stages of a
            pipeline hold different parameters: give each stage the group of its replicas.
        timeout: seconds to wait for the others.
        every: compare every n-th prediction.

    Raises:
        RankError: processes decided differently, or one did not arrive in time.
        ArgumentError: timeout is outside (0, 1e6].

    Example:
        >>> check = CheckRanks()  # one process, or no torch.distributed: nothing to compare
        >>> check(ForecastEvent(3, 1, True, "predicted", 0.5, 1.0))
    """

    def __init__(self, *, group: Any = None, timeout: float = 60.0, every: int = 1) -> None:
        super().__init__(every=every)
        self.timeout = within("timeout", timeout, 0.0, 1e6, ends="(]")
        self.group = group

    def look(self, event: ForecastEvent) -> None:
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return
        # no two processes take the same time
        text = json.dumps(event._replace(milliseconds=0.0)._asdict())
        try:
            if self.group is None:
                wait = timedelta(seconds=self.timeout)
                self.group = dist.new_group(backend="gloo", timeout=wait)
            texts: list[str] = [""] * dist.get_world_size(self.group)
            dist.all_gather_object(texts, text, group=self.group)
        except RuntimeError as error:
            raise RankError(
                f"rank {dist.get_rank()} waited {self.timeout:g} s in cycle {event.cycle} (step "
                f"{event.step}) for the other processes: one counts its steps differently or has "
                "stopped; give every process the same optimizer, gate and monitors"
            ) from error
        if len(set(texts)) > 1:
            raise RankError(_difference(texts, dist.get_process_group_ranks(self.group)))

    def __deepcopy__(self, memo: dict[int, Any]) -> CheckRanks:
        return self  # a process group cannot be copied

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "group": None}


def debug_monitors() -> tuple[Monitor, ...]:
    """`CheckRanks()` where the environment has PARAMCAST_CHECK_RANKS=1, else nothing."""
    return (CheckRanks(),) if os.environ.get(SWITCH) == "1" else ()


def _difference(texts: Sequence[str], ranks: Sequence[int]) -> str:
    """Say who decided what."""
    by_text: dict[str, list[int]] = {}
    for rank, text in zip(ranks, texts, strict=True):
        by_text.setdefault(text, []).append(rank)
    rows = [
        f"{'ranks' if len(who) > 1 else 'rank'} {', '.join(map(str, who))}: {text}"
        for text, who in by_text.items()
    ]
    return (
        f"the processes decided differently: {'; '.join(rows)}; a gate, a loss or a monitor "
        "depends on one process's data, or their parameters have drifted apart"
    )
