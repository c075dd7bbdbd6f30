"""Messages on their way out: queued in bulk with their commands, and counted until recorded."""

import json
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench import children
from bench.children import Running
from bench.seed import Place, Queued, Seeding
from devstack.ports import PortClaims
from devstack.workspace import Workspace, until

_COMMANDS = """
    INSERT INTO outbox (message_id, subject, headers, data)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bytea[])
"""
_PARTITIONS = 8
_TOGETHER = 100


@asynccontextmanager
async def sink(*, limit: int = 1000) -> AsyncIterator[tuple[Running, int]]:
    """A strict stand-in for Meta's send endpoint; gives it and its port."""
    claims = PortClaims()
    port = claims.claim()
    try:
        async with children.started("references.sink", {"port": port, "limit": limit}) as running:
            await running.told()
            yield running, port
    finally:
        claims.release()


def to_sink(port: int) -> dict[str, str]:
    """Settings of a stack whose messages go there."""
    return {"AEROSTIC_MESSAGING_GRAPH_URL": f"http://127.0.0.1:{port}"}


async def numbers(shop: Workspace, count: int, *, throughput: int = 1000) -> list[Place]:
    """The shop's number and further ones."""
    found = [Place.of(shop)]
    for _ in range(count - 1):
        await shop.connect(throughput=throughput)
        found.append(Place.of(shop))
    return found


async def queue(db: "asyncpg.Connection[asyncpg.Record]", place: Place, messages: Sequence[Queued]) -> None:
    """Command the sender, as the product does it for many: by the outbox, a hundred to a message."""
    partition = zlib.crc32(place.number.encode()) % _PARTITIONS
    commands = [
        {
            "messageId": str(message.id),
            "tenantId": str(place.tenant_id),
            "phoneNumberId": place.number,
            "contactId": str(message.contact_id),
        }
        for message in messages
    ]
    subject = f"send.bulk.{partition}"
    rows: list[tuple[uuid.UUID, str, str, bytes]] = [
        (uuid.uuid4(), subject, "{}", json.dumps(commands[start : start + _TOGETHER]).encode())
        for start in range(0, len(commands), _TOGETHER)
    ]
    await db.execute(_COMMANDS, *(list(column) for column in zip(*rows, strict=True)))


async def queue_many(
    db: "asyncpg.Connection[asyncpg.Record]", places: Sequence[Place], each: int, *, first: int = 0
) -> int:
    """So many messages from each number, to as many customers of its own, while the sender is away, and their commands
    in the stream. Gives how many.
    """
    for place_number, place in enumerate(places):
        seeding = Seeding(db, place)
        await seeding.customers(each, first=first + 1_000_000 * (place_number + 1))
        await queue(db, place, await seeding.queued(1))
    await db.execute("ANALYZE")

    async def drained() -> bool | None:
        return True if await db.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)") else None

    await until(drained, "the outbox being empty", seconds=300)
    return each * len(places)


async def until_recorded(db: "asyncpg.Connection[asyncpg.Record]", *, seconds: float = 300) -> None:
    async def none_waits() -> bool | None:
        waiting: Any = await db.fetchval(
            "SELECT EXISTS (SELECT FROM messages WHERE direction = 'outbound' AND accepted_at IS NULL"
            " AND failed_at IS NULL AND status IN ('queued', 'sending'))"
        )
        return None if waiting else True

    await until(none_waits, "all messages being recorded", seconds=seconds)
