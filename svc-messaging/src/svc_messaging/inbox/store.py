"""Writes a batch of items: a fixed number of statements in one transaction, however many items there are.

Everything has a natural key (number and wamid, contact identity, item), so a batch may come again in whole or in part.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg

from kit import outbox
from kit.db import Row, Tx
from kit.ids import new_id
from kit.outgoing import Outgoing
from svc_messaging import events, settling, statuses
from svc_messaging.events import Key
from svc_messaging.inbox import erased, parse, people, threads
from svc_messaging.inbox.batch import Batch
from svc_messaging.inbox.items import Unusable, Written
from svc_messaging.inbox.numbers import Owner
from svc_messaging.inbox.people import Identity, Person
from svc_messaging.parking import Parked, park
from svc_messaging.settling import Addressed

_DEDUPLICATE = """
    INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
    ON CONFLICT DO NOTHING
    RETURNING message_id
"""

_KNOWN = """
    SELECT w.tenant_id, w.phone_number_id, w.wamid, w.message_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g (tenant_id, phone_number_id, wamid)
    JOIN wamids w USING (tenant_id, phone_number_id, wamid)
"""

_INSERT = """
    INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction,
        type, body, content, media_id, status, wamid, reply_to_wamid, reply_to_message_id, customer_sent_at, created_at)
    SELECT tenant_id, id, conversation_id, contact_id, account_id, number, 'inbound',
           type, body, content, media_id, 'received', wamid, reply_to_wamid, reply_to_message_id, sent_at, received_at
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                $9::jsonb[], $10::uuid[], $11::text[], $12::text[], $13::uuid[], $14::timestamptz[], $15::timestamptz[])
        AS g (tenant_id, id, conversation_id, contact_id, account_id, number, type, body,
              content, media_id, wamid, reply_to_wamid, reply_to_message_id, sent_at, received_at)
"""

_EXPECT_FILES = """
    WITH expected AS (
        INSERT INTO media (tenant_id, id, direction, state, mime_type, filename, message_id, phone_number_id,
                           meta_media_id, next_attempt_at)
        SELECT tenant_id, id, 'inbound', 'pending', mime_type, filename, message_id, number, meta_media_id, now()
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[])
            AS g (tenant_id, id, mime_type, filename, message_id, number, meta_media_id)
    )
    SELECT pg_notify('media', '')
"""

# An empty emoji takes a reaction back; the latest by the customer's clock counts, whenever it arrives. The message is
# held, so that it does not go meanwhile, as old as messages are kept: its reactions went just before it.
_REACT = """
    WITH latest AS (
        SELECT DISTINCT ON (tenant_id, message_id) tenant_id, message_id, emoji, reacted_at
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[]) WITH ORDINALITY
            AS g (tenant_id, message_id, emoji, reacted_at, place)
        ORDER BY tenant_id, message_id, reacted_at DESC, place DESC
    ), there AS (
        SELECT latest.* FROM latest JOIN messages m ON m.tenant_id = latest.tenant_id AND m.id = latest.message_id
        ORDER BY m.tenant_id, m.id FOR KEY SHARE OF m
    )
    INSERT INTO reactions (tenant_id, message_id, direction, emoji, reacted_at)
    SELECT tenant_id, message_id, 'inbound', emoji, reacted_at FROM there
    ON CONFLICT (tenant_id, message_id, direction)
    DO UPDATE SET emoji = EXCLUDED.emoji, reacted_at = EXCLUDED.reacted_at
    WHERE reactions.reacted_at <= EXCLUDED.reacted_at
"""

REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""What the database raises for content that it will never take."""

Wamid = tuple[uuid.UUID, str, str]
"""Tenant, number and Meta's id."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What of a batch was not processed."""

    items: list[Unusable]
    new_reasons: list[str]
    """Of those that were not set aside before."""


@dataclass(slots=True)
class Arrived:
    """A message that is new, and where it belongs."""

    item: Written
    owner: Owner
    id: uuid.UUID = field(default_factory=new_id)
    media_id: uuid.UUID | None = None
    contact_id: uuid.UUID | None = None
    conversation_id: uuid.UUID | None = None

    @property
    def wamid(self) -> Wamid:
        return self.owner.tenant_id, self.item.number, self.item.wamid

    @property
    def key(self) -> Key:
        return self.owner.tenant_id, self.id


async def write(tx: Tx, batch: Batch) -> Aside:
    """Write all of it; gives what was set aside. Raises Contended: begin again."""
    await erased.leave_out(tx, batch)
    arrived = await _new_ones(tx, batch)
    moved = await _place(tx, arrived)
    known = await _known(tx, arrived)
    await _insert(tx, arrived, known)
    reacted = await _react(tx, arrived, known)
    changed, unknown = await settling.apply(tx, _reports(batch))
    await outbox.add(tx, await _happened(tx, arrived, moved, changed, reacted))
    return await _set_aside(tx, batch, unknown)


async def _happened(
    tx: Tx, arrived: Sequence[Arrived], moved: Sequence[Key], changed: Sequence[Row], reacted: Sequence[Key]
) -> list[Outgoing]:
    """The events of a batch. A message that is the newest of its conversation is read once for both of their events."""
    talks = await events.conversations(tx, moved)
    newest = {(row["tenant_id"], row["id"]): row for row in talks}
    keys = [each.key for each in arrived]
    others = await events.messages(tx, [key for key in keys if key not in newest])
    stored = newest | {(row["tenant_id"], row["id"]): row for row in others}
    told = {(row["tenant_id"], row["id"]) for row in changed}
    updated = [*changed, *await events.messages(tx, sorted(set(reacted) - told))]
    return events.leaving(
        [
            *events.of_messages(events.RECEIVED, [stored[key] for key in keys]),
            *events.of_messages(events.UPDATED, updated),
            *events.of_conversations(talks, datetime.now(UTC)),
        ]
    )


