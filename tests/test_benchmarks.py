"""The benchmarks start and count right: counts are exact, times are only bounded widely."""

from __future__ import annotations

import importlib
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import family  # noqa: E402
import machine  # noqa: E402
import steps  # noqa: E402


def run(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(BENCHMARKS / name), *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_gpu_measures_a_small_network_on_a_cpu_alone_and_two_at_once() -> None:
    out = run(
        "gpu.py", "--device", "cpu", "--networks", "resnet8", "--batch-size", "4",
        "--seconds", "0.3", "--ways", "bfloat16, channels-last", "float32", "--at-once", "1", "2",
    )  # fmt: skip
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| resnet8")]
    assert [row[2:4] for row in rows] == [
        ["bfloat16, channels-last", "1"], ["float32", "1"], ["float32", "2"],
    ]  # fmt: skip
    assert all(float(row[4].replace(",", "")) > 0 for row in rows)
    # of ResNet8: the first convolution has no gradient for its inputs
    assert 0.05 < float(rows[0][1]) < 0.1
    hours = re.search(r"training ([\d.]+) h, evaluation after each epoch ([\d.]+) h", out)
    best = max(float(row[4].replace(",", "")) for row in rows)
    assert float(hours.group(1)) == pytest.approx(4 * 10 * 100 * 40_000 / best / 3600, rel=0.02)


def test_gpu_needs_a_gpu_unless_told_otherwise() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--networks", "vgg17", "--device", "cpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no network vgg17; there is cnn, cnn-wide, mlp, resnet8" in done.stderr


def test_alarms_watches_without_touching_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    alarms = importlib.import_module("alarms")
    events, fired, accuracy = alarms.run("digits", 0.095, 0, shadow=True)
    assert len(events) == 15 * 10 // 3  # epochs x steps
    assert not any(event.applied for event in events)
    assert fired.count("jump") == sum(event.relative_jump > 0.002 for event in events)
    assert 90 < accuracy < 100
    cells = alarms.row([(events, fired, accuracy)]).split(" | ")
    assert cells[1] == f"{2 * fired.count('jump')} %"
    assert len(cells) == 9


# --- what the wrapper adds to a step --------------------------------------------------------------

SIZE = 4 * 6400  # bytes of what is counted on


def counted(make, number):
    return steps.count(make, number, SIZE)[1]


def test_plp_makes_five_operations_and_nine_transfers_per_cycle_and_holds_one_buffer():
    ps = steps.parameters(6400, 10)
    found = counted(lambda: steps.stepping(steps.plp(ps), 3), 3)
    assert round(3 * found.operations) == 5  # copy, subtract, norm, its reading, add
    assert round(3 * found.transfers * SIZE) == 9 * SIZE + 8  # the norm is written and read
    assert round(found.memory * SIZE) == SIZE + 8  # the norms of two cycles
    assert found.allocated == 4


@pytest.mark.parametrize(
    ("name", "transfers", "memory"),
    [
        ("textbook PLP, three clones", 8, 3),
        ("pytorch_optimizer.Lookahead", 1, 1),
        ("torch_ema", 8, 1),
        ("ema_pytorch, foreach", 3, 1),
        ("swa_utils.AveragedModel, EMA", 3, 1),
    ],
)
def test_what_peers_move_and_hold(name, transfers, memory):
    ps = steps.parameters(6400, 10)
    found = counted(steps.peers(ps, 15)[name], 15)
    assert transfers <= found.transfers < transfers + 0.01
    assert memory <= found.memory < memory + 1


@pytest.mark.parametrize("name", family.FAMILY)
def test_the_floor_of_each_of_the_family_makes_its_operations(name):
    member = family.FAMILY[name]
    ps = steps.parameters(640, 1)
    ours = counted(lambda: steps.stepping(member.make(ps), member.steps), member.steps)
    floor = counted(lambda: family.own_floor(member, 640), member.steps)
    assert floor.operations == pytest.approx(ours.operations, rel=0.1)


def test_a_cycle_of_plp_takes_not_many_times_its_floor():
    ps = steps.parameters(10**6, 8)
    pair = steps.FlatPair(10**6, ps[0].dtype)
    loops = {"PLP": steps.stepping(steps.plp(ps), 3), "floor": pair.cycle}
    took = machine.in_turn(loops, 7, clock=time.process_time)
    assert statistics.median(machine.quotients(took["PLP"], took["floor"])) < 5


def test_a_peer_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_ema", None)
    with pytest.raises(SystemExit, match=r"torch_ema is not installed.*'\.\[bench\]'"):
        steps.peer("torch_ema")


def test_a_busy_machine_is_refused_unless_told_otherwise(monkeypatch, capsys):
    monkeypatch.setattr(machine.psutil, "cpu_percent", lambda _: 50.0)
    with pytest.raises(SystemExit, match=r"50 % of .* no timing would mean anything"):
        machine.check_idle(busy=False)
    machine.check_idle(busy=True)
    assert "Measured on a busy machine: 50 % of" in capsys.readouterr().out
    monkeypatch.setattr(machine.psutil, "cpu_percent", lambda _: 3.0)
    machine.check_idle(busy=False)
    assert capsys.readouterr().out == ""


def test_everything_takes_its_turn_in_each_round():
    calls = []
    loops = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    took = machine.in_turn(loops, 20)
    assert {name: len(seconds) for name, seconds in took.items()} == {"a": 20, "b": 20, "c": 20}
    rounds = [tuple(calls[i : i + 3]) for i in range(9, len(calls), 3)]  # after warming up
    assert {tuple(sorted(each)) for each in rounds} == {("a", "b", "c")}
    assert len(set(rounds)) > 3


@pytest.mark.ci
def test_the_overhead_benchmark_prints_its_table():
    out = run(
        "overhead.py", "--busy", "--tables", "floor", "--most", "1e4", "--rounds", "3",
        "--seconds", "0.0001",
    )  # fmt: skip
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| 1e+04")]
    number = len({1, machine.cores()})
    assert len(rows) == 2 * 2 * number
    transfers = {row[1]: row[9] for row in rows}
    assert transfers == {"8": "3.00", "1000": "4.33"}  # two gatherings, within the cache


@pytest.mark.ci
def test_trial_measures_a_function_and_a_command() -> None:
    out = run("trial.py", "--seconds", "0.2", "--pairs", "3")
    function, command = re.findall(r"judged ([\d.]+) s, added [-+][\d.]+ ms", out)
    assert float(function) > 0.05
    assert float(command) > 0.01
