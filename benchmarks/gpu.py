"""Images per second of training steps on a GPU, and what they make of the paper's table.

    python benchmarks/gpu.py [--device cuda|cpu] [--networks vgg16 resnet18 googlenet]
        [--ways WAY ...] [--at-once 1 2 4] [--batch-size 128] [--seconds 3] [--arms 4]

A step is what a run of the study does with PLP: 32x32 images picked from 40,000 on the device, crop
and flip, forward, backward, SGD with momentum, prediction. The images are noise: speed does not
depend on them. Each way is measured for so many seconds after its first steps, in which it compiles
and chooses algorithms; several runs at once are processes of their own that start together. The
matrix peak is that of one large product in the same number format. With the defaults it takes
about 6 minutes, most of it compiling; rows are printed as they come.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from paramcast.study.spec import RunSpec
from paramcast.study.tasks.networks import IMAGES
from paramcast.study.tasks.task import Task
from paramcast.study.tasks.vision import crop_and_flip
from paramcast.study.training import precision
from paramcast.study.training.build import build
from paramcast.study.training.precision import Computation, arithmetic, outputs

TRAIN, VALIDATION, EPOCHS, SEEDS, CLASSES = 40_000, 10_000, 100, 10, 100
FIRST_STEPS = 12


@dataclass(frozen=True)
class Way:
    """One way to compute a step."""

    precision: str = "float32"
    compiled: bool = False
    channels_last: bool = False
    tf32: bool = False
    mode: str | None = None


WAYS = {
    "float32": Way(),
    "TF32": Way(tf32=True),
    "bfloat16": Way("bfloat16"),
    "bfloat16, channels-last": Way("bfloat16", channels_last=True),
    "bfloat16, compiled": Way("bfloat16", compiled=True),
    "usual": Way("bfloat16", compiled=True, channels_last=True),
    "usual, CUDA graphs": Way("bfloat16", True, True, mode="reduce-overhead"),
}
"""By name; "usual" is what `--device cuda` does in a study."""
EAGER = ("float32", "bfloat16", "bfloat16, channels-last")


@dataclass(frozen=True)
class Setting:
    """What one process measures."""

    network: str
    way: str
    device: str
    batch_size: int
    seconds: float


def main(words: list[str]) -> None:
    given = read(words)
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/gpu.py", *words])
    print(f"`{command}`\n\n{hardware(given.device)}\n")
    peaks = {kind: matrix_peak(kind, given.device) for kind in kinds(given.ways)}
    for kind, peak in peaks.items():
        print(f"Matrix peak in {kind}: {peak / 1e12:.3g} TFLOP/s")
    print(
        f"\nBatch size {given.batch_size}, {given.seconds:g} s each.\n\n"
        "| network | GFLOP per image | way | at once | images/s | share of peak | peak memory, MB "
        "| evaluated images/s | first steps, s |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    fastest: dict[str, dict[str, Any]] = {}
    for network in given.networks:
        flops = training_flops(network)
        several = [(given.ways[-1], n) for n in given.at_once if n > 1]
        for way, together in [*((way, 1) for way in given.ways), *several]:
            setting = Setting(network, way, given.device, given.batch_size, given.seconds)
            start = f"| {network} | {flops / 1e9:.2f} | {way} | {together} |"
            try:
                found = measure_together(setting, together)
            except Exception as error:  # the other rows are worth having
                print(f"{start} failed: {type(error).__name__}: {str(error).splitlines()[:1]} |")
                continue
            share = flops * found["rate"] / peaks[kind_of(way)]
            print(
                f"{start} {found['rate']:,.0f} | {share:.1%} | {found['memory'] / 1e6:,.0f} | "
                f"{found['evaluated']:,.0f} | {found['first']:.1f} |",
                flush=True,
            )
            if found["rate"] > fastest.get(network, {"rate": 0})["rate"]:
                fastest[network] = {**found, "flops": flops, "how": f"{way}, {together} at once"}
    print("\n" + table_hours(fastest, max(peaks.values()), given.arms))


def read(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--networks", nargs="+", default=["vgg16", "resnet18", "googlenet"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--arms", type=int, default=4, help="base, lr x G, PLP, DEMON")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is there; use --device cpu")
    if unknown := set(given.networks) - set(IMAGES):
        parser.error(f"no network {', '.join(sorted(unknown))}; there is {', '.join(IMAGES)}")
    if given.ways is None:  # the usual way last: it is also measured several at once
        every = ["usual, CUDA graphs", *(w for w in WAYS if w != "usual, CUDA graphs")]
        given.ways = every if given.device == "cuda" else list(EAGER)
    return given


def hardware(device: str) -> str:
    name = platform.processor() or platform.machine()
    if device == "cuda":
        name = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, "
        name += f"cuDNN {torch.backends.cudnn.version()}"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def kind_of(way: str) -> str:
    return "TF32" if WAYS[way].tf32 else WAYS[way].precision


def kinds(ways: list[str]) -> list[str]:
    return list(dict.fromkeys(kind_of(way) for way in ways))


def matrix_peak(kind: str, device: str) -> float:
    """FLOP per second of a large matrix product, the best of several seconds' parts."""
    size = 8192 if device == "cuda" else 512
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    with arithmetic(device, tf32=kind == "TF32"):
        torch.mm(a, b)
        for _ in range(5):
            start = clock(device)
            for _ in range(10):
                torch.mm(a, b)
            best = max(best, 10 * 2 * size**3 / (clock(device) - start))
    return best


