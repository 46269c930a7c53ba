"""What the other predictors, gates, averages and monitors add to a step, each over its own floor.

    python benchmarks/family.py                    about 3 minutes on 2 cores
    python benchmarks/family.py --most 1e5 --rounds 3 --seconds 0.001 --busy        a quick look

The floor is what it computes and nothing else: the operations on tensors of one loop, recorded
on one flat parameter and called again without Python around them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import machine
import torch
from steps import COUNTED, SMALL, Loop, Still, count, parameters, stepping
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import paramcast as pc
from paramcast import anomalies, averaging, gates, monitors
from paramcast import predictors as P


class Member(NamedTuple):
    """How to wrap a base that stands still, and the steps of a loop: whole cycles."""

    make: Callable[[Sequence[Tensor]], pc.Forecast]
    steps: int


def predicting(predictor: P.Predictor) -> Member:
    return Member(lambda ps: pc.Forecast(Still(ps), predictor), predictor.every)


def with_plp(steps: int = 3, **options: Any) -> Member:
    def make(ps: Sequence[Tensor]) -> pc.Forecast:
        made = {name: value() for name, value in options.items()}
        return pc.PLP(Still(ps), total_steps=10**9, **made)

    return Member(make, steps)


FAMILY: dict[str, Member] = {
    **{
        repr(predictor): predicting(predictor)
        for predictor in (
            P.Midline(), P.Secant(), P.LeastSquares(), P.LeastSquares(5), P.Quadratic(),
            P.Interpolate(), P.OuterNesterov(every=20), P.ForwardEMA(), P.PrimalAveraging(),
            P.RRE(), P.Aitken(),
            P.SignFlipped(P.Midline()), P.RandomDirection(P.Midline()),
        )
    },
    "PLP, gate=Every(2)": with_plp(6, gate=lambda: gates.Every(2)),
    "PLP, gate=Agreement()": with_plp(gate=lambda: gates.Agreement(above=-1.0)),
    "PLP, gate=MaxRelativeJump(1)": with_plp(gate=lambda: gates.MaxRelativeJump(1.0)),
    "PLP, gate=Anomaly()": with_plp(48, gate=anomalies.Anomaly),
    "PLP, average=EMA(decay=0.999)": with_plp(average=lambda: averaging.EMA(decay=0.999)),
    "PLP, average=LAWA()": with_plp(30, average=averaging.LAWA),
    "PLP, monitors=[History()]": with_plp(48, monitors=lambda: [monitors.History()]),
    "PLP, History(scored)": with_plp(48, monitors=lambda: [monitors.History(scored=True)]),
    "PLP, shadow": with_plp(shadow=lambda: True),
}  # fmt: skip
"""By what one writes; 48 steps hold one norm of the parameters, which watching takes."""


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket.__name__ != "detach":
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def own_floor(member: Member, elements: int, device: str = "cpu") -> Loop:
    """The recorded operations of one loop on one flat parameter."""
    loop = stepping(member.make(parameters(elements, 1, device=device)), member.steps)
    loop()
    loop()
    with _Recorder() as seen:
        loop()

    @torch.no_grad()
    def again() -> None:
        for func, args, kwargs in seen.calls:
            func(*args, **kwargs)

    return again


def rows(given: argparse.Namespace) -> Iterator[list[object]]:
    for elements, tensors in (SMALL, (10**7, 8)):
        if elements > max(given.most, SMALL[0]):
            continue
        for name, member in FAMILY.items():
            yield row(given, name, member, elements, tensors)


def row(
    given: argparse.Namespace, name: str, member: Member, elements: int, tensors: int
) -> list[object]:
    ps, steps = parameters(elements, tensors), member.steps
    loop, counted = count(lambda: stepping(member.make(ps), steps), steps, 4 * elements)
    loops = {"it": loop, "base": stepping(Still(ps), steps), "floor": own_floor(member, elements)}
    took = machine.in_turn(loops, given.rounds, at_least=given.seconds)
    ms = machine.added(took["it"], took["base"], steps)
    floor = [1000 * seconds / steps for seconds in took["floor"]]
    return [
        f"{elements:.0e}", tensors, name, machine.spread(ms, ".4g"), machine.spread(floor, ".4g"),
        machine.spread(machine.quotients(ms, floor)), counted,
    ]  # fmt: skip


def main() -> None:
    parser = machine.options(__doc__)
    parser.add_argument("--most", type=float, default=1e7, help="parameters, at most")
    parser.add_argument("--seconds", type=float, default=0.02, help="one measurement lasts so long")
    given = parser.parse_args()
    machine.check_idle(busy=given.busy)
    torch.manual_seed(0)
    torch.set_num_threads(machine.cores())
    machine.heading()
    print(f"paramcast {pc.__version__}, fp32, {machine.cores()} threads, n = {given.rounds}\n")
    columns = "parameters | tensors | what | adds, ms per step | floor, ms per step | added / floor"
    machine.table(f"{columns} | {COUNTED}", rows(given))


if __name__ == "__main__":
    main()
