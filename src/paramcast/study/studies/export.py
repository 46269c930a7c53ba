"""A study's runs and comparisons as tables: CSV or Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import StudyError
from .place import RESULT, stored

FORMATS = ("csv", "parquet")


def read_result(folder: Path) -> dict[str, Any]:
    """What study.json holds.

    Raises:
        StudyError: the study has not finished, or the file cannot be read.
    """
    path = folder / RESULT
    if not path.is_file():
        raise StudyError(
            f"{folder} has no {RESULT}: no study has finished there; "
            "see `paramcast study status`, or go on with `paramcast study resume`"
        )
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from None
    if result.get("schema") != 1:
        raise StudyError(f"{path} has schema {result.get('schema')}, this paramcast reads 1")
    return result


def comparison_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per cell and method: its value, and its differences to the base and to lr x G."""
    rows = []
    for cell in result["cells"]:
        base = cell["table"][0]
        for row in cell["table"]:
            to_base = row["to_base"] or {}
            verdict = cell["verdicts"].get(row["method"], {}).get("quality", {})
            to_matched = row["to_lr_matched"] or {}
            rows.append(
                {
                    **cell["settings"],
                    "method": row["method"],
                    "role": row["role"],
                    "method_lr": row["lr"],
                    "seeds": cell["seeds"],
                    "metric": cell["metric"]["name"],
                    "mean": row["mean"],
                    "low": row["low"],
                    "high": row["high"],
                    "top1_error": row["top1_error"],
                    "top5_error": row["top5_error"],
                    "loss": row["loss"],
                    "gap": row["gap"],
                    "diverged": row["diverged"],
                    **{f"minus_base_{k}": to_base.get(k) for k in ("mean", "low", "high", "p")},
                    **{f"minus_lr_matched_{k}": to_matched.get(k) for k in ("mean", "low", "high")},
                    "verdict": verdict.get("kind"),
                    "base_mean": base["mean"],
                    **{name: found["mean"] for name, found in row["measures"].items()},
                }
            )
    return rows


def run_rows(folder: Path, url: str | None = None) -> list[dict[str, Any]]:
    """One row per stored run: its specification and its outcome, without curves.

    Args:
        folder: of the study.
        url: of its store; None for the one that the folder has or names.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    with stored(folder, url) as store:
        return [_flat(spec, outcome) for spec, outcome in store.runs()]


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a table; the file's ending tells the format.

    Text that a spreadsheet would take for a formula is quoted with an apostrophe in CSV.

    Raises:
        StudyError: another ending, or the file cannot be written.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    partial = path.with_name(path.name + ".partial")
    try:
        if path.suffix == ".csv":
            texts = frame.select_dtypes(include=["object", "str"]).columns
            for name in texts:
                frame[name] = frame[name].map(_harmless)
            frame.to_csv(partial, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(partial, index=False)
        else:
            raise StudyError(f"{path.name} must end in .csv or .parquet")
        partial.replace(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}") from None


def _flat(spec: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    names = ("status", "reason", "steps", "seconds", "peak_memory", "train_loss", "gap")
    flat = {**spec, "probes": ", ".join(spec.get("probes", ()))}
    flat.update((name, outcome.get(name)) for name in names)
    flat.update(outcome.get("measures", {}))
    for split in ("validation", "test"):
        values = outcome.get(split) or {}
        flat.update((f"{split}_{name}", value) for name, value in values.items())
    return flat


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
