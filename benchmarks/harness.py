"""What the study's harness costs: its training run against a bare loop of the same steps.

    python benchmarks/harness.py [PAIRS]

Both train the digits task for 150 steps with SGD on one thread, in turn. "training" compares the
harness's own training seconds (evaluation excluded, as it records them) with the bare loop;
"whole run" compares everything, the bare loop evaluating as often and on the same splits.
"""

import platform
import statistics
import sys
import time

import torch
from torch.nn.functional import cross_entropy

from paramcast.study.loop import evaluate, run
from paramcast.study.spec import RunSpec
from paramcast.study.tasks.source import find, load

PREPARED = load(find("digits"))
SPEC = RunSpec(
    task="digits",
    fingerprint="",
    method="base",
    base="sgd",
    lr=0.05,
    schedule="cosine",
    epochs=15,
    batch_size=32,
    share=1.0,
    phase="final",
    seed=0,
    device="cpu",
    versions="",
)


def bare(*, evaluating: bool) -> float:
    """A loop as one would write it by hand; returns its seconds."""
    inputs, targets = PREPARED.train.inputs, PREPARED.train.targets
    torch.manual_seed(0)
    start = time.perf_counter()
    model = PREPARED.task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(15):
        model.train()
        for batch in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            optimizer.step()
            scheduler.step()
        if evaluating:
            evaluate(model, PREPARED, PREPARED.validation)
    if evaluating:
        evaluate(model, PREPARED, PREPARED.test)
        evaluate(model, PREPARED, PREPARED.train)
    return time.perf_counter() - start


def main(pairs: int) -> None:
    torch.set_num_threads(1)
    bare(evaluating=True)
    run(SPEC, PREPARED)
    training, whole = [], []
    for _ in range(pairs):
        plain = bare(evaluating=False)
        training.append(run(SPEC, PREPARED)["seconds"] / plain)
        plain = bare(evaluating=True)
        start = time.perf_counter()
        run(SPEC, PREPARED)
        whole.append((time.perf_counter() - start) / plain)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one thread")
    for name, ratios in (("training", training), ("whole run", whole)):
        quarters = statistics.quantiles(ratios, n=4)
        print(
            f"{name}: harness / bare loop, median {statistics.median(ratios):.3f} "
            f"(quartiles {quarters[0]:.3f} to {quarters[2]:.3f}), n = {pairs} pairs"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
