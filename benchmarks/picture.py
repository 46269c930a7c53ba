"""Where the time goes, before and after a change: a picture of two profiles.

    python benchmarks/picture.py profile before.json 20000      in a checkout of before
    python benchmarks/picture.py profile after.json 20000       in one of after
    python benchmarks/picture.py draw before.json after.json results/large-store-profile.svg

Profiled is what `paramcast study resume` does before it starts a run, for a store that holds so
many runs (benchmarks/store.py): make the specifications, ask what is missing. A bar is the time in
a function alone, as cProfile counts it, which makes calls of Python look dearer than they are; the
seconds in the legend are without it.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path

SHOWN = 12
"""Functions, of each of the two the dearest."""


def profile(out: str, number: int) -> None:
    from store import fill, resumed

    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "study.db"
        fill(place, number)
        resumed(place, number)  # imports
        start = time.perf_counter()
        resumed(place, number)
        seconds = time.perf_counter() - start
        profiler = cProfile.Profile()
        profiler.runcall(resumed, place, number)
    found = {}
    for (file, _, function), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():
        where = f"{Path(file).stem}.{function}" if file != "~" else function.strip("<>")
        found[where] = found.get(where, 0.0) + own
    told = {"runs": number, "seconds": seconds, "own": found}
    Path(out).write_text(json.dumps(told), "utf-8")
    print(f"{number:,} runs: {seconds:.2f} s")


def draw(before: str, after: str, out: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sides = {name: json.loads(Path(name).read_text("utf-8")) for name in (before, after)}
    own = [side["own"] for side in sides.values()]
    names: list[str] = []
    for side in own:
        names += sorted(side, key=side.get, reverse=True)[: SHOWN // 2]  # type: ignore[arg-type]
    names = sorted(dict.fromkeys(names), key=lambda name: own[0].get(name, 0.0))
    with mpl.rc_context({"svg.hashsalt": "paramcast", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.5), layout="constrained")
        for i, ((name, side), colour) in enumerate(
            zip(sides.items(), ("#b35806", "#01579b"), strict=True)
        ):
            label = f"{Path(name).stem}: {side['seconds']:.2f} s for {side['runs']:,} runs"
            places = [row + 0.2 - 0.4 * i for row in range(len(names))]
            values = [side["own"].get(n, 0.0) for n in names]
            axes.barh(places, values, 0.38, label=label, color=colour)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("seconds in the function alone, profiled")
        axes.legend(loc="lower right")
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["profile", out, number]:
            profile(out, int(number))
        case ["draw", before, after, out]:
            draw(before, after, out)
        case _:
            raise SystemExit(__doc__)
