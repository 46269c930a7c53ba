"""One study, wherever it runs and whenever: every run and every table equal to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server
from ray_cluster import SECRET, Cluster

from paramcast.study.store.store import Store
from runs import timeless

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TASK = """
import torch
from paramcast.study import Task

def split(count, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    centres = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return centres[y] + 2 * torch.randn(count, 3, 8, 8, generator=g), y

def model():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Dropout(0.2), torch.nn.Linear(288, 4),
    )

def shake(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)

def task():
    return Task(name="images", model=model, train=split(120, 1), validation=split(80, 2),
                test=split(80, 3), epochs=2, batch_size=16, augment=shake, lr_range=(0.003, 0.1))
"""
"""A convolution, batch-norm statistics, dropout and augmentation: all that draws and remembers."""
STUDY = """
name = "same"
question = "Is it the same?"
[[grid]]
task = "images.py:task"
methods = ["plp, lookahead"]
base = ["sgd", "adamw"]
tune = {trials = 2, seeds = 2}
seeds = 4
"""
LOCAL = ("--engine", "local")


@pytest.fixture
def study(tmp_path: Path, paramcast: Any, start: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """study(out, words): run it; every run and every cell that it left."""
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "images.py").write_text(TASK)
    (tmp_path / "same.toml").write_text(STUDY)

    def run(out: str, *words: Any, place: str = "") -> dict[str, Any]:
        store = ("--store", place) if place else ()
        process = start("study", "run", "same.toml", "--out", out, *words, *store)
        _, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        return left(tmp_path / out, place)

    return run


def left(folder: Path, place: str) -> dict[str, Any]:
    with closing(Store(place or folder / "runs.db", write=False)) as store:
        query = "SELECT key, status, spec, outcome, curve FROM runs"
        rows = store.read(lambda c: c.exec_driver_sql(query).all())
    runs = {
        key: (status, *(timeless(json.loads(text)) for text in texts))
        for key, status, *texts in rows
    }
    cells = json.loads((folder / "result.json").read_text("utf-8"))["cells"]
    return {"runs": runs, "cells": timeless(cells)}


@pytest.fixture
def schemas(postgres: Server) -> Iterator[list[str]]:
    """URLs of empty schemas."""
    names = [postgres.schema() for _ in range(3)]
    yield [postgres.url(name) for name in names]
    for name in names:
        postgres.sql(f"DROP SCHEMA {name} CASCADE")


def test_engine_workers_and_store_change_nothing(
    study: Any, cluster: Cluster, schemas: list[str], tmp_path: Path
) -> None:
    # its one core is shared by two runs
    ray = ("--engine", "ray", "--address", cluster.address, "--cpus-per-run", 0.5)
    first = study("first", *LOCAL, "--workers", 1)
    assert len(first["runs"]) > 60
    assert {status for status, *_ in first["runs"].values()} == {"done"}
    assert study("again", *LOCAL, "--workers", 1) == first
    assert study("two", *LOCAL, "--workers", 2) == first
    assert study("shared", *LOCAL, "--workers", 1, place=schemas[0]) == first
    assert study("shared-two", *LOCAL, "--workers", 2, place=schemas[1]) == first
    assert study("ray", *ray, "--workers", 1) == first
    assert study("ray-two", *ray, "--workers", 2) == first
    assert study("ray-shared", *ray, "--workers", 2, place=schemas[2]) == first
    shutil.copytree(tmp_path / "two", tmp_path / "half")
    with closing(Store(tmp_path / "half" / "runs.db")) as store:
        store.write(lambda c: c.exec_driver_sql("DELETE FROM runs WHERE rowid % 2 = 0"))
    assert study("half", *ray, "--workers", 2) == first
