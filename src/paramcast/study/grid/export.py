"""A study's runs and comparisons as tables: CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..._files import replacing
from ...errors import StudyError
from ..judging.sentences import divergence
from ..judging.stats import Comparison
from ..reading import as_written
from ..sheets import harmless
from ..store.folder import reading
from ..stored import AGAIN, Result
from ..words import Words


def comparison_rows(result: Result) -> list[dict[str, Any]]:
    """One row per cell and method: its value, and its differences from the base and from lr x G."""
    rows = []
    for cell in result["cells"]:
        for row in cell["table"]:
            # the base and controls have no verdict
            verdict = cell["verdicts"].get(row["method"], {}).get("quality")
            rows.append(
                {
                    **cell["settings"],
                    "method": row["method"],
                    "role": row["role"],
                    "method_lr": row["lr"],
                    "seeds": len(row["values"]),
                    "metric": cell["metric"].name,
                    "mean": row["mean"],
                    "low": row["low"],
                    "high": row["high"],
                    "top1_error": row["top1_error"],
                    "top5_error": row["top5_error"],
                    "loss": row["loss"],
                    "gap": row["gap"],
                    "diverged": row["diverged"],
                    "median_seconds": row["seconds"],
                    "peak_memory": row["peak_memory"],
                    "early_mean": row["early_mean"],
                    **_minus("base", row["to_base"], "mean", "low", "high", "p"),
                    **_minus("lr_matched", row["to_lr_matched"], "mean", "low", "high"),
                    "verdict": verdict and verdict.kind,
                    "base_mean": cell["table"][0]["mean"],
                    **{name: found["mean"] for name, found in row["measures"].items()},
                }
            )
    return rows


def _minus(other: str, made: Comparison | None, *fields: str) -> dict[str, float | None]:
    return {f"minus_{other}_{name}": getattr(made, name, None) for name in fields}


def run_rows(folder: Path, url: str | None = None) -> list[dict[str, Any]]:
    """One row per stored run: its specification and its outcome, without curves.

    Args:
        folder: of the study.
        url: of its store; None for the store that the folder has or names.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    with reading(folder, url) as store, as_written(store.name, AGAIN):
        return [run_row(spec, outcome) for spec, outcome in store.runs()]


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a table as CSV or Parquet, by the file's ending.

    In CSV an apostrophe precedes text that a spreadsheet would take for a formula.

    Raises:
        StudyError: another ending, values that do not fit into a table, or the file cannot be
            written.
    """
    import pandas as pd

    if path.suffix not in (".csv", ".parquet"):
        raise StudyError(f"{path} must end in .csv or .parquet")
    with as_written("what the study holds", AGAIN):
        frame = pd.DataFrame(rows)
        # a spreadsheet runs formulas in cells and in headers
        if path.suffix == ".csv":
            frame.columns = [harmless(name) for name in frame.columns]
            texts = frame.select_dtypes(include=["object", "str"]).columns
            for name in texts:
                frame[name] = frame[name].map(harmless)
            # with \r\n as line end, pandas quotes a value that holds either character
            content = frame.to_csv(index=False, lineterminator="\r\n").encode()
        else:
            content = frame.to_parquet(index=False)
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}") from None


def run_row(spec: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """A run's specification and outcome in one row."""
    names = ("status", "learned", "steps", "seconds", "peak_memory", "train_loss", "gap")
    flat = {**spec, "probes": ", ".join(spec.get("probes", ()))}
    flat.update((name, outcome.get(name)) for name in names)
    flat["divergence"] = divergence(outcome, Words("en"))
    flat.update(outcome.get("measures", {}))
    # a column per split and number
    for split in ("validation", "test"):
        values = outcome.get(split) or {}
        flat.update((f"{split}_{name}", value) for name, value in values.items())
    return flat
