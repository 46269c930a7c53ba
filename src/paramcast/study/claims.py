"""Several drivers on one store: who runs what. Nobody runs what another one has claimed.

A driver has a lease, which a thread renews; while it lasts, its claims hold. A driver that dies
renews no more: when the lease has run out others take its claims over. A driver that only slept
goes on; the first result of a run is the one that is kept. All times are the database's, and if its
clock is set, runs may be run twice, but none waits longer than a lease.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from ..errors import StoreError
from .engines import ATTEMPTS, Finished, Job
from .store import Store
from .tables import claims, clock, drivers, failures

LEASE = 60.0
POLL = 1.0  # seconds between two looks for what others left
WINDOW = 100  # keys looked at in one transaction


class Look(NamedTuple):
    """What a driver found out about some keys; those in no list are with other drivers."""

    claimed: list[str]
    free: list[str]
    finished: set[str]
    failed: set[str]


class Claims:
    """One driver's claims, as a context: they end with it.

    Args:
        store: a store that is shared.
        lease: seconds after which the claims of a driver that died are free; it is renewed in a
            third of that time. The same for all drivers.

    Raises:
        StoreError: the store cannot be read or written.
    """

    def __init__(self, store: Store, lease: float = LEASE) -> None:
        from . import claim_statements  # PostgreSQL's dialect: other stores start without it

        self._statements = claim_statements
        self.store, self.lease, self.driver = store, lease, uuid.uuid4().hex
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._since = 0

    def __enter__(self) -> Claims:
        self.store.write(self._register)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heart.join(timeout=1.0)  # it may hang in a lost connection
        with contextlib.suppress(StoreError):  # then they end with the lease
            self.release()
            self.store.write(
                lambda c: c.execute(drivers.delete().where(drivers.c.id == self.driver))
            )

    def release(self) -> None:
        """End all claims of this driver."""
        self.store.write(lambda c: c.execute(claims.delete().where(claims.c.driver == self.driver)))

    def take(self, keys: list[str], most: int) -> Look:
        """Claim the first keys that are free, as many as `most`.

        Args:
            keys: none that this driver runs.
        """
        attempts = itertools.count()

        def take(c: Connection) -> Look:
            if next(attempts):  # claims that were written, but the server died before it said so
                own = claims.c.driver == self.driver, claims.c.key.in_(keys)
                c.execute(claims.delete().where(*own))
            return self._take(c, keys, most)

        look: Look = self.store.write(take)
        return look

    def reason(self, key: str) -> dict[str, Any]:
        """How the last attempt at a run failed."""
        query = (
            select(failures.c.status, failures.c.reason)
            .where(failures.c.key == key)
            .order_by(failures.c.id.desc())
            .limit(1)
        )
        status, reason = self.store.read(lambda c: c.execute(query).one())
        return {"status": status, "reason": reason}

    def _take(self, c: Connection, keys: list[str], most: int) -> Look:
        self._renew(c)
        finished, failed, busy = self._known(c, keys)
        free = [key for key in keys if key not in busy | finished | failed]
        wanted, free = free[:most], free[most:]
        if not wanted:
            return Look([], free, finished, failed)
        ours = {"keys": sorted(wanted), "driver": self.driver, "lease": self.lease}  # no deadlocks
        claimed = set(c.scalars(self._statements.CLAIM, ours))
        # Whoever finished one since the first query has ended its claim in the same transaction.
        late = set(c.scalars(self._statements.FINISHED, {"keys": list(claimed)}))
        if late:
            c.execute(claims.delete().where(claims.c.key.in_(late)))
        mine = [key for key in wanted if key in claimed - late]
        return Look(mine, free, finished | late, failed)

    def _known(self, c: Connection, keys: list[str]) -> tuple[set[str], ...]:
        """Those that have finished, those given up, and those that a living driver has."""
        found: tuple[set[str], ...] = (set(), set(), set())
        for key, kind in c.execute(
            self._statements.KNOWN, {"keys": keys, "since": self._since, "lease": self.lease}
        ):
            found[kind].add(key)
        return found[0], found[1] - found[0], found[2]

    def _register(self, c: Connection) -> None:
        idle = drivers.c.id.not_in(select(claims.c.driver))
        c.execute(drivers.delete().where(drivers.c.expires < clock(), idle))
        self._renew(c)
        self._since = c.scalar(select(func.max(failures.c.id))) or 0

    def _renew(self, c: Connection) -> None:
        host = socket.gethostname()
        c.execute(
            self._statements.RENEW,
            {"id": self.driver, "host": host, "pid": os.getpid(), "lease": self.lease},
        )

    def _beat(self) -> None:
        while not self._over.wait(self.lease / 3):
            with contextlib.suppress(StoreError):  # the driver finds out when it writes
                self.store.write(self._renew)


class Share:
    """The jobs that this driver gets, claimed a few at a time, as an iterator.

    It gives None where nothing can be claimed just now; asked again it looks again, at most once
    a second. It ends with the last run that is with nobody. `left` counts the runs that are still
    open here or with other drivers.

    Args:
        claims: of this driver.
        jobs: what is missing, by key, in the order in which to start.
        workers: how many at once; near the end runs are claimed one by one.
        finished: told of each run that another driver finished, or gave up.
    """

    def __init__(
        self,
        claims: Claims,
        jobs: Mapping[str, Job],
        workers: int,
        finished: Callable[[Finished], None],
    ) -> None:
        self._claims, self._jobs, self._workers, self._finished = claims, jobs, workers, finished
        self._open, self._ready = deque(jobs), deque[str]()
        self._busy: list[str] = []
        self._next_look = 0.0

    def __iter__(self) -> Iterator[Job | None]:
        return self

    def __next__(self) -> Job | None:
        if not self._ready:
            self._look()
        if self._ready:
            return self._jobs[self._ready.popleft()]
        if self.left:
            return None
        raise StopIteration

    @property
    def left(self) -> int:
        return len(self._open) + len(self._busy)

    def _look(self) -> None:
        if not self._open and time.monotonic() >= self._next_look:
            self._open, self._busy = deque(self._busy), []
            self._next_look = time.monotonic() + POLL
        while self._open and not self._ready:
            window = [self._open.popleft() for _ in range(min(WINDOW, len(self._open)))]
            most = len(self._open) // (4 * self._workers)
            look = self._claims.take(window, max(1, min(self._workers, most)))
            self._ready.extend(look.claimed)
            self._open.extendleft(reversed(look.free))
            known = {*look.claimed, *look.free, *look.finished, *look.failed}
            self._busy += [key for key in window if key not in known]
            self._tell(look)

    def _tell(self, look: Look) -> None:
        outcomes = self._claims.store.outcomes(look.finished)
        outcomes.update((key, self._claims.reason(key)) for key in look.failed)
        for key, outcome in outcomes.items():
            self._finished(Finished(self._jobs[key].spec, outcome, ATTEMPTS))
