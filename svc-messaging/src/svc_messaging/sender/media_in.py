"""Inbound files: fetch them from Meta into our own storage, apart from the messages that brought them.

A message is stored before its file is here. Fetching is a task of its own with its own retries, and its result swaps
the placeholder by an event.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog

from kit import outbox
from kit.db import Database, Row, as_app_error
from kit.http_pool import AnswerLost, NotReached
from kit.principal import Principal
from svc_messaging import events
from svc_messaging.sender.credentials import Credentials, CredentialsCache, CredentialsUnavailable, NotConnected
from svc_messaging.sender.graph import DownloadRefused, DownloadTooLarge, GraphClient

log = structlog.get_logger()

_PARALLEL = 8
_POLL_SECONDS = 2.0
_ATTEMPTS_MAX = 12
_CHUNK_BYTES = 256 * 1024
_SIZE_MAX = 100 * 1024 * 1024
"""Meta's own limit of inbound files."""

# A claimed row is not due again for as long as a fetch may take, so a fetcher that dies delays it by that much.
_CLAIM = """
    UPDATE media SET attempts = attempts + 1, next_attempt_at = now() + interval '2 minutes'
    WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM media
        WHERE state = 'pending' AND direction = 'inbound' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING tenant_id, id, message_id, phone_number_id, meta_media_id, attempts
"""
_CLEAR = "DELETE FROM media_chunks WHERE tenant_id = $1 AND media_id = $2"
# Nothing where the file's row is gone meanwhile, with its workspace.
_STORE_CHUNK = """
    INSERT INTO media_chunks (tenant_id, media_id, number, data)
    SELECT tenant_id, id, $3, $4 FROM media WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE
"""
_READY = """
    UPDATE media SET state = 'ready', failure = '', size_bytes = $3, sha256 = $4, mime_type = $5, next_attempt_at = NULL
    WHERE tenant_id = $1 AND id = $2
"""
_FAILED = """
    UPDATE media SET state = 'failed', failure = $3, next_attempt_at = NULL WHERE tenant_id = $1 AND id = $2
"""
_LATER = """
    UPDATE media SET failure = $3, next_attempt_at = now() + $4::interval WHERE tenant_id = $1 AND id = $2
"""


@dataclass(frozen=True, slots=True)
class Problem(Exception):
    """Why a file did not come, and whether another try may bring it."""

    text: str
    is_final: bool = False


