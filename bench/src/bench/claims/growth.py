"""Growth: storing webhooks and listing conversations with more workspaces and more messages."""

import contextlib
from typing import Any

import asyncpg

from bench import children, product
from bench.inbound import Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from bench.seed import Place, Seeding
from devstack.stack import Stack
from devstack.workspace import Workspace

MOST = 1.5
_CUSTOMERS = 5000
_ROWS_AT_ONCE = 500_000


async def measure(options: Options) -> list[Row]:
    tenants = (1, 5) if options.quick else (1, 10, 100)
    sizes = (10_000, 100_000) if options.quick else (10_000, 1_000_000, 10_000_000)
    return [*await _by_tenants(options, tenants), *await _by_messages(options, sizes)]


async def _by_tenants(options: Options, counts: tuple[int, ...]) -> list[Row]:
    stored: dict[int, float] = {}
    pages: dict[int, float] = {}
    async with product.started() as stack, contextlib.AsyncExitStack() as open_shops:
        shops: list[Workspace] = []
        for count in counts:
            while len(shops) < count:
                shops.append(await open_shops.enter_async_context(product.shop(stack)))
            async with product.database(stack) as db:
                webhooks = Webhooks(stack, db, shops, customers=_CUSTOMERS // count)
                # Those who are there already stay; these are new ones beside them.
                await webhooks.add_customers(first=1_000_000 * count)
                stored[count] = await _stored(webhooks, options)
            pages[count] = await _page(stack, shops[0], options)
    return _rows("workspaces", stored, pages)


async def _by_messages(options: Options, sizes: tuple[int, ...]) -> list[Row]:
    stored: dict[int, float] = {}
    pages: dict[int, float] = {}
    async with product.started() as stack, product.shop(stack) as shop, product.database(stack) as db:
        webhooks = Webhooks(stack, db, [shop])
        await webhooks.add_customers()
        for size in sizes:
            await _fill(db, shop, size)
            stored[size] = await _stored(webhooks, options)
            pages[size] = await _page(stack, shop, options)
    return _rows("messages", stored, pages)


async def _fill(db: "asyncpg.Connection[asyncpg.Record]", shop: Workspace, size: int) -> None:
    """Customers with a hundred messages each, until there are so many messages."""
    first = 10_000_000
    while (missing := size - await db.fetchval("SELECT count(*) FROM messages")) > 0:
        people = max(1, min(missing, _ROWS_AT_ONCE) // 100)
        seeding = Seeding(db, Place.of(shop))
        first += await db.fetchval("SELECT count(*) FROM contacts")
        await seeding.customers(people, first=first)
        await seeding.fill(min(100, missing), run=f"fill{first}")
    await db.execute("VACUUM ANALYZE")


async def _stored(webhooks: Webhooks, options: Options) -> float:
    await webhooks.saturated(1)
    return await webhooks.saturated(options.seconds(8))


async def _page(stack: Stack, shop: Workspace, options: Options) -> float:
    """Milliseconds of a page of 50 conversations, p50."""
    spec: dict[str, Any] = {"port": product.port(stack, "gateway"), "token": shop.token, "connections": 1}
    call = {"method": "GET", "path": "/v1/conversations?pageSize=50"}
    result = await children.run("loads.api", {**spec, "calls": [call], "seconds": options.seconds(5)})
    if set(result["statuses"]) != {"200"}:
        raise children.LoadFailed(f"not only 200: {result['statuses']}")
    return float(result["p50"])


def _rows(what: str, stored: dict[int, float], pages: dict[int, float]) -> list[Row]:
    least, most = min(stored), max(stored)
    span = f"{least:,} → {most:,} {what}"
    return [
        at_most(
            "growth",
            f"webhooks stored/s, {span}: times slower",
            "",
            value=stored[least] / stored[most],
            most=MOST,
            each={str(count): value for count, value in stored.items()},
        ),
        at_most(
            "growth",
            f"a page of 50 conversations, {span}: times slower",
            "",
            value=pages[most] / pages[least],
            most=MOST,
            each={str(count): value for count, value in pages.items()},
        ),
        stated("growth", f"a page of 50 conversations at {most:,} {what}, p50", "ms", value=pages[most]),
    ]
