"""Every parser as a function of bytes: it returns, or fails with one of our own errors."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import socket
import sqlite3
import warnings
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import safetensors.torch
import torch
from odd import ODD, TENSORS, Choices, edited, spliced
from PIL import Image

import paramcast as pc
from folders import copy_of, pilot_folder, scratch, study_folder
from paramcast.cli.study import _status as status
from paramcast.errors import ParamcastError
from paramcast.integrations.checkpoint import CycleState
from paramcast.integrations.packing import pack, unpack
from paramcast.report import roi
from paramcast.report.html.write import content as report
from paramcast.report.roi.terminal import render
from paramcast.study.grid.export import comparison_rows, run_rows, write
from paramcast.study.grid.file import open_study, ready_made
from paramcast.study.own.command import PLACEHOLDERS, Events, read_command
from paramcast.study.own.declared import Declared
from paramcast.study.own.record import Record
from paramcast.study.reading import from_json
from paramcast.study.store.database import parse, without_password
from paramcast.study.store.live import DRIVER, FOLDER, driver, in_progress
from paramcast.study.store.store import Store
from paramcast.study.stored import read_result
from paramcast.study.tables.judge import judge_results
from paramcast.study.tables.options import JudgeOptions
from paramcast.study.tables.reading import read_results
from paramcast.study.tasks.builtin import choose
from paramcast.study.tasks.data.idx import read_idx
from paramcast.study.tasks.data.parquet import decode_png, read_parquet
from paramcast.study.tasks.frames import AS_IT_IS
from paramcast.study.tasks.image_folder import decode
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.task import Task, prepare
from paramcast.study.training.methods import parse_methods
from runs import run_spec

SCRATCH = scratch()


class Target(NamedTuple):
    """A parser, and inputs that it reads without an error, from which mutations start."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]] = list
    own: tuple[type[Exception], ...] = (ParamcastError,)


def run(name: str, content: bytes) -> None:
    """Feed a target; anything but an error of ours comes out."""
    with contextlib.suppress(*TARGETS[name].own):
        TARGETS[name].check(content)


def file(name: str, content: bytes) -> Path:
    path = SCRATCH / name
    path.write_bytes(content)
    return path


def text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


# --- files of text --------------------------------------------------------------------------------


def study_toml(content: bytes) -> None:
    open_study(str(file("study.toml", content)))


def roi_toml(content: bytes) -> None:
    roi.open_inputs(file("roi.toml", content))


def table(content: bytes) -> None:
    load(find(str(file("table.csv", content)), "y"))


def results(content: bytes) -> None:
    name = "results.jsonl" if content[:1] in (b"{", b"[") else "results.csv"
    judge_results(read_results(file(name, content), AS_IT_IS), JudgeOptions())


RESULTS = "model,seed,acc\n" + "".join(f"{'ab'[i % 2]}ase,{i // 2},0.{i + 80}\n" for i in range(16))
LINES = "".join(
    json.dumps({"config": {"model": m, "seed": s}, "loss": s / 3}) + "\n"
    for m in ("sgd", "b") for s in range(6)
)  # fmt: skip
CSV = "a,b,y\n" + "".join(f"{i * 37 % 50},{'uv'[i % 2]},{i % 3 // 2}\n" for i in range(40))
NUMBERS = "a,y\n" + "".join(f"{i}.5,{i * i}e-2\n" for i in range(30))


# --- data files -----------------------------------------------------------------------------------


def idx(content: bytes) -> None:
    zipped = content[:2] == b"\x1f\x8b"
    read_idx(file("x.gz" if zipped else "x", content), (2, 3))


IDX = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03abcdef"


def parquet(content: bytes) -> None:
    folder = SCRATCH / "parquet"
    folder.mkdir(exist_ok=True)
    (folder / "test-00000-of-00001.parquet").write_bytes(content)
    read_parquet(folder, "test", 3, "fine_label", 10)


def parquet_seeds() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": png(32, i), "path": f"{i}.png"} for i in range(3)]
    columns = {"img": images, "fine_label": [1, 2, 3]}
    seeds = []
    for compression, dictionary in (("none", False), ("zstd", True), ("snappy", True)):
        out = io.BytesIO()
        pq.write_table(
            pa.table(columns), out, compression=compression, use_dictionary=dictionary,
            data_page_version="2.0" if dictionary else "1.0",
        )  # fmt: skip
        seeds.append(out.getvalue())
    return seeds


