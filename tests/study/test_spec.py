"""A run's key names everything that determines it; seeds differ by axis."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import pytest

from paramcast.study.spec import RunSpec, axis_seed, hash_of

SPEC = RunSpec(
    task="digits", fingerprint="f", method="plp", base="sgd", lr=0.1, schedule="cosine",
    epochs=15, batch_size=32, share=1.0, phase="final", seed=0, device="cpu", versions="v",
    protocol=1,
)  # fmt: skip
OTHER = {type(None): 0.5, tuple: ("jumps",)}


def test_the_key_is_stable() -> None:
    # Were it to change, every stored run would be lost.
    assert SPEC.key == "1519557e6727e5ae4b6707cf452ed23142ab64cc58b19bdd71d464f5b7fd123d"
    assert replace(SPEC).key == SPEC.key


def test_the_key_changes_with_every_field() -> None:
    values = {f.name: getattr(SPEC, f.name) for f in fields(SPEC)}
    changed = [
        replace(SPEC, **{name: OTHER.get(type(value)) or value + type(value)(1)})
        for name, value in values.items()
    ]
    keys = {spec.key for spec in (SPEC, *changed)}
    assert len(keys) == 1 + len(fields(SPEC))
    assert replace(SPEC, lr=math.nextafter(0.1, 1.0)).key != SPEC.key


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_of({"a": 1, "b": [2.5]}) == hash_of({"b": [2.5], "a": 1})
    assert hash_of([1, 2]) != hash_of([2, 1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_of(float("nan"))


AXES = ("order", "initialisation", "dropout", "control", "augmentation")


def test_seeds_differ_by_axis_phase_and_index() -> None:
    every = list(itertools.product(AXES, ("tune", "final"), range(100)))
    seeds = [axis_seed(*each) for each in every]
    assert len(set(seeds)) == len(every)
    assert all(0 <= seed < 2**63 for seed in seeds)  # what torch.manual_seed takes
    assert seeds == [axis_seed(*each) for each in every]