class MediaFetcher:
    """Fetches pending files, some at a time."""

    def __init__(self, db: Database, worker: Principal, graph: GraphClient, credentials: CredentialsCache) -> None:
        self._db = db
        self._worker = worker
        self._graph = graph
        self._credentials = credentials

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        wake = asyncio.Event()
        listener = await asyncpg.connect(dsn, timeout=5, server_settings={"application_name": "media fetcher"})
        await listener.add_listener("media", lambda *_: wake.set())
        try:
            while not stop.is_set():
                wake.clear()
                if await self._fetch_some():
                    continue
                waits = [asyncio.ensure_future(event.wait()) for event in (wake, stop)]
                await asyncio.wait(waits, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        finally:
            await listener.close(timeout=2)

    async def _fetch_some(self) -> bool:
        """Fetch what is due. False when nothing is."""
        try:
            async with self._db.begin(self._worker) as tx:
                rows = await tx.fetch(_CLAIM, _PARALLEL)
            await asyncio.gather(*(self._fetch(row) for row in rows))
        except Exception as error:
            if as_app_error(error) is None:
                raise
            log.warning("media_waits_for_database", error=repr(error))
            return False
        return bool(rows)

    async def _fetch(self, media: Row) -> None:
        try:
            await self._download(media)
        except Problem as problem:
            await self._note(media, problem)
        else:
            log.info("media_fetched", tenant=str(media["tenant_id"]), media=str(media["id"]))

    async def _download(self, media: Row) -> None:
        """Store the bytes as they come, then say that they are here. No transaction waits for the network: until the
        row is `ready` nobody reads its bytes, and the next try begins anew.
        """
        key = (media["tenant_id"], media["id"])
        credentials = await self._sending_credentials(media)
        described = await self._describe(media, credentials)
        async with self._db.begin(self._worker) as tx:
            await tx.execute(_CLEAR, *key)
        digest, size, count = hashlib.sha256(), 0, 0
        async for data in _chunks(self._bytes(described["url"], credentials)):
            digest.update(data)
            async with self._db.begin(self._worker) as tx:
                await tx.execute(_STORE_CHUNK, *key, count, data)
            size, count = size + len(data), count + 1
        _compare(described.get("sha256"), digest.hexdigest())
        async with self._db.begin(self._worker) as tx:
            await tx.execute(_READY, *key, size, digest.hexdigest(), described["mime_type"])
            await _announce(tx, media)

    async def _bytes(self, url: str, credentials: Credentials) -> AsyncIterator[bytes]:
        try:
            async for part in self._graph.download(url, token=credentials.access_token, most_bytes=_SIZE_MAX):
                yield part
        except DownloadRefused as error:
            raise Problem(f"Meta refused the file with HTTP {error.status}.") from error
        except DownloadTooLarge as error:
            raise Problem("The file is larger than 100 MB.", is_final=True) from error
        except NotReached as error:
            raise Problem(f"Meta could not be reached ({error}).") from error

    async def _describe(self, media: Row, credentials: Credentials) -> dict[str, str]:
        path = f"{media['meta_media_id']}?phone_number_id={media['phone_number_id']}"
        try:
            answer = await self._graph.get(path, token=credentials.access_token)
        except (NotReached, AnswerLost) as error:
            raise Problem(f"Meta could not be reached ({error}).") from error
        if answer.status == 200 and isinstance(answer.body.get("url"), str):
            return answer.body
        message = (answer.error or {}).get("message") or f"HTTP {answer.status}"
        raise Problem(f"Meta: {message}")

    async def _sending_credentials(self, media: Row) -> Credentials:
        try:
            credentials = await self._credentials.get(media["phone_number_id"])
        except NotConnected as error:
            raise Problem("The number is no longer connected.", is_final=True) from error
        except CredentialsUnavailable as error:
            raise Problem("The number's credentials are not available now.") from error
        if credentials.tenant_id != media["tenant_id"]:
            raise Problem("The number now belongs to another workspace.", is_final=True)
        return credentials

    async def _note(self, media: Row, problem: Problem) -> None:
        key = (media["tenant_id"], media["id"])
        async with self._db.begin(self._worker) as tx:
            if problem.is_final or media["attempts"] >= _ATTEMPTS_MAX:
                await tx.execute(_FAILED, *key, problem.text)
                await _announce(tx, media)
            else:
                # Some 2 hours in all, each wait twice the one before up to 30 minutes.
                await tx.execute(_LATER, *key, problem.text, timedelta(seconds=min(1800, 2 ** media["attempts"])))
        log.warning("media_not_fetched", media=str(media["id"]), attempts=media["attempts"], problem=problem.text)


async def _chunks(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of one size, as they are stored."""
    rest = b""
    async for part in parts:
        rest += part
        while len(rest) >= _CHUNK_BYTES:
            yield rest[:_CHUNK_BYTES]
            rest = rest[_CHUNK_BYTES:]
    if rest:
        yield rest


async def _announce(tx: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", media: Row) -> None:
    message_id: uuid.UUID | None = media["message_id"]
    if message_id is not None:
        await outbox.add(tx, await events.messages_updated(tx, [(media["tenant_id"], message_id)]))


def _compare(expected: str | None, found: str) -> None:
    if expected and len(expected) == len(found) and expected.lower() != found:
        raise Problem("The bytes differ from Meta's checksum.")