def png(side: int, seed: int = 0, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    pixels = np.full((side, side, 3), 40 * seed, np.uint8)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def small_png(content: bytes) -> None:
    with contextlib.suppress(ValueError):  # its caller adds the file's name
        decode_png(content)


def image(content: bytes) -> None:
    folder = SCRATCH / "images"
    folder.mkdir(exist_ok=True)
    path = folder / "x.png"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # its caller adds the file's name
        decode(path)


def image_seeds() -> list[bytes]:
    return [png(4, 1, kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")]


# --- texts ----------------------------------------------------------------------------------------


def url(content: bytes) -> None:
    without_password(parse(text(content)))


# --- checkpoints ----------------------------------------------------------------------------------


def optimizer(*, trained: int = 0) -> tuple[torch.nn.Module, pc.PLP]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapped = pc.PLP(
        base, gate=pc.anomalies.Anomaly(), average=pc.averaging.EMA(0.9), total_steps=20
    )
    for _ in range(trained):
        step(model, wrapped)
    return model, wrapped


def step(model: torch.nn.Module, wrapped: pc.PLP) -> None:
    wrapped.zero_grad()
    loss = model(torch.ones(2, 3)).square().mean()
    loss.backward()
    wrapped.step()
    wrapped.observe(float(loss.detach()))


@cache
def saved_states() -> list[dict[str, Any]]:
    return [copy.deepcopy(optimizer(trained=n)[1].state_dict()) for n in (1, 2, 5)]


def checkpoint(content: bytes) -> None:
    """The wrapper's own entry: refused, or training goes on."""
    choices = Choices(content)
    state = copy.deepcopy(saved_states()[choices.below(3)])
    state["paramcast"] = edited(state["paramcast"], choices, ODD + TENSORS)
    model, wrapped = optimizer()
    wrapped.load_state_dict(state)
    for _ in range(4):
        step(model, wrapped)
    wrapped.state_dict()


def checkpoint_base(content: bytes) -> None:
    """The base's part."""
    choices = Choices(content)
    state = edited(saved_states()[choices.below(3)], choices, ODD + TENSORS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Casting complex values", UserWarning)  # torch's own
        optimizer()[1].load_state_dict(state)


def cycle_state(content: bytes) -> None:
    choices = Choices(content)
    saved = CycleState(*optimizer(trained=2)).state_dict()
    if choices.below(2):
        header = json.loads(bytes(saved["header"].tolist()))
        spoilt = json.dumps(edited(header, choices, JSON_ODD)).encode()
        saved["header"] = torch.tensor(list(spoilt), dtype=torch.uint8)
    saved = edited(saved, choices, ODD + TENSORS)
    if isinstance(saved, dict):
        CycleState(*optimizer()).load_state_dict(saved)


def packed(content: bytes) -> None:
    """What `pack` wrote, one byte changed and one left out; or any bytes."""
    whole = pack({"state": {0: torch.ones(2, 3)}, "lr": 0.1, "betas": (0.9, 0.99)}).tobytes()
    place = int.from_bytes(content[:2], "big") % len(whole)
    changed = whole[:place] + content[2:3] + whole[place + 1 :]
    unpack(np.frombuffer(changed if len(content) > 1 else content, np.uint8))


def combined(content: bytes) -> None:
    """A checkpoint beside a good one: of torch, of safetensors or a folder's index, changed."""
    choices = Choices(content)
    kind, other = choices.below(4), {"w": torch.ones(2, 3), "n": torch.ones(1, dtype=torch.int64)}
    folder = SCRATCH / "combined"
    folder.mkdir(exist_ok=True)
    if kind < 2:
        whole = combinable(kind)
        path = file("combined/a" + (".pt", ".safetensors")[kind], spliced(whole, choices))
    elif kind == 2:
        path = file("combined/a.pt", with_edited_pickle(combinable(0), choices))
    else:
        path = folder
        file("combined/model.safetensors", combinable(1))
        places = {"weight_map": {"w": "model.safetensors", "n": "model.safetensors"}}
        index = json.dumps(places).encode()
        file("combined/model.safetensors.index.json", spliced(index, choices))
    given = [other, path]
    for options in ({"predictor": "mean"}, {"predictor": "line", "key": "a.b"}):
        str(pc.combine(given, **options))  # type: ignore[arg-type]


@cache
def combinable(kind: int) -> bytes:
    state = {"w": torch.ones(2, 3), "n": torch.ones(1, dtype=torch.int64)}
    if kind:
        return safetensors.torch.save(state, {"step": "3"})
    out = io.BytesIO()
    torch.save({"model": state, "epoch": 3, "a": {"b": state}}, out)
    return out.getvalue()


def with_edited_pickle(whole: bytes, choices: Choices) -> bytes:
    """A file as torch.save writes it, its pickle changed and its sums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            entry = old.read(name)
            spoilt = name.endswith("data.pkl") or choices.below(4) == 1
            new.writestr(name, spliced(entry, choices) if spoilt else entry)
    return out.getvalue()


# --- what a task file returns ---------------------------------------------------------------------


class Broken:
    """A data set that lies about its length."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise KeyError(index)
        return torch.zeros(4), 0


MODELS: list[Callable[[], Any]] = [
    lambda: lambda: torch.nn.Linear(4, 3), lambda: lambda: None, lambda: lambda: 1 / 0,
    lambda: torch.nn.Identity, lambda: Broken(), lambda: lambda x, y=None: 0.5,
    lambda: (torch.zeros(3, 4), torch.zeros(3).long()), lambda: (torch.zeros(3, 4), [0, 1, 10**9]),
    lambda: (torch.zeros(3, 4).bool(), torch.zeros(3).bool()), lambda: "accuracy", lambda: "mse",
    lambda: (np.zeros((3, 4)), np.array(["a", "b", "c"])), lambda: (range(3), range(3)),
    lambda: [(torch.zeros(4), 0)] * 3, lambda: (torch.zeros(3, 4), torch.zeros(3, 1)),
]  # fmt: skip


def task(content: bytes) -> None:
    choices = Choices(content)
    split = (torch.zeros(6, 4), torch.arange(6) % 3)
    fields: dict[str, Any] = {
        "name": "t", "model": lambda: torch.nn.Linear(4, 3), "train": split, "validation": split,
        "test": split, "loss": torch.nn.functional.cross_entropy, "metric": "accuracy",
        "higher_is_better": True, "epochs": 2, "batch_size": 2, "schedule": "cosine", "base": "sgd",
        "momentum": 0.9, "weight_decay": 0.0, "lr_range": (0.1, 1.0), "augment": None,
        "stream": None,
    }  # fmt: skip
    pool = ODD + TENSORS + MODELS
    for _ in range(1 + choices.below(2)):
        name = list(fields)[choices.below(len(fields))]
        fields[name] = pool[choices.below(len(pool))]()
    prepare(Task(**fields) if choices.below(10) else pool[choices.below(len(pool))]())


# --- stores and results ---------------------------------------------------------------------------

JSON_ODD = [make for make in ODD if not isinstance(make(), int) or abs(make()) < 10**400]


def fresh(folder: Path) -> Path:
    return copy_of(folder, SCRATCH / "copy")


def spoil_result(path: Path, choices: Choices) -> None:
    spoilt = edited(json.loads(path.read_text()), choices, JSON_ODD)
    path.write_text(json.dumps(spoilt))


def spoil_rows(path: Path, choices: Choices) -> None:
    """Change the JSON, or the whole value, of a column in one row or all."""
    columns = (("runs", "spec"), ("runs", "outcome"), ("runs", "curve"), ("about", "value"),
               ("runs", "finished_at"), ("runs", "key"))  # fmt: skip
    name, column = columns[choices.below(len(columns))]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(f"SELECT rowid, {column} FROM {name} ORDER BY rowid").fetchall()
        for rowid, value in rows if choices.below(2) else [rows[choices.below(len(rows))]]:
            new = RAW[choices.below(len(RAW))] if choices.below(4) == 1 else None
            with contextlib.suppress(ValueError, TypeError):
                new = json.dumps(edited(json.loads(value), choices, JSON_ODD))
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(f"UPDATE {name} SET {column} = ? WHERE rowid = ?", (new, rowid))


RAW = [None, 7, 0.5, b"\xff\xfe", "", "{", "null", "[" * 100_000, "1e999", "NaN", "9" * 5000]


def each(*readers: Callable[[], Any]) -> None:
    """Every reader is tried, whatever the ones before it said."""
    for read in readers:
        with contextlib.suppress(ParamcastError):
            read()


def results_of(kind: str, spoil: Callable[[Path, Choices], None], content: bytes) -> None:
    """A pilot's or study's spoilt result.json or runs.db: reported, exported, counted."""
    choices = Choices(content)
    folder = fresh(pilot_folder() if kind == "pilot" else study_folder())
    spoil(folder / ("runs.db" if spoil is spoil_rows else "result.json"), choices)
    readers: list[Callable[[], Any]] = [
        lambda: report(folder, "ja", "html"),
        lambda: report(folder, "en", "md"),
        lambda: render(roi.summary(roi.read(folder), roi.defaults()), full=True),
    ]
    if kind == "study":
        ending = ("csv", "parquet")[choices.below(2)]
        readers = [
            lambda: report(folder, "en", "html"),
            lambda: write(comparison_rows(read_result(folder, "study")), folder / f"x.{ending}"),
            lambda: write(run_rows(folder), folder / f"x.{ending}"),
            lambda: status(folder),
        ]
    each(readers[choices.below(len(readers))])


def trial_events(content: bytes) -> None:
    """What a command tells of its run, line by line, and what it prints last."""
    declared = Declared("accuracy", True, "validation_loss", False)
    record = Record(run_spec(), declared, None)
    journal = file("trial.jsonl", content)
    Events(journal, record).read()
    outcome = record.outcome(record.results, 1.0, 0, wraps=False)
    json.dumps(outcome, allow_nan=False)


def command(content: bytes) -> None:
    words = read_command(text(content), "it")
    values = dict.fromkeys(PLACEHOLDERS, "x")
    [word.format(**values) for word in words]


def live(content: bytes) -> None:
    """What drivers tell of their runs; whatever is wrong with it is passed over."""
    choices = Choices(content)
    folder = scratch() / "live" / FOLDER / "host-1"
    folder.mkdir(parents=True, exist_ok=True)
    me = psutil.Process()
    about = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
    if choices.below(2):
        about = edited(about, choices, JSON_ODD)
    (folder / DRIVER).write_text(json.dumps(about))
    head = edited({"spec": {"method": "plp"}, "steps": 3}, choices, JSON_ODD)
    point = edited({"step": 1, "validation_loss": 0.5}, choices, JSON_ODD)
    text = spliced(f"{json.dumps(head)}\n{json.dumps(point)}\n".encode(), choices)
    (folder / "key.jsonl").write_bytes(text)
    driver(scratch() / "live")
    list(in_progress(scratch() / "live"))


def database(content: bytes) -> None:
    """A damaged SQLite file, read and opened to write."""
    for write_too in (False, True):
        path = file("damaged.db", content)
        for log in ("-wal", "-shm"):
            path.with_name(path.name + log).unlink(missing_ok=True)
        with (
            contextlib.suppress(ParamcastError),
            contextlib.closing(Store(path, write=write_too)) as store,
        ):
            each(store.runs, store.counts, store.looks, lambda: store.about("pilot"),
                 lambda: store.curves(["x"]))  # fmt: skip


def database_seeds() -> list[bytes]:
    path = fresh(pilot_folder()) / "runs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM runs WHERE rowid > 2")
        connection.commit()
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("VACUUM")
    return [path.read_bytes()]


EVENTS = b"""{"used": "seed"}
{"steps": 10}
{"point": {"step": 1, "seconds": 0.5, "train_loss": 1.5}}
{"diverged": {"how": "step", "step": 2}}
{"stepped": 10}
{"done": {"validation_loss": 0.5, "accuracy": NaN}}
"""
TARGETS: dict[str, Target] = {
    "study-toml": Target(study_toml, lambda: [each.encode() for each in ready_made().values()]),
    "roi-toml": Target(roi_toml, lambda: [roi.template().encode()]),
    "table": Target(table, lambda: [CSV.encode(), NUMBERS.encode()]),
    "results": Target(results, lambda: [RESULTS.encode(), LINES.encode()]),
    "idx": Target(idx, lambda: [IDX, gzip.compress(IDX)]),
    "parquet": Target(parquet, parquet_seeds),
    "small-png": Target(small_png, lambda: [png(32)]),
    "image": Target(image, image_seeds),
    "methods": Target(
        lambda content: parse_methods(text(content)) and None,
        lambda: [b"plp, plp(horizon=0.5), lookahead(every=5, alpha=0.8)", b"lawa(last=3)"],
    ),
    "task-name": Target(lambda c: choose(text(c)) and None, lambda: [b"fashion/cnn@10000"]),
    "store-url": Target(
        url, lambda: [b"postgresql://u:p@h:5432/db?options=-csearch_path%3Da&sslmode=require"]
    ),
    "json": Target(
        lambda c: from_json(text(c)), lambda: [b'{"a": [1, 2.5, "\\u00e9", null]}'], (ValueError,)
    ),
    "database": Target(database, database_seeds),
    "checkpoint": Target(checkpoint),
    "checkpoint-base": Target(checkpoint_base),
    "cycle-state": Target(cycle_state),
    "packed-state": Target(packed),
    "combined": Target(combined),
    "live": Target(live),
    "trial-events": Target(trial_events, lambda: [EVENTS]),
    "command": Target(command, lambda: [b"torchrun a.py --lr={lr} '--x {seed}' {{}}"]),
    "task": Target(task),
    "pilot-results": Target(partial(results_of, "pilot", spoil_result)),
    "pilot-rows": Target(partial(results_of, "pilot", spoil_rows)),
    "study-results": Target(partial(results_of, "study", spoil_result)),
    "study-rows": Target(partial(results_of, "study", spoil_rows)),
}


@cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    return tuple(TARGETS[name].seeds())


def mutated(name: str, content: bytes) -> bytes:
    """Bytes for a target: edits of a seed where it has some, else the bytes themselves."""
    seeds, choices = seeds_of(name), Choices(content)
    return spliced(seeds[choices.below(len(seeds))], choices) if seeds else content
