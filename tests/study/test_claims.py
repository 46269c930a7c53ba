"""Claims on a real PostgreSQL: who gets a run, and what a lease that ran out means."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest
from postgres_server import Server
from sqlalchemy import Connection
from test_store import OUTCOME, SPEC, outcome

from paramcast.study.claims import Claims
from paramcast.study.store import Store

SPECS = {spec.key: spec for spec in (replace(SPEC, seed=i) for i in range(6))}
KEYS = list(SPECS)
FAILED = {"status": "failed", "reason": "boom"}


@pytest.fixture
def store(postgres: Server, schema: str) -> Iterator[Store]:
    with closing(Store(postgres.url(schema))) as opened:
        yield opened


@pytest.fixture
def two(store: Store) -> Iterator[tuple[Claims, Claims]]:
    """Two drivers."""
    with Claims(store) as one, Claims(store) as other:
        yield one, other


def fall_asleep(claims: Claims) -> None:
    """As if it had not been able to renew its lease."""
    claims._over.set()
    claims._heart.join()
    claims.store.write(lambda c: c.exec_driver_sql(
        f"UPDATE drivers SET expires = expires - 1000 WHERE id = '{claims.driver}'"
    ))  # fmt: skip


def test_what_one_has_claimed_the_other_does_not_get(two: tuple[Claims, Claims]) -> None:
    one, other = two
    assert one.take(KEYS, 2) == (KEYS[:2], KEYS[2:], set(), set())
    assert other.take(KEYS, 3) == (KEYS[2:5], KEYS[5:], set(), set())
    assert one.take(KEYS, 9) == (KEYS[5:], [], set(), set())
    assert other.take(KEYS, 9) == ([], [], set(), set())


def test_a_finished_run_ends_its_claim_and_is_known_to_all(
    two: tuple[Claims, Claims], store: Store
) -> None:
    one, other = two
    one.take(KEYS, 2)
    assert store.put(SPECS[KEYS[0]], OUTCOME, {}, driver=one.driver)
    assert other.take(KEYS[:2], 2) == ([], [], {KEYS[0]}, set())


def test_claims_whose_confirmation_was_lost_are_claimed_again(
    two: tuple[Claims, Claims], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    write = store.write

    def told_the_second_time(action: Callable[[Connection], Any]) -> Any:
        write(action)
        return write(action)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", told_the_second_time)
        assert one.take(KEYS, 2).claimed == KEYS[:2]
    assert other.take(KEYS, 9).claimed == KEYS[2:]


def test_claims_end_with_their_driver(store: Store) -> None:
    with Claims(store) as other:
        with contextlib.suppress(KeyboardInterrupt), Claims(store) as one:
            one.take(KEYS, 4)
            assert store.at_work() == 2
            raise KeyboardInterrupt
        assert store.at_work() == 1
        assert other.take(KEYS, 9).claimed == KEYS


def test_a_lease_is_renewed_while_its_driver_lives(store: Store) -> None:
    with Claims(store, lease=0.6) as one, Claims(store) as other:
        one.take(KEYS, 2)
        time.sleep(1.5)
        assert other.take(KEYS, 9).claimed == KEYS[2:]


def test_the_claims_of_a_dead_driver_are_taken_over(two: tuple[Claims, Claims]) -> None:
    one, other = two
    one.take(KEYS, 2)
    fall_asleep(one)
    assert other.take(KEYS, 9).claimed == KEYS
    assert one.take(KEYS, 9).claimed == []  # awake again, it respects the new claims


def test_who_slept_neither_overwrites_nor_takes_back(
    two: tuple[Claims, Claims], store: Store
) -> None:
    one, other = two
    a, b = (SPECS[key] for key in KEYS[:2])
    one.take(KEYS[:2], 2)
    fall_asleep(one)
    other.take(KEYS[:2], 2)
    assert store.put(a, outcome(2), {}, driver=other.driver)
    assert not store.put(a, outcome(1), {}, driver=one.driver)
    assert store.outcomes([a.key])[a.key]["number"] == 2
    assert store.put(b, outcome(1), {}, driver=one.driver)  # it is first here
    assert not store.put(b, outcome(2), {}, driver=other.driver)
    assert store.outcomes([b.key])[b.key]["number"] == 1
    assert one.take(KEYS[:2], 2).finished == {a.key, b.key}


def test_a_run_that_failed_twice_is_left_to_drivers_that_start_later(
    two: tuple[Claims, Claims], store: Store
) -> None:
    one, other = two
    spec = SPECS[KEYS[0]]
    one.take(KEYS[:1], 1)
    store.put_failure(spec, FAILED)
    assert other.take(KEYS[:1], 1) == ([], [], set(), set())  # it is tried once more
    store.put_failure(spec, FAILED, driver=one.driver)
    assert other.take(KEYS[:1], 1) == ([], [], set(), {spec.key})
    assert other.reason(spec.key) == FAILED
    with Claims(store) as later:
        assert later.take(KEYS[:1], 1).claimed == [spec.key]


def test_many_drivers_at_once_get_each_run_once(store: Store) -> None:
    keys = [f"k{i}" for i in range(120)]
    got: list[list[str]] = [[] for _ in range(6)]
    with ExitStack() as stack:
        drivers = [stack.enter_context(Claims(store)) for _ in got]
        start = threading.Barrier(len(drivers))

        def work(claims: Claims, mine: list[str], order: list[str]) -> None:
            start.wait()
            while True:
                look = claims.take(order, 3)
                mine += look.claimed
                if not look.claimed:
                    return

        threads = [
            threading.Thread(target=work, args=(claims, mine, keys[:: (-1) ** i]))
            for i, (claims, mine) in enumerate(zip(drivers, got, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(key for mine in got for key in mine) == sorted(keys)


def test_the_clock_is_the_databases(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with Claims(store, lease=100):
        (left,) = store.read(lambda c: c.exec_driver_sql(
            "SELECT expires - extract(epoch FROM clock_timestamp()) FROM drivers"
        )).one()  # fmt: skip
    assert 90 < left <= 100


SHIFTED = [
    "CREATE TABLE shift (seconds float)",
    "INSERT INTO shift VALUES (0)",
    "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT "
    "pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM shift))'",
]
"""A clock that can be set, found before the server's own where the search path says so."""


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_is_set_costs_double_work_at_most(
    postgres: Server, schema: str, jump: int
) -> None:
    Store(postgres.url(schema)).close()
    postgres.sql(*SHIFTED, schema=schema)
    with closing(Store(postgres.url(f"{schema},pg_catalog"))) as store, Claims(store) as dead:
        fall_asleep(dead)
        store.write(dead._renew)
        with Claims(store) as one, Claims(store) as other:
            assert dead.take(KEYS, 2).claimed == KEYS[:2]
            assert one.take(KEYS, 2).claimed == KEYS[2:4]
            assert other.take(KEYS, 9).claimed == KEYS[4:]
            postgres.sql(f"UPDATE shift SET seconds = {jump}", schema=schema)
            assert other.take(KEYS, 9).claimed == KEYS[:4]  # both leases look as if they were over
            store.write(one._renew)  # its heart beats on
            assert one.take(KEYS, 9).claimed == []
            assert store.put(SPECS[KEYS[2]], outcome(1), {}, driver=one.driver)
            assert not store.put(SPECS[KEYS[2]], outcome(2), {}, driver=other.driver)
            assert one.take(KEYS, 9).finished == {KEYS[2]}