def training_flops(network: str) -> float:
    """Floating-point operations of forward and backward pass per image, counted by torch."""
    model = IMAGES[network].make(channels=3, classes=CLASSES, size=32).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()
    return counter.get_total_flops() / 2


def measure_together(setting: Setting, together: int) -> dict[str, float]:
    """Rates of so many processes, added up; the memory of one."""
    if together == 1:
        found = [measure(setting)]
    else:
        context = multiprocessing.get_context("spawn")
        barrier, queue = context.Barrier(together), context.SimpleQueue()
        processes = [
            context.Process(target=measure_in_process, args=(setting, barrier, queue))
            for _ in range(together)
        ]
        for process in processes:
            process.start()
        found = [queue.get() for _ in processes]
        for process in processes:
            process.join()
        if failed := [each["error"] for each in found if "error" in each]:
            raise RuntimeError(failed[0])
    return {
        "rate": sum(each["rate"] for each in found),
        "evaluated": sum(each["evaluated"] for each in found),
        "memory": max(each["memory"] for each in found),
        "first": max(each["first"] for each in found),
    }


def measure_in_process(setting: Setting, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    try:
        queue.put(measure(setting, barrier.wait))
    except Exception as error:
        barrier.abort()
        queue.put({"error": f"{type(error).__name__}: {error}"})


def measure(setting: Setting, ready: Callable[[], Any] = lambda: None) -> dict[str, float]:
    """Images per second of training and of evaluation, bytes at the peak, seconds to begin."""
    device, way = setting.device, WAYS[setting.way]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with arithmetic(device, tf32=way.tf32):
        start = clock(device)
        step, evaluate = make_run(setting, way)
        for _ in range(FIRST_STEPS if device == "cuda" else 1):
            step()
        first = clock(device) - start
        ready()
        rate = setting.batch_size * per_second(step, setting.seconds, device)
        evaluated = evaluate(2048 if device == "cuda" else setting.batch_size)
    found = {"rate": rate, "evaluated": evaluated, "memory": peak_memory(device), "first": first}
    del step, evaluate
    forget(device)
    return found


def peak_memory(device: str) -> int:
    """Bytes at the peak: allocated on the GPU, else resident in this process so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget(device: str) -> None:
    """Compiled code, recorded graphs and their memory."""
    precision._compiled.cache_clear()
    torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def make_run(setting: Setting, way: Way) -> tuple[Callable[[], None], Callable[[int], float]]:
    """A training step, and a function that measures the evaluation of so many images."""
    device, size = setting.device, setting.batch_size
    count = TRAIN if device == "cuda" else 4 * size
    images = torch.randn(count, 3, 32, 32, device=device)
    labels = torch.randint(0, CLASSES, (count,), device=device)
    task = Task(
        "benchmark",
        lambda: IMAGES[setting.network].make(channels=3, classes=CLASSES, size=32),
        (images, labels), (images, labels), (images, labels),
    )  # fmt: skip
    spec = RunSpec(
        task="", fingerprint="", method="plp", base="sgd", lr=0.001, schedule="constant", epochs=1,
        batch_size=size, share=1.0, phase="final", seed=0, device=device, versions="",
        precision=way.precision, compiled=way.compiled, channels_last=way.channels_last,
    )  # fmt: skip
    model = task.model().to(device)
    computation = Computation(spec, task, model, mode=way.mode)
    optimizer = build(task, "sgd", "plp", model, spec.lr, steps=1000, noise_seed=0)
    draw = torch.Generator(device).manual_seed(0)
    batches = torch.randperm(count, device=device).split(size)
    turn = 0

    def step() -> None:
        nonlocal turn
        batch = batches[turn % (count // size)]
        turn += 1
        if way.mode:
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        computation.loss(crop_and_flip(images[batch], draw), labels[batch]).backward()
        optimizer.step()

    def evaluate(many: int) -> float:
        model.eval()
        few = images[:many]
        with torch.inference_mode():
            outputs(model, few, computation.numerics)  # chooses algorithms
            rate = per_second(lambda: outputs(model, few, computation.numerics), 0.5, device)
        return len(few) * rate

    return step, evaluate


def per_second(do: Callable[[], Any], seconds: float, device: str) -> float:
    """How often it can be done in a second; the device is waited for every few times."""
    count, start = 0, clock(device)
    while True:
        for _ in range(20 if device == "cuda" else 1):
            do()
            count += 1
        elapsed = clock(device) - start
        if elapsed >= seconds:
            return count / elapsed


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def table_hours(fastest: dict[str, dict[str, Any]], peak: float, arms: int) -> str:
    """How long the paper's table takes at these rates, and at least."""
    runs = arms * SEEDS * EPOCHS
    training = sum(runs * TRAIN / each["rate"] for each in fastest.values())
    evaluating = sum(runs * VALIDATION / each["evaluated"] for each in fastest.values())
    least = sum(runs * TRAIN * each["flops"] / peak for each in fastest.values())
    ways = "; ".join(f"{name}: {each['how']}" for name, each in fastest.items())
    return (
        f"The paper's table for {', '.join(fastest)} ({arms} arms x {SEEDS} seeds x {EPOCHS} "
        f"epochs of {TRAIN:,} images): training {training / 3600:.2f} h, evaluation after each "
        f"epoch {evaluating / 3600:.2f} h, together {(training + evaluating) / 3600:.2f} h "
        f"(fastest: {ways}). At the whole matrix peak training alone would take "
        f"{least / 3600:.2f} h."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
