"""Sending: accepts a message to a customer, stores it as queued and commands the sender, all in one transaction."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kit import outbox
from kit.db import Row, Tx
from kit.ids import new_id, time_of
from svc_messaging import convert, events, media_types, placements, send_commands, snapshots
from svc_messaging.errors import (
    MediaNotFound,
    MediaNotReady,
    MediaTooLarge,
    MediaTypeUnsupported,
    MessageNotFound,
    RequestIdReused,
    WindowClosed,
)
from svc_messaging.queues import Queues
from svc_messaging.send_commands import Command

# Of two calls with one request id the second waits here until the first has ended, and then finds what it stored.
_WAIT_FOR_TWIN = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_FIND_REQUEST = "SELECT message_id, fingerprint FROM send_requests WHERE tenant_id = $1 AND request_id = $2"
_ADD_REQUEST = "INSERT INTO send_requests (tenant_id, request_id, message_id, fingerprint) VALUES ($1, $2, $3, $4)"
_WAMID = "SELECT wamid FROM messages WHERE tenant_id = $1 AND id = $2 AND conversation_id = $3"
# Held, so that neither the file goes with the last old message that shows it, nor its bytes by their own age (which is
# an update of its row), while the new one is being stored.
_FILE = "SELECT direction, state, mime_type, size_bytes FROM media WHERE tenant_id = $1 AND id = $2 FOR SHARE"
# The message, the conversation that it is now the newest of, and both as their readers see them.
_QUEUE = f"""
    WITH message AS (
        INSERT INTO messages (
            tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction, type, body,
            content, media_id, status, reply_to_message_id, reply_to_wamid, sender_user_id, request_id, created_at
        )
        SELECT tenant_id, $3, id, contact_id, whatsapp_account_id, phone_number_id, 'outbound', $4, $5,
               $6::jsonb, $7, 'queued', $8, $9, $10, $11, $12
        FROM conversations WHERE tenant_id = $1 AND id = $2
        RETURNING *
    ), conversation AS (
        UPDATE conversations
        SET last_message_id = message.id, last_activity_at = GREATEST(last_activity_at, message.created_at),
            unanswered_count = 0
        FROM message
        WHERE conversations.tenant_id = $1 AND conversations.id = $2
        RETURNING conversations.*
    )
    {snapshots.WRITTEN}
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be sent, as the columns of a message have it."""

    type: str
    body: str = ""
    content: dict[str, Any] | None = None
    media_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that somebody wants to send."""

    addressee: str
    """A conversation, or a phone number with the number to send from; for telling one request from another."""
    content: Content
    sender_user_id: uuid.UUID
    request_id: str = ""
    reply_to_message_id: uuid.UUID | None = None

    @property
    def fingerprint(self) -> bytes:
        """The same for the same content to the same addressee."""
        said = [self.addressee, self.content.type, self.content.body, self.content.content]
        ids = [self.content.media_id, self.reply_to_message_id]
        text = json.dumps([*said, *(str(each or "") for each in ids)], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()


async def repeated(tx: Tx, tenant_id: uuid.UUID, draft: Draft) -> Row | None:
    """The message that the draft's request id led to before, as it is now: a row of snapshots.MESSAGES.

    A second call at the same moment waits for the first. Raises RequestIdReused where that was another message.
    """
    if not draft.request_id:
        return None
    await tx.execute(_WAIT_FOR_TWIN, f"send_requests {tenant_id} {draft.request_id}")
    first = await tx.fetchrow(_FIND_REQUEST, tenant_id, draft.request_id)
    if first is None:
        return None
    if first["fingerprint"] != draft.fingerprint:
        raise RequestIdReused
    # None where it went at this very moment, as old as messages are kept, and the request id with it.
    return await tx.fetchrow(
        f"{snapshots.MESSAGES} WHERE m.tenant_id = $1 AND m.id = $2", tenant_id, first["message_id"]
    )


async def queue(tx: Tx, conversation: Row, draft: Draft, queues: Queues) -> Row:
    """Store the message and command its sending; gives the row of snapshots.CONVERSATIONS, which is also its own.

    `conversation` is a row of the table, held open. Raises WindowClosed, SendQueueFull, MessageNotFound and the errors
    of files.
    """
    tenant_id, now = conversation["tenant_id"], datetime.now(UTC)
    wrote_at = conversation["customer_wrote_at"]
    if draft.content.type != "template" and convert.window_expires_at(wrote_at, now) is None:
        raise WindowClosed(wrote_at, convert.WINDOW)
    if draft.content.media_id:
        await _require_image(tx, tenant_id, draft.content.media_id)
    wamid = await _wamid_to_quote(tx, conversation, draft.reply_to_message_id) if draft.reply_to_message_id else None
    await queues.take_place(tx, tenant_id, conversation["phone_number_id"])
    row = await _store(tx, conversation, draft, wamid)
    command = Command(row["id"], tenant_id, conversation["phone_number_id"], conversation["contact_id"])
    happened = [*events.of_messages(events.QUEUED, [row]), *events.of_conversations([row], now)]
    scope = placements.scope_of(tenant_id, row["isolation"])
    sent = send_commands.outgoing(command, lane="live", partitions=queues.partitions, scope=scope)
    await outbox.add(tx, [sent, *events.leaving(happened)])
    return row


async def _store(tx: Tx, conversation: Row, draft: Draft, wamid: str | None) -> Row:
    # Made while the conversation is held, so that ids and times grow in the order in which messages appear in it.
    message_id, content = new_id(), draft.content
    row = await tx.fetchrow(
        _QUEUE,
        conversation["tenant_id"],
        conversation["id"],
        message_id,
        content.type,
        content.body,
        None if content.content is None else json.dumps(content.content),
        content.media_id,
        draft.reply_to_message_id,
        wamid,
        draft.sender_user_id,
        draft.request_id,
        time_of(message_id),
    )
    assert row is not None, "the conversation is held"
    if draft.request_id:
        await tx.execute(_ADD_REQUEST, conversation["tenant_id"], draft.request_id, message_id, draft.fingerprint)
    return row


async def _wamid_to_quote(tx: Tx, conversation: Row, message_id: uuid.UUID) -> str:
    wamid = await tx.fetchval(_WAMID, conversation["tenant_id"], message_id, conversation["id"])
    if not wamid:
        raise MessageNotFound.to_quote(message_id)
    return str(wamid)


async def _require_image(tx: Tx, tenant_id: uuid.UUID, media_id: uuid.UUID) -> None:
    """A file that was uploaded whole and that Meta takes as an image."""
    row = await tx.fetchrow(_FILE, tenant_id, media_id)
    if row is None or row["direction"] != "outbound":
        raise MediaNotFound.to_send(media_id)
    if row["state"] != "ready":
        raise MediaNotReady(row["state"])
    if row["mime_type"] not in media_types.TO_SEND_AS_IMAGE:
        raise MediaTypeUnsupported("image.mediaId", media_types.TO_SEND_AS_IMAGE)
    if row["size_bytes"] > media_types.IMAGE_BYTES_MAX:
        raise MediaTooLarge("image.mediaId", media_types.IMAGE_BYTES_MAX)
