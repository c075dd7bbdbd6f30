"""Growth: storing webhooks, listing and searching with more workspaces and more messages."""

import contextlib
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import asyncpg
import psutil

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
_MESSAGES_EACH = 100
_CLOSED = 60
_BYTES_A_MESSAGE = 3000
"""With its indexes, its wamid, and the log of both."""

_STORED = "webhooks stored/s"
_PAGE = "a page of 50 conversations"
_CLOSED_PAGE = "50 closed conversations, older than all open ones"
_OF_CONTACT = "the conversations of a contact"
_SEARCHED = "50 contacts by how their names begin"
_MESSAGES = "50 messages of a conversation"

Figures = dict[str, float]
"""By what was measured: webhooks a second, or milliseconds of an answer (p50)."""


async def measure(options: Options) -> list[Row]:
    tenants = (1, 5) if options.quick else (1, 10, 100)
    sizes = (10_000, 100_000) if options.quick else (10_000, 1_000_000, 10_000_000)
    return [*await _by_tenants(options, tenants), *await _by_messages(options, _with_room(sizes))]


async def _by_tenants(options: Options, counts: tuple[int, ...]) -> list[Row]:
    figures: dict[int, Figures] = {}
    async with product.started() as stack, contextlib.AsyncExitStack() as open_shops:
        shops: list[Workspace] = []
        for count in counts:
            while len(shops) < count:
                shops.append(await open_shops.enter_async_context(product.shop(stack)))
            async with product.database(stack) as db:
                webhooks = Webhooks(stack, db, shops, customers=_CUSTOMERS // count)
                # Those who are there already stay; these are new ones beside them.
                await webhooks.add_customers(first=1_000_000 + 10_000 * count)
                stored = await _stored(webhooks, options)
            asked = await _milliseconds(stack, shops[0], {_PAGE: "/v1/conversations?pageSize=50"}, options)
            figures[count] = {_STORED: stored, **asked}
    return _rows("workspaces", figures)


async def _by_messages(options: Options, sizes: tuple[int, ...]) -> list[Row]:
    figures: dict[int, Figures] = {}
    async with product.started() as stack, product.shop(stack) as shop, product.database(stack) as db:
        webhooks = Webhooks(stack, db, [shop])
        await webhooks.add_customers()
        oldest = await _old_talks(db, shop)
        paths = {
            _PAGE: "/v1/conversations?pageSize=50",
            _CLOSED_PAGE: "/v1/conversations?pageSize=50&state=closed",
            _OF_CONTACT: f"/v1/conversations?pageSize=50&contactId={oldest['contact_id']}",
            _SEARCHED: "/v1/contacts?pageSize=50&query=customer%201",
            _MESSAGES: f"/v1/conversations/{oldest['conversation_id']}/messages?pageSize=50",
        }
        for size in sizes:
            await _fill(db, shop, size)
            stored = await _stored(webhooks, options)
            figures[size] = {_STORED: stored, **await _milliseconds(stack, shop, paths, options)}
    return _rows("messages", figures)


async def _old_talks(db: "asyncpg.Connection[asyncpg.Record]", shop: Workspace) -> asyncpg.Record:
    """Customers who wrote a month ago and whose conversations are closed; gives one of them."""
    seeding = Seeding(db, Place.of(shop))
    await seeding.customers(_CLOSED, first=9_000_000)
    await seeding.fill(_MESSAGES_EACH, run="old")
    await seeding.close()
    row = await db.fetchrow(
        "SELECT contact_id, id AS conversation_id FROM conversations WHERE state = 'closed' LIMIT 1"
    )
    assert row is not None, "just made"
    return row


async def _fill(db: "asyncpg.Connection[asyncpg.Record]", shop: Workspace, size: int) -> None:
    """Customers with a hundred messages each, until there are so many messages."""
    missing = size - await db.fetchval("SELECT count(*) FROM messages")
    first = 10_000_000 + await db.fetchval("SELECT count(*) FROM contacts")
    while missing > 0:
        people = max(1, min(missing, _ROWS_AT_ONCE) // _MESSAGES_EACH)
        seeding = Seeding(db, Place.of(shop))
        await seeding.customers(people, first=first)
        await seeding.fill(_MESSAGES_EACH, run=f"fill{first}")
        first += people
        missing -= people * _MESSAGES_EACH
    await db.execute("VACUUM ANALYZE")
    await db.execute("CHECKPOINT")


async def _stored(webhooks: Webhooks, options: Options) -> float:
    await webhooks.saturated(1)
    return await webhooks.saturated(options.seconds(8))


async def _milliseconds(stack: Stack, shop: Workspace, paths: Mapping[str, str], options: Options) -> Figures:
    """Of each GET by itself, one after the other, p50."""
    await shop.refresh(shop.token)
    spec: dict[str, Any] = {"port": product.port(stack, "gateway"), "token": shop.token, "connections": 1}
    figures: Figures = {}
    for name, path in paths.items():
        call = {"method": "GET", "path": path}
        result = await children.run("loads.api", {**spec, "calls": [call], "seconds": options.seconds(5, least=1)})
        if set(result["statuses"]) != {"200"}:
            raise children.LoadFailed(f"{path}: not only 200: {result['statuses']}")
        figures[name] = float(result["p50"])
    return figures


def _with_room(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Those that the disk has room for, and as much again."""
    free = psutil.disk_usage(tempfile.gettempdir()).free
    fitting = tuple(size for size in sizes if 2 * size * _BYTES_A_MESSAGE <= free)
    if left_out := set(sizes) - set(fitting):
        print(f"growth: no room on the disk for {sorted(left_out)} messages", file=sys.stderr)
    return fitting


def _rows(what: str, figures: Mapping[int, Figures]) -> list[Row]:
    least, most = min(figures), max(figures)
    rows: list[Row] = []
    for name in figures[least]:
        each = {str(count): of_count[name] for count, of_count in figures.items()}
        first, last = figures[least][name], figures[most][name]
        slower = first / last if name == _STORED else last / first
        measured = f"{name}, {least:,} → {most:,} {what}: times slower"
        rows.append(at_most("growth", measured, "", value=slower, most=MOST, each=each))
    rows.append(stated("growth", f"{_PAGE} at {most:,} {what}, p50", "ms", value=figures[most][_PAGE]))
    return rows
