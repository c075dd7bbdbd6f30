"""Committed end to end: webhooks stored in PostgreSQL, events included, beside single-row commits of 1 KB."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import asyncpg

from bench import children, product
from bench.figures import Spread, paired
from bench.options import Options
from bench.references.pgbench import CLIENTS, Commits
from bench.results import Row, at_most, by_ratio, stated
from bench.seed import Place, Seeding
from devstack.stack import Stack
from devstack.workspace import Workspace, until

CONNECTIONS = 64
CUSTOMERS = 5000
WORST_CASE_RATE = 3300
_PER_SECOND_MAX = 25_000
_PATIENCE_SECONDS = 120

# Every status of the mix leaves its time on its message; every inbound message is a row.
_STORED = """
    SELECT (SELECT count(*) FROM messages WHERE direction = 'inbound' AND wamid LIKE $1)
         + (SELECT COALESCE(sum(num_nonnulls(sent_at, delivered_at, read_at)), 0)
            FROM messages WHERE direction = 'outbound' AND wamid LIKE $2)
"""
_LAGS = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8 * 1000 AS lag
    FROM messages WHERE direction = 'inbound' AND wamid LIKE $1
"""


async def measure(options: Options) -> list[Row]:
    seconds = options.seconds(10)
    async with product.started() as stack, product.shop(stack) as shop:
        commits = Commits(stack.postgres)
        await commits.prepare()
        await note_commit_times(stack)
        rows: list[Row] = []
        async with product.database(stack) as db:
            seeding = Seeding(db, Place.of(shop))
            await seeding.customers(CUSTOMERS)
            for kind, least in (("mix", 0.60), ("inbound", None)):
                runs = Runs(stack, shop, db, seeding, kind)
                figures = await paired(
                    lambda runs=runs: runs.saturated(seconds),  # type: ignore[misc]
                    lambda: commits.per_second(seconds),
                    rounds=options.rounds,
                )
                what = f"{_WORDS[kind]} stored/s"
                if least is None:
                    rows.append(stated("committed", what, "/s", value=figures.subject, reference=figures.reference))
                else:
                    measure = f"{what} (pgbench: 1 KB commits, {CLIENTS} clients)"
                    rows.append(
                        by_ratio(
                            "committed",
                            measure,
                            "/s",
                            value=figures.subject,
                            reference=figures.reference,
                            ratio=figures.ratio,
                            least=least,
                        )
                    )
            lags = await Runs(stack, shop, db, seeding, "mix").at_rate(WORST_CASE_RATE, options.seconds(60))
        rows.append(
            at_most("committed", f"receipt → committed at {WORST_CASE_RATE}/s, p99", "ms", value=lags.p99, most=150)
        )
        rows.append(stated("committed", "the same, p50", "ms", value=lags.p50))
        return rows


_WORDS = {"mix": "webhooks (10 statuses to 1 message)", "inbound": "inbound messages"}


async def note_commit_times(stack: Stack) -> None:
    """Have PostgreSQL keep the time of each commit, which is the only exact way to know it."""
    await asyncio.to_thread(stack.postgres.run, "ALTER SYSTEM SET track_commit_timestamp = on")
    await stack.restart("postgres")
    for name in ("messaging-inbox", "messaging-sender", "messaging-server", "svc-auth", "svc-tenants", "gateway"):
        await stack.until_ready(name)


class Runs:
    """Runs of one kind of webhooks, each with ids of its own."""

    _numbers: Iterator[int] = iter(range(1_000_000))

    def __init__(
        self, stack: Stack, shop: Workspace, db: "asyncpg.Connection[asyncpg.Record]", seeding: Seeding, kind: str
    ) -> None:
        self._stack = stack
        self._db = db
        self._seeding = seeding
        self._kind = kind
        sender = product.sender(stack, shop)
        self._spec: dict[str, Any] = {
            "kind": kind,
            "secret": sender.secret.decode(),
            "number": sender.number,
            "waba": sender.waba,
            "customers": CUSTOMERS,
            "connections": CONNECTIONS,
            "port": product.port(stack, "webhooks-ingest"),
        }

    async def saturated(self, seconds: float) -> float:
        """As much as the intake takes; gives webhooks stored per second, from the first byte to the last commit."""
        most = int(_PER_SECOND_MAX * seconds)
        run, spec = await self._prepare(most, {"seconds": seconds, "most": most})
        async with children.started("loads.webhooks", spec) as load:
            began = float((await load.told())["began"])
            result = await load.result()
        count = _only_ok(result)
        ended = await self._stored(run, count)
        return count / (ended - began)

    async def at_rate(self, rate: float, seconds: float) -> Spread:
        """Milliseconds from receipt to commit, of the inbound messages among them, at a steady rate."""
        run, spec = await self._prepare(int(rate * seconds), {"seconds": seconds, "rate": rate})
        result = await children.run("loads.webhooks", spec)
        await self._stored(run, _only_ok(result))
        return Spread.of([row["lag"] for row in await self._db.fetch(_LAGS, f"wamid.in.{run}.%")])

    async def _prepare(self, most: int, more: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Messages enough for as many statuses as may be sent."""
        run = f"r{next(self._numbers)}"
        sent = []
        if self._kind != "inbound":
            sent = await self._seeding.sent(most // 3 // CUSTOMERS + 1, run=run)
        await self._db.execute("ANALYZE")
        await self._db.execute("CHECKPOINT")
        return run, {**self._spec, **more, "run": run, "sent": [[s.wamid, s.wa_id, s.own_id] for s in sent]}

    async def _stored(self, run: str, count: int) -> float:
        """Wait until so many are stored; gives when that was."""

        async def look() -> float | None:
            stored: int = await self._db.fetchval(_STORED, f"wamid.in.{run}.%", f"wamid.out.{run}.%")
            return time.time() if stored >= count else None

        ended: float = await until(look, f"{count} webhooks being stored", seconds=_PATIENCE_SECONDS)
        return ended


def _only_ok(result: dict[str, Any]) -> int:
    if set(result["statuses"]) != {"200"}:
        raise children.LoadFailed(f"not only 200: {result['statuses']}")
    return int(result["answered"])
