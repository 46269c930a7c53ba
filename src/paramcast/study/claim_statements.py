"""What `claims` asks of PostgreSQL, made once: making it takes longer than the answer."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Float,
    String,
    bindparam,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert

from .engines import ATTEMPTS
from .tables import claims, clock, drivers, failures, runs

_keys: BindParameter[Any] = bindparam("keys", expanding=True)
_until = clock() + bindparam("lease", type_=Float)
_in_time = drivers.c.expires > clock(), drivers.c.expires <= _until
_living = select(drivers.c.id).where(*_in_time)
"""A lease that ends later than one that begins now is of before the clock was set back."""
_given_up = (
    select(failures.c.key, literal(1))
    .where(failures.c.key.in_(_keys), failures.c.id > bindparam("since"))
    .group_by(failures.c.key)
    .having(func.count() >= ATTEMPTS)
)
"""Keys that failed as often as a run is tried, whoever tried, since this driver began."""
FINISHED = select(runs.c.key).where(runs.c.key.in_(_keys))
KNOWN = union_all(
    select(runs.c.key, literal(0)).where(runs.c.key.in_(_keys)),
    _given_up,
    select(claims.c.key, literal(2)).where(claims.c.key.in_(_keys), claims.c.driver.in_(_living)),
)
_wanted = select(
    func.unnest(bindparam("keys", type_=ARRAY(String))), bindparam("driver", type_=String)
)
_claim = insert(claims).from_select(["key", "driver"], _wanted)
CLAIM = _claim.on_conflict_do_update(
    index_elements=["key"],
    set_={"driver": _claim.excluded.driver},
    where=claims.c.driver.not_in(_living),
).returning(claims.c.key)
_renewed = insert(drivers).values(
    id=bindparam("id"), host=bindparam("host"), pid=bindparam("pid"), expires=_until
)
RENEW = _renewed.on_conflict_do_update(
    index_elements=["id"], set_={"expires": _renewed.excluded.expires}
)
