"""Where the time of a prediction goes, before and after a change: a picture of two profiles.

    python benchmarks/picture.py profile before.json      in a checkout of before
    python benchmarks/picture.py profile after.json       in one of after
    python benchmarks/picture.py draw before.json after.json results/profile.svg

Profiled are 30 steps of PLP over a base that stands still, 10^7 parameters in bf16, one thread. A
bar is the time in one of torch's operations alone, per step; the rest is Python and the profiler.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STEPS, SHOWN = 30, 6


def profile(out: str) -> None:
    import machine  # noqa: F401  (before torch)
    import torch
    from steps import parameters, plp, stepping

    torch.set_num_threads(1)
    loop = stepping(plp(parameters(10**7, 8, torch.bfloat16, "cpu")), STEPS)
    loop()
    start = time.perf_counter()
    loop()
    whole = 1000 * (time.perf_counter() - start) / STEPS
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        loop()
    own = {e.key: e.self_cpu_time_total / 1000 / STEPS for e in seen.key_averages()}
    Path(out).write_text(json.dumps({"whole": whole, "own": own}), "utf-8")
    print(f"{whole:.2f} ms per step")


def draw(before: str, after: str, out: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sides = {name: json.loads(Path(name).read_text("utf-8")) for name in (before, after)}
    own = [side["own"] for side in sides.values()]
    highest = {n: max(side.get(n, 0.0) for side in own) for side in own for n in side}
    names = sorted(sorted(highest, key=highest.__getitem__)[-SHOWN:], key=highest.__getitem__)
    colours = ("#b35806", "#01579b")
    with mpl.rc_context({"svg.hashsalt": "paramcast"}):
        figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
        for i, (name, side) in enumerate(sides.items()):
            places = [row + 0.2 - 0.4 * i for row in range(len(names))]
            label = f"{Path(name).stem}: {side['whole']:.1f} ms per step"
            values = [side["own"].get(n, 0.0) for n in names]
            axes.barh(places, values, 0.38, label=label, color=colours[i])
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("ms per step in the operation alone")
        axes.legend(loc="lower right")
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["profile", out]:
            profile(out)
        case ["draw", before, after, out]:
            draw(before, after, out)
        case _:
            raise SystemExit(__doc__)
