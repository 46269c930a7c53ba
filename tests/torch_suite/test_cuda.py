"""On a GPU: CUDA graphs, no waiting for the device, groups on two devices, fp16 with a scaler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from by_hand import ByHand, batch, network
from torch.nn.functional import cross_entropy

import paramcast as pc
from reference import same_bits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPES = ((64, 32), (32,), ())
BASES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
    "AdamW capturable": lambda ps: torch.optim.AdamW(ps, lr=0.01, capturable=True),
    "AdamW fused": lambda ps: torch.optim.AdamW(ps, lr=0.01, capturable=True, fused=True),
}


def build(name: str, device: str = "cuda") -> tuple[list[torch.nn.Parameter], pc.PLP]:
    draw = torch.Generator().manual_seed(0)
    ps = [torch.nn.Parameter(torch.randn(s, generator=draw).to(device)) for s in SHAPES]
    return ps, pc.PLP(BASES[name](ps))


def gradients(t: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(100 + t)
    return [torch.randn(shape, generator=draw).cuda() for shape in SHAPES]


def step(ps: list[torch.nn.Parameter], optimizer: Any, grads: list[torch.Tensor]) -> None:
    for p, grad in zip(ps, grads, strict=True):
        p.grad = grad
    optimizer.step()


def warm_up(ps: list[torch.nn.Parameter], optimizer: Any) -> None:
    """Two cycles on a side stream, as torch wants it before a capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for t in range(6):
            step(ps, optimizer, gradients(t))
    torch.cuda.current_stream().wait_stream(side)


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """From its call on, an operation that waits for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("graphs", [1, 3], ids=["whole cycle", "one graph per phase"])
def test_a_captured_cycle_replays_as_it_ran(name: str, graphs: int) -> None:
    ps, optimizer = build(name)
    others, plain = build(name)
    warm_up(ps, optimizer)
    warm_up(others, plain)
    static = [gradients(0) for _ in range(3)]
    before = [p.detach().clone() for p in ps]
    captured, pool = [], torch.cuda.graph_pool_handle()
    for phases in ([0, 1, 2],) if graphs == 1 else ([0], [1], [2]):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            for phase in phases:
                step(ps, optimizer, static[phase])
        captured.append(graph)
    assert same_bits(ps, before)  # capturing runs nothing
    for cycle in range(4):
        for phase in range(3):
            grads = gradients(10 + 3 * cycle + phase)
            for held, grad in zip(static[phase], grads, strict=True):
                held.copy_(grad)
            step(others, plain, grads)
        for graph in captured:
            graph.replay()
    torch.cuda.synchronize()
    assert same_bits(ps, others)
    assert not same_bits(ps, before)


@pytest.mark.parametrize("name", BASES)
def test_no_step_waits_for_the_device(name: str, no_waiting: Callable[[], None]) -> None:
    ps, optimizer = build(name)
    grads = [gradients(t) for t in range(15)]
    for t in range(6):
        step(ps, optimizer, grads[t])
    no_waiting()
    for t in range(6, 15):
        step(ps, optimizer, grads[t])
    torch.cuda.set_sync_debug_mode("default")
    assert optimizer.last_event is not None
    assert optimizer.last_event.step == 15


def test_groups_on_two_devices_are_each_predicted_where_they_are() -> None:
    layers = torch.nn.Linear(4, 4).cuda(), torch.nn.Linear(4, 4)
    slow = torch.nn.Linear(4, 4).cuda(), torch.nn.Linear(4, 4)
    for layer, other in zip(layers, slow, strict=True):
        other.load_state_dict(layer.state_dict())

    def run(both: Any, optimizer: Any, completed: Callable[[], None]) -> None:
        for t in range(10):
            optimizer.zero_grad()
            inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(t)).cuda()
            both[1](both[0](inputs).tanh().cpu()).square().mean().backward()
            optimizer.step()
            completed()

    def base(both: Any) -> torch.optim.Optimizer:
        groups = [{"params": both[0].parameters()}, {"params": both[1].parameters(), "lr": 0.3}]
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    run(layers, pc.PLP(base(layers)), lambda: None)
    weights = [p for layer in slow for p in layer.parameters()]
    run(slow, base(slow), ByHand(weights).completed)
    ours = [p for layer in layers for p in layer.parameters()]
    torch.testing.assert_close([p.cpu() for p in ours], [p.cpu() for p in weights])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_overflowed_steps_are_skipped_and_not_counted(dtype: torch.dtype) -> None:
    def run(wrap: bool) -> tuple[list[torch.Tensor], int]:
        model = network().cuda()
        base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        optimizer = pc.PLP(base) if wrap else base
        by_hand = ByHand(list(model.parameters()))
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**19, growth_interval=4)
        done = 0
        for t in range(10):
            optimizer.zero_grad()
            inputs, targets = (each.cuda() for each in batch(t))
            with torch.autocast("cuda", dtype=dtype):
                loss = cross_entropy(model(inputs), targets)
            scaler.scale(loss).backward()
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= before:
                done += 1
                if not wrap:
                    by_hand.completed()
        counted = optimizer.state_dict()["paramcast"]["steps"] if wrap else done
        assert counted == done
        return [p.detach().cpu() for p in model.parameters()], done

    ours, theirs = run(True), run(False)
    assert ours[1] == theirs[1]
    torch.testing.assert_close(ours[0], theirs[0])
