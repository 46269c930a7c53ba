"""How soon and how falsely detectors notice drift in shares of errors, ours and River's.

    pip install river && python benchmarks/drift_detectors.py [SEQUENCES]

Each sequence is what a run on digits-drift shows the detector, simulated: 16 independent errors per
step, whose probability falls from 0.9 to 0.05 in 17 steps at the start and after an abrupt drift at
step 60, and rises from 0.05 to 0.5 in 45 steps from step 120 on, a gradual drift.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import fmean

import torch
from river import drift

from paramcast.study.training.online.drift import PageHinkley
from paramcast.study.training.online.measures import detection

DRIFTS, STEPS, BATCH = [60, 120], 180, 16


def sequence(seed: int) -> list[list[float]]:
    """The errors of each step, 0 or 1."""
    chance = [max(0.05, 0.9 - 0.05 * t) for t in range(60)] * 2
    chance += [min(0.05 + 0.01 * t, 0.5) for t in range(60)]
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(STEPS, BATCH, generator=generator) < torch.tensor(chance)[:, None]
    errors: list[list[float]] = wrong.double().tolist()
    return errors


Update = Callable[[list[float]], bool]
"""Takes in the errors of a step; tells whether there is an alarm."""


def ours() -> Update:
    test = PageHinkley()
    return lambda errors: test.update(fmean(errors))


def river(make: Callable[[], drift.base.DriftDetector], *, each: bool) -> Callable[[], Update]:
    """A detector of River, fed with each error or with the share of each step."""

    def fresh() -> Update:
        detector = make()

        def update(errors: list[float]) -> bool:
            found = False
            for value in errors if each else [fmean(errors)]:
                detector.update(value)
                found = found or bool(detector.drift_detected)
            return found

        return update

    return fresh


DETECTORS = {
    "PageHinkley() (ours)": ours,
    "River's PageHinkley, the same settings": river(
        lambda: drift.PageHinkley(
            min_instances=10, delta=0.02, threshold=1.0, alpha=1.0, mode="up"
        ),
        each=False,
    ),
    "River's PageHinkley(), each error": river(drift.PageHinkley, each=True),
    "River's ADWIN()": river(drift.ADWIN, each=False),
    "River's ADWIN(), each error": river(drift.ADWIN, each=True),
}


def main(count: int) -> None:
    sequences = [sequence(seed) for seed in range(count)]
    print(f"{count} sequences of {STEPS} steps, drifts at {DRIFTS}\n")
    print("| detector | delay, abrupt | delay, gradual | missed, of 2 | false alarms |")
    print("|---|---|---|---|---|")
    for name, make in DETECTORS.items():
        delays: list[list[int]] = [[], []]
        found = []
        for values in sequences:
            update = make()
            alarms = [t for t, errors in enumerate(values) if update(errors)]
            found.append(detection(alarms, DRIFTS, STEPS))
            for part, start, end in zip(delays, DRIFTS, [*DRIFTS[1:], STEPS], strict=True):
                part += [a - start for a in alarms if start <= a < end][:1]
        abrupt, gradual = (f"{fmean(part):.1f}" if part else "never" for part in delays)
        missed, false = fmean(f.missed for f in found), fmean(f.false for f in found)
        print(f"| {name} | {abrupt} | {gradual} | {missed:.2f} | {false:.2f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