async def _new_ones(tx: Tx, batch: Batch) -> list[Arrived]:
    """The messages that are not stored yet, in order, each once."""
    first: dict[Wamid, Arrived] = {}
    for item, _ in batch.written:
        arrived = Arrived(item, batch.owners[item.number])
        first.setdefault(arrived.wamid, arrived)
    if not first:
        return []
    ordered = sorted(first.values(), key=lambda each: each.wamid)
    tenants, numbers, wamids = _columns([each.wamid for each in ordered])
    rows = await tx.fetch(_DEDUPLICATE, tenants, numbers, wamids, [each.id for each in ordered])
    new = {row["message_id"] for row in rows}
    return [each for each in first.values() if each.id in new]


async def _place(tx: Tx, arrived: list[Arrived]) -> list[Key]:
    """Find or make contact and conversation of each message. Gives the conversations that changed."""
    if not arrived:
        return []
    written = [(each.owner.tenant_id, each.item) for each in arrived]
    who = people.gather(written)
    merged = await people.resolve(tx, who)
    for each in arrived:
        each.contact_id = _person(who, each).contact_id
        each.media_id = new_id() if each.item.file else None
    touched = await threads.move(tx, arrived)
    await people.forget_left_numbers(tx, written)
    return list(dict.fromkeys([*merged, *touched]))


def _person(who: dict[Identity, Person], each: Arrived) -> Person:
    kind, value = each.item.sender.identities[0]
    return who[each.owner.tenant_id, kind, value]


async def _known(tx: Tx, arrived: Sequence[Arrived]) -> dict[Wamid, uuid.UUID]:
    """Our ids of the messages that these quote or react to."""
    named = {
        (each.owner.tenant_id, each.item.number, wamid)
        for each in arrived
        for wamid in (each.item.reply_to_wamid, each.item.reacts_to_wamid)
        if wamid
    }
    if not named:
        return {}
    rows = await tx.fetch(_KNOWN, *_columns(sorted(named)))
    return {(row["tenant_id"], row["phone_number_id"], row["wamid"]): row["message_id"] for row in rows}


async def _insert(tx: Tx, arrived: Sequence[Arrived], known: dict[Wamid, uuid.UUID]) -> None:
    if not arrived:
        return
    await tx.execute(_INSERT, *_columns([_row(each, known) for each in arrived]))
    files = [
        (
            each.owner.tenant_id,
            each.media_id,
            each.item.file.mime_type,
            each.item.file.filename,
            each.id,
            each.item.number,
            each.item.file.meta_media_id,
        )
        for each in arrived
        if each.item.file is not None
    ]
    if files:
        await tx.execute(_EXPECT_FILES, *_columns(files))


def _row(each: Arrived, known: dict[Wamid, uuid.UUID]) -> tuple[object, ...]:
    item, tenant_id = each.item, each.owner.tenant_id
    return (
        tenant_id,
        each.id,
        each.conversation_id,
        each.contact_id,
        each.owner.account_id,
        item.number,
        item.type,
        item.body,
        None if item.content is None else json.dumps(item.content, ensure_ascii=False),
        each.media_id,
        item.wamid,
        item.reply_to_wamid or None,
        known.get((tenant_id, item.number, item.reply_to_wamid)),
        item.sent_at,
        item.received_at,
    )


async def _react(tx: Tx, arrived: Sequence[Arrived], known: dict[Wamid, uuid.UUID]) -> list[Key]:
    """Put reactions on the messages they are about, where those are known here. Gives the messages' keys."""
    found = [
        (each.owner.tenant_id, message_id, each.item.emoji, each.item.sent_at)
        for each in arrived
        if (message_id := known.get((each.owner.tenant_id, each.item.number, each.item.reacts_to_wamid)))
    ]
    if found:
        await tx.execute(_REACT, *_columns(found))
    return [(tenant_id, message_id) for tenant_id, message_id, *_ in found]


def _reports(batch: Batch) -> list[Addressed]:
    """What the batch says about each message of ours, in an order that is the same in every process."""
    items: dict[tuple[str, str], list[statuses.Reached]] = {}
    for item, _ in batch.told:
        items.setdefault((item.number, item.wamid), []).append(item.reached)
    return [
        Addressed(batch.owners[number].tenant_id, number, statuses.reduce(items[number, wamid]))
        for number, wamid in sorted(items)
    ]


async def _set_aside(tx: Tx, batch: Batch, unknown: Sequence[Addressed]) -> Aside:
    missing = {(each.number, each.report.wamid) for each in unknown}
    unusable = batch.unusable + [
        (parse.of_unknown_message(item), sequence)
        for item, sequence in batch.told
        if (item.number, item.wamid) in missing
    ]
    reasons = await park(
        tx,
        [
            Parked(each.key, each.reason, each.detail, each.number, each.wamid, each.body, sequence, each.received_at)
            for each, sequence in unusable
        ],
    )
    # Its message may have become known between the look and the parking.
    named = [(each.tenant_id, each.number, each.report.wamid) for each in unknown]
    settled = await settling.apply_parked_statuses(tx, named)
    await outbox.add(tx, events.leaving(events.of_messages(events.UPDATED, settled)))
    return Aside([each for each, _ in unusable], reasons)


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
