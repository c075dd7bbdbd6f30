"""Erasing a tenant's rows in small transactions, so that nobody else waits and a kill at any moment costs a batch."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.db import Database, Tx
from kit.principal import Principal

ROWS = 2000
"""Of one transaction."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with `tenant_id`, and the columns that follow it in its key."""

    name: str
    key: tuple[str, ...]
    rows: int = ROWS
    """Of one transaction; fewer where rows are large."""


@dataclass(slots=True)
class Erased:
    """What a call erased."""

    done: bool = False
    """Whether all tables were gone through; False when the time was over before."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by table."""

    def add(self, name: str, count: int) -> None:
        if count:
            self.counts[name] = self.counts.get(name, 0) + count


async def erase(db: Database, principal: Principal, tables: Sequence[Table], *, seconds: float) -> Erased:
    """Delete the rows of the principal's tenant, table after table: those that refer to others come first.

    Row-level security holds every statement to the tenant. Ends after about so many seconds.
    """
    erased, until = Erased(), time.monotonic() + seconds
    for table in tables:
        last: tuple[object, ...] | None = ()
        while last is not None:
            if time.monotonic() > until:
                return erased
            async with db.begin(principal) as tx:
                count, last = await _batch(tx, table, principal.require_tenant(), last)
            erased.add(table.name, count)
    erased.done = True
    return erased


async def _batch(
    tx: Tx, table: Table, tenant_id: uuid.UUID, last: tuple[object, ...]
) -> tuple[int, tuple[object, ...] | None]:
    """Delete the first rows beyond `last` in the order of the key; gives how many, and the key of the last of them
    where there are more. Ranges of the key, because a search from the front would pass all that is deleted already.
    """
    key = f"({', '.join(table.key)})"
    beyond = f" AND {key} > ({_places(2, last)})" if last else ""
    end = (
        await tx.fetchrow(
            f"SELECT {', '.join(table.key)} FROM {table.name} WHERE tenant_id = $1{beyond}"
            f" ORDER BY {', '.join(table.key)} OFFSET {table.rows - 1} LIMIT 1",
            tenant_id,
            *last,
        )
        if table.key
        else None
    )
    values: tuple[object, ...] = tuple(end) if end else ()
    up_to = f" AND {key} <= ({_places(2 + len(last), values)})" if values else ""
    done = await tx.execute(f"DELETE FROM {table.name} WHERE tenant_id = $1{beyond}{up_to}", tenant_id, *last, *values)
    return int(done.rpartition(" ")[2]), values or None


def _places(first: int, values: tuple[object, ...]) -> str:
    return ", ".join(f"${place}" for place in range(first, first + len(values)))
