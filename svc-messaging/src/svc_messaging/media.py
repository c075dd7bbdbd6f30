"""Files of messages: taken in whole or not at all, kept in chunks, given out in order."""

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Self

from kit import outbox
from kit.db import Row, Tx
from kit.ids import new_id
from svc_messaging import events, media_types
from svc_messaging.errors import (
    MediaExpired,
    MediaIncomplete,
    MediaNotFailed,
    MediaNotFound,
    MediaNotReady,
    MediaTooLarge,
    MediaTypeMismatch,
    MediaTypeUnsupported,
)

CHUNK_BYTES = 256 * 1024
META_KEEPS = timedelta(days=7)
"""A customer's file."""

# What one statement carries.
_CHUNKS_AT_ONCE = 8
_IN_MEMORY_BYTES = 1024 * 1024

_GET = "SELECT * FROM media WHERE tenant_id = $1 AND id = $2"
_ADD = """
    INSERT INTO media (tenant_id, id, direction, state, mime_type, filename, size_bytes, sha256)
    VALUES ($1, $2, 'outbound', 'ready', $3, $4, $5, $6)
    RETURNING *
"""
_ADD_CHUNKS = """
    INSERT INTO media_chunks (tenant_id, media_id, number, data)
    SELECT $1, $2, number, data FROM unnest($3::integer[], $4::bytea[]) AS chunk (number, data)
"""
_CHUNKS = """
    SELECT data FROM media_chunks WHERE tenant_id = $1 AND media_id = $2 AND number >= $3 ORDER BY number LIMIT $4
"""
# Held, so that of two who ask at once one does.
_HOLD = "SELECT *, now() - created_at AS age FROM media WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE"
# The notification wakes the sender, which fetches.
_RETRY = """
    WITH media AS (
        UPDATE media SET state = 'pending', failure = '', attempts = 0, next_attempt_at = now()
        WHERE tenant_id = $1 AND id = $2
        RETURNING *
    )
    SELECT media.*, pg_notify('media', '') FROM media
"""


class Upload:
    """A file on its way in.

    Its bytes wait in a nameless temporary file: no transaction stays open while they come, and of an upload that ends
    early nothing is left, also when this process dies.
    """

    def __init__(self, mime_type: str, filename: str) -> None:
        """Raises MediaTypeUnsupported."""
        found = media_types.find(mime_type)
        if found is None:
            raise MediaTypeUnsupported("description.mimeType", media_types.TYPES)
        self.type = found
        self.filename = filename
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._bytes = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    @property
    def sha256(self) -> str:
        """Lower-case hex."""
        return self._digest.hexdigest()

    def add(self, data: bytes) -> None:
        """Take the next bytes. Raises MediaTooLarge and MediaTypeMismatch as soon as they are certain."""
        self.size_bytes += len(data)
        if self.size_bytes > self.type.max_bytes:
            raise MediaTooLarge("chunk", self.type.max_bytes)
        if len(self._head) < media_types.HEAD_BYTES:
            self._head += data[: media_types.HEAD_BYTES - len(self._head)]
            if len(self._head) == media_types.HEAD_BYTES:
                self._require_type()
        self._digest.update(data)
        self._bytes.write(data)

    def end(self, *, size_bytes: int) -> None:
        """No more bytes come; so many should have. Raises MediaIncomplete and MediaTypeMismatch."""
        if not self.size_bytes or self.size_bytes != size_bytes:
            raise MediaIncomplete
        self._require_type()

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, as they are stored."""
        self._bytes.seek(0)
        while chunk := self._bytes.read(CHUNK_BYTES):
            yield chunk

    def _require_type(self) -> None:
        if not self.type.begins(self._head):
            raise MediaTypeMismatch(self.type.mime_type)


async def store(tx: Tx, tenant_id: uuid.UUID, upload: Upload) -> Row:
    """Keep an upload that has ended, ready to be sent."""
    media_id = new_id()
    row = await tx.fetchrow(
        _ADD, tenant_id, media_id, upload.type.mime_type, upload.filename, upload.size_bytes, upload.sha256
    )
    assert row is not None, "an insert gives its row"
    chunks = enumerate(upload.chunks())
    while some := list(islice(chunks, _CHUNKS_AT_ONCE)):
        numbers, data = [number for number, _ in some], [each for _, each in some]
        await tx.execute(_ADD_CHUNKS, tenant_id, media_id, numbers, data)
    return row


async def get(tx: Tx, tenant_id: uuid.UUID, media_id: uuid.UUID) -> Row:
    """Raises MediaNotFound."""
    row = await tx.fetchrow(_GET, tenant_id, media_id)
    if row is None:
        raise MediaNotFound.in_workspace(media_id)
    return row


async def get_ready(tx: Tx, tenant_id: uuid.UUID, media_id: uuid.UUID) -> Row:
    """Raises MediaNotFound and MediaNotReady."""
    row = await get(tx, tenant_id, media_id)
    if row["state"] != "ready":
        raise MediaNotReady(row["state"])
    return row


async def chunks(tx: Tx, tenant_id: uuid.UUID, media_id: uuid.UUID, *, first: int, most: int) -> list[bytes]:
    """Chunks from the one numbered `first` on; empty after the last one."""
    rows = await tx.fetch(_CHUNKS, tenant_id, media_id, first, most)
    return [row["data"] for row in rows]


async def retry(tx: Tx, tenant_id: uuid.UUID, media_id: uuid.UUID) -> Row:
    """Ask for a failed file once more. Raises MediaNotFound, MediaNotFailed and MediaExpired."""
    held = await tx.fetchrow(_HOLD, tenant_id, media_id)
    if held is None:
        raise MediaNotFound.in_workspace(media_id)
    if held["state"] != "failed":
        raise MediaNotFailed(held["state"])
    if held["age"] > META_KEEPS:
        raise MediaExpired
    row = await tx.fetchrow(_RETRY, tenant_id, media_id)
    assert row is not None, "the file is held"
    if row["message_id"]:
        await outbox.add(tx, await events.messages_updated(tx, [(tenant_id, row["message_id"])]))
    return row
