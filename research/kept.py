"""Finished runs as rows of a CSV file that the repository keeps, so that none is trained twice.

A row holds what makes the run's key and what a verdict needs of its outcome: no curve, no counts
per class. A row whose key is no longer that of its specification is left out: code, data or torch
have changed since.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from paramcast._files import replacing
from paramcast.study.spec import DEFAULT, RunSpec
from paramcast.study.store.store import Store

LEFT_OUT = ("probes", "settings", "protocol", *DEFAULT._fields)
"""Fields that the bar's runs leave at their defaults."""
SPEC = tuple(field.name for field in fields(RunSpec) if field.name not in LEFT_OUT)
OUTCOME = (
    "status",
    "learned",
    "metric_name",
    "steps",
    "seconds",
    "peak_memory",
    "train_loss",
    "gap",
)
SPLITS = ("validation", "test")
VALUES = ("metric", "loss", "top1_error", "top5_error")
HEADER = (
    "key", *SPEC, "numerics", *OUTCOME, "divergence",
    *(f"{split}_{value}" for split in SPLITS for value in VALUES),
)  # fmt: skip
WHOLE, NUMBERS = ("epochs", "batch_size", "seed"), ("lr", "share")
OPTIONAL = ("momentum", "weight_decay", "beta2")


def row_of(spec: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """A stored run as a row; floats are written so that they are read back bitwise."""
    numerics = {name: spec[name] for name in DEFAULT._fields if name in spec}
    row = {name: spec.get(name) for name in SPEC} | {name: outcome.get(name) for name in OUTCOME}
    for split in SPLITS:
        for value in VALUES:
            row[f"{split}_{value}"] = (outcome.get(split) or {}).get(value)
    row["numerics"] = json.dumps(numerics, sort_keys=True)
    row["divergence"] = json.dumps(outcome.get("divergence"))
    row["key"] = spec_of({k: "" if v is None else str(v) for k, v in row.items()}).key
    return row


def spec_of(row: dict[str, str]) -> RunSpec:
    """The specification in a row."""
    found: dict[str, Any] = {name: row[name] for name in SPEC}
    found |= {name: int(row[name]) for name in WHOLE}
    found |= {name: float(row[name]) for name in NUMBERS}
    found |= {name: float(row[name]) if row[name] else None for name in OPTIONAL}
    return RunSpec(**found, **json.loads(row["numerics"]))


def outcome_of(row: dict[str, str]) -> dict[str, Any]:
    """The outcome in a row, as a comparison needs it."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    found: dict[str, Any] = {name: number(row[name]) for name in OUTCOME[3:]}
    found |= {"status": row["status"], "metric_name": row["metric_name"], "measures": {}}
    found |= {"steps": int(row["steps"]), "divergence": json.loads(row["divergence"])}
    if row["learned"]:
        found["learned"] = row["learned"] == "True"
    for split in SPLITS:
        values = {value: number(row[f"{split}_{value}"]) for value in VALUES}
        if values["metric"] is not None:
            found[split] = {name: value for name, value in values.items() if value is not None}
    return found


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a file; none if it is not there yet."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def restore(file: Path, store: Store) -> tuple[int, int]:
    """Put a file's rows into a store; how many it has now, and how many are of other code."""
    rows = read(file)
    specs = [(spec_of(row), row) for row in rows]
    good = [(spec, row) for spec, row in specs if spec.key == row["key"]]
    for spec, row in good:
        store.put(spec, outcome_of(row), {"kept": file.name})
    return len(good), len(rows) - len(good)


def keep(store: Store, file: Path) -> int:
    """Write a store's runs into a file, with the rows that it has already; how many there are."""
    known = {row["key"]: row for row in read(file)}
    rows: Iterable[dict[str, Any]] = (row_of(spec, outcome) for spec, outcome in store.runs())
    known |= {row["key"]: row for row in rows if row["key"] not in known}
    order = ("task", "base", "beta2", "schedule", "method", "epochs", "share", "phase")
    ordered = sorted(
        known.values(),
        key=lambda r: (*(str(r[name] or "") for name in order), float(r["lr"]), int(r["seed"])),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as binary:
        lines = [",".join(HEADER), *(_line(row) for row in ordered)]
        binary.write(("\n".join(lines) + "\n").encode())
    return len(ordered)


def _line(row: dict[str, Any]) -> str:
    cells = []
    for name in HEADER:
        text = "" if row[name] is None else str(row[name])
        quoted = '"' + text.replace('"', '""') + '"'
        cells.append(quoted if any(c in text for c in ',"\n') else text)
    return ",".join(cells)
