"""The debug mode: a process that decides otherwise is named, by all."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn

import paramcast as pc
from paramcast.errors import ArgumentError, RankError
from paramcast.events import Decision, Proposal
from paramcast.monitors.ranks import SWITCH, CheckRanks, debug_monitors
from training import Net, train
from two_processes import Ranks, on_ranks


class Refuses(pc.gates.Gate):
    """One rank writes from a cycle on, the other does not."""

    def __init__(self, refuses: bool, since: int) -> None:
        self.refuses, self.since = refuses, since

    def decide(self, proposal: Proposal) -> Decision:
        return Decision(not self.refuses or proposal.cycle < self.since, "a whim")


def start(gate: pc.gates.Gate | None = None, timeout: float = 20.0) -> tuple[nn.Module, pc.PLP]:
    model = Net()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, pc.PLP(base, gate=gate, monitors=[CheckRanks(timeout=timeout)])


@on_ranks
def test_processes_that_decide_alike_pass(ranks: Ranks) -> None:
    model, optimizer = start(pc.gates.Every(2))
    train(model, optimizer, range(9))
    assert optimizer.last_event.cycle == 3


@on_ranks
def test_a_process_that_decides_otherwise_is_named_by_all(ranks: Ranks) -> None:
    model, optimizer = start(Refuses(ranks.rank == 1, since=3))
    train(model, optimizer, range(6))
    with pytest.raises(RankError, match=r'rank 0: .*"applied": true.*rank 1: .*"applied": false'):
        train(model, optimizer, range(6, 9))


@on_ranks
def test_parameters_that_have_drifted_apart_are_noticed(ranks: Ranks) -> None:
    model, optimizer = start()
    train(model, optimizer, range(3))
    with torch.no_grad():
        model.up.weight[0, 0] += 1e-3 * ranks.rank
    with pytest.raises(RankError, match="drifted apart"):
        train(model, optimizer, range(3, 6))


@on_ranks
def test_a_process_that_counts_otherwise_is_noticed_in_time(ranks: Ranks) -> None:
    model, optimizer = start(timeout=2.0)
    train(model, optimizer, range(3))  # both: the group is made
    if ranks.rank == 0:
        with pytest.raises(RankError, match="waited 2 s in cycle 2"):
            train(model, optimizer, range(3, 6))
    else:
        train(model, optimizer, range(3, 5))
        time.sleep(3)


@on_ranks
def test_it_can_compare_some_processes_only(ranks: Ranks) -> None:
    groups = [dist.new_group([rank], backend="gloo") for rank in range(ranks.world)]
    check = CheckRanks(group=groups[ranks.rank])
    check(pc.ForecastEvent(3, 1, True, f"rank {ranks.rank} alone", 0.5, 1.0))


def test_alone_there_is_nothing_to_compare() -> None:
    model, optimizer = start()
    train(model, optimizer, range(6))
    assert optimizer.last_event.cycle == 2


def test_copies_do_without_the_group() -> None:
    check = CheckRanks(timeout=7.0)
    assert copy.deepcopy(check) is check
    check.group = object()
    restored = pickle.loads(pickle.dumps(check))
    assert (restored.group, restored.timeout) == (None, 7.0)


def test_a_timeout_is_a_number_above_zero() -> None:
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="timeout"):
            CheckRanks(timeout=bad)


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("0", 0), (None, 0)])
def test_the_environment_switches_it_on(
    monkeypatch: pytest.MonkeyPatch, value: str | None, count: int
) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    assert len(debug_monitors()) == count
    optimizer = pc.PLP(torch.optim.SGD(Net().parameters(), lr=0.1))
    assert sum(isinstance(m, CheckRanks) for m in optimizer._settings.monitors) == count
