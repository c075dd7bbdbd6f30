"""The events of svc-messaging: messaging.message.received, queued, updated and messaging.conversation.updated.

Each carries the whole resource as it is within the transaction. `data` is the JSON of the messages in
aerostic.messaging.v1.events.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from kit import telemetry
from kit.db import Row, Tx
from kit.events import Event, outgoing
from kit.outgoing import Outgoing
from svc_messaging import convert, snapshots

RECEIVED = "messaging.message.received"
QUEUED = "messaging.message.queued"
UPDATED = "messaging.message.updated"
CONVERSATION_UPDATED = "messaging.conversation.updated"

Key = tuple[uuid.UUID, uuid.UUID]
"""Tenant id and the resource's id."""


def of_messages(kind: str, rows: Iterable[Row]) -> list[Event]:
    """`rows` of snapshots.MESSAGES or of conversations that have a message, where it is so with lattice.REACHED."""
    now = datetime.now(UTC)
    return [Event(kind, row["tenant_id"], f"messages/{row['id']}", _data(row), time=now) for row in rows]


def of_conversations(rows: Iterable[Row], now: datetime) -> list[Event]:
    """`rows` of snapshots.CONVERSATIONS."""
    return [
        Event(
            CONVERSATION_UPDATED,
            row["tenant_id"],
            f"conversations/{row['conversation_id']}",
            {"conversation": convert.conversation_json(row, now)},
        )
        for row in rows
    ]


def leaving(events: list[Event]) -> list[Outgoing]:
    """Outbox rows for events; they carry the current trace."""
    return outgoing(events, headers=telemetry.headers())


async def messages_updated(tx: Tx, keys: Sequence[Key]) -> list[Outgoing]:
    """One statement for all; events in the order of the keys, those of a tenant together."""
    return leaving(of_messages(UPDATED, await messages(tx, keys)))


async def messages(tx: Tx, keys: Sequence[Key]) -> list[Row]:
    """As they are within the transaction, in the order of the keys."""
    return await _rows(tx, snapshots.MESSAGES_BY_KEY, keys)


async def conversations(tx: Tx, keys: Sequence[Key]) -> list[Row]:
    """As they are within the transaction, each with its newest message, in the order of the keys."""
    return await _rows(tx, snapshots.CONVERSATIONS_BY_KEY, keys)


def _data(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = {"message": convert.message_json(row)}
    if reached := row.get("reached"):
        data["reached"] = reached
    return data


async def _rows(tx: Tx, statement: str, keys: Sequence[Key]) -> list[Row]:
    if not keys:
        return []
    return await tx.fetch(statement, [tenant for tenant, _ in keys], [each for _, each in keys])
