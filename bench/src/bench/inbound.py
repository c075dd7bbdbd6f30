"""Webhooks on their way in: sent at the intake, waited for in PostgreSQL, their way timed."""

import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench import children, product
from bench.children import Json
from bench.figures import Spread
from bench.seed import Place, Seeding
from devstack.stack import Stack
from devstack.workspace import Workspace, until

CONNECTIONS = 64
WORST_CASE_RATE = 3300
"""Of one number at Meta's highest throughput: 3,000 statuses and 300 messages a second."""
SATURATED_RATE_MAX = 18_000
"""More than two cores take in, as a rule: so many webhooks for each second are made before the clock starts. A faster
machine is done sooner.
"""
_PATIENCE_SECONDS = 300

# Of a run's own messages, which is a range of the key: looking at all that are there would take more of the machine the
# more there are, in the middle of the measurement.
_OF_RUN = "tenant_id = ANY ($1::uuid[]) AND id > $2"
# Every status of the mix leaves its time on its message; every inbound message is a row.
_STORED = f"""
    SELECT count(*) FILTER (WHERE direction = 'inbound' AND wamid LIKE $3)
         + COALESCE(sum(num_nonnulls(sent_at, delivered_at, read_at))
                    FILTER (WHERE direction = 'outbound' AND wamid LIKE $4), 0)
    FROM messages WHERE {_OF_RUN}
"""
_COMMITTED = f"""
    SELECT wamid, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS committed_at,
           extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8 * 1000 AS lag
    FROM messages WHERE {_OF_RUN} AND direction = 'inbound' AND wamid LIKE $3
"""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class AtRate:
    """What a steady rate led to."""

    answers: Json
    """Of the generator: milliseconds to the 200 as p50, p99, p999; statuses; its CPU seconds."""
    lags: Spread
    """Milliseconds from receipt to commit, of the inbound messages."""

    @property
    def not_ok(self) -> int:
        return sum(count for status, count in self.answers["statuses"].items() if status != "200")


class Webhooks:
    """Of workspaces whose customers are there already. Each run has ids of its own."""

    def __init__(
        self,
        stack: Stack,
        db: "asyncpg.Connection[asyncpg.Record]",
        shops: Sequence[Workspace],
        *,
        kind: str = "mix",
        customers: int = 5000,
    ) -> None:
        self._db = db
        self._tenants = [Place.of(shop).tenant_id for shop in shops]
        self._began: dict[str, uuid.UUID] = {}
        """By run, an id that is older than all that it made."""
        self._seedings = [Seeding(db, Place.of(shop), place) for place, shop in enumerate(shops)]
        self._kind = kind
        self._customers = customers
        self._spec: dict[str, Any] = {
            **product.webhooks(stack, [product.place_of(shop) for shop in shops]),
            "kind": kind,
            "customers": customers,
            "connections": CONNECTIONS,
        }

    async def saturated(self, seconds: float) -> float:
        """As much as the intake takes; gives webhooks stored per second, from the first byte to the last commit."""
        most = int(SATURATED_RATE_MAX * seconds)
        spec = await self.prepare(most, {"seconds": seconds, "most": most})
        async with children.started("loads.webhooks", spec) as load:
            began = float((await load.told())["began"])
            result = await load.result()
        if set(result["statuses"]) != {"200"}:
            raise children.LoadFailed(f"not only 200: {result['statuses']}")
        ended = await self.stored(spec["run"], result["answered"])
        return float(result["answered"]) / (ended - began)

    async def at_rate(self, rate: float, seconds: float) -> AtRate:
        spec = await self.prepare(int(rate * seconds), {"seconds": seconds, "rate": rate})
        return await self.send(spec)

    async def send(self, spec: Json) -> AtRate:
        """Send what was prepared, and wait until it is stored."""
        answers, run = await children.run("loads.webhooks", spec), spec["run"]
        await self.stored(run, answers["statuses"].get("200", 0))
        lags = [row["lag"] for row in await self._committed(run)]
        return AtRate(answers, Spread.of(lags or [0.0]))

    async def commit_times(self, run: str) -> dict[str, float]:
        """When each inbound message of a run was committed, by its wamid."""
        return {row["wamid"]: row["committed_at"] for row in await self._committed(run)}

    async def _committed(self, run: str) -> Sequence[asyncpg.Record]:
        return await self._db.fetch(_COMMITTED, *self._own(run), f"wamid.in.{run}.%")

    async def prepare(self, most: int, more: Json) -> Json:
        """The spec of a run, with messages enough for as many statuses as may be sent."""
        run = f"r{next(_numbers)}"
        self._began[run] = await self._db.fetchval("SELECT uuidv7()")
        sent = []
        if self._kind != "inbound":
            each = most // 3 // (self._customers * len(self._seedings)) + 1
            sent = [one for seeding in self._seedings for one in await seeding.sent(each, run=run)]
            await self._db.execute("ANALYZE")
            await self._db.execute("CHECKPOINT")
        return {**self._spec, **more, "run": run, "sent": [[s.wamid, s.wa_id, s.own_id, s.place] for s in sent]}

    async def add_customers(self, *, first: int = 0) -> None:
        for seeding in self._seedings:
            await seeding.customers(self._customers, first=first)

    async def stored(self, run: str, count: int) -> float:
        """Wait until so many are stored; gives when that was."""

        async def look() -> float | None:
            stored: int = await self._db.fetchval(_STORED, *self._own(run), f"wamid.in.{run}.%", f"wamid.out.{run}.%")
            return time.time() if stored >= count else None

        ended: float = await until(look, f"{count} webhooks being stored", seconds=_PATIENCE_SECONDS)
        return ended

    def _own(self, run: str) -> tuple[list[uuid.UUID], uuid.UUID]:
        return self._tenants, self._began[run]
