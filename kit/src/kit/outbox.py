"""The outbox: a change and what it publishes leave in one transaction.

`add` writes rows inside the business transaction; the relay publishes them in order and deletes each after its
acknowledgement. A crash between the two publishes a row again: the message id makes the stream store it once, and every
consumer is idempotent anyway.
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import nats.errors
import structlog
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError
from prometheus_client import Counter, Gauge

from kit.batch_publish import publish_batch
from kit.bus import Bus
from kit.db import Tx, wake_after_commit
from kit.leases import LeasePool
from kit.outgoing import Outgoing

log = structlog.get_logger()

_CHANNEL = "outbox"
_BATCH_ROWS = 500
# A batch takes about four disk flushes.
_TOGETHER_MIN = 4
_TOGETHER_BYTES_MAX = 4 * 1024 * 1024
# Whoever reads a joined message holds all of it, and gets all of it again when it dies.
_JOINED_BYTES_MAX = 16 * 1024
_POLL_SECONDS = 1.0
# The relay only deletes. A deletion that a power cut takes back is a row that is published again, as after any crash,
# so nobody has to wait for the disk.
_RELAY_SETTINGS = {"application_name": "outbox relay", "synchronous_commit": "off"}

_published = Counter("aerostic_outbox_published_total", "Outbox rows published")
_oldest = Gauge("aerostic_outbox_oldest_seconds", "Age of the oldest row that waits in the outbox")


async def add(tx: Tx, messages: Sequence[Outgoing]) -> None:
    """Write messages into the outbox; the relay is woken when the transaction has committed."""
    if not messages:
        return
    await tx.execute(
        "INSERT INTO outbox (message_id, subject, headers, data)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bytea[])",
        [message.id for message in messages],
        [message.subject for message in messages],
        [json.dumps(message.headers) for message in messages],
        [message.data for message in messages],
    )
    wake_after_commit(tx, _CHANNEL)


Join = Callable[[Sequence[bytes]], bytes]
"""The data of several messages of one subject, in order, as that of one."""

_NO_JOINS: Mapping[str, Join] = {}


class Relay:
    """Publishes the outbox of one database. Any number of processes may run one; a lease lets one work."""

    def __init__(self, dsn: str, bus: Bus, *, joins: Mapping[str, Join] = _NO_JOINS) -> None:
        """`joins`, by stream: how what waits for one subject becomes one message, since each costs the stream a disk
        flush. After a crash it may be joined otherwise and so be stored again: its readers must bear repetitions.
        """
        self._dsn = dsn
        self._bus = bus
        self._joins = joins

    async def run(self, stop: asyncio.Event) -> None:
        await LeasePool(self._dsn, "outbox", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        wake = asyncio.Event()
        connection = await asyncpg.connect(self._dsn, timeout=5, server_settings=_RELAY_SETTINGS)
        try:
            await connection.add_listener(_CHANNEL, lambda *_: wake.set())
            while not stop.is_set():
                wake.clear()
                if await self._publish_batch(connection):
                    continue
                stopping = asyncio.ensure_future(stop.wait())
                waking = asyncio.ensure_future(wake.wait())
                await asyncio.wait([stopping, waking], timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                waking.cancel()
        finally:
            await connection.close(timeout=2)

    async def _publish_batch(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Publish the oldest rows in order. False when nothing is left to do now."""
        rows = await connection.fetch(
            "SELECT id, message_id, subject, headers, data, extract(epoch FROM now() - created_at) AS age"
            f" FROM outbox ORDER BY id LIMIT {_BATCH_ROWS}"
        )
        _oldest.set(float(rows[0]["age"]) if rows else 0)
        if not rows:
            return False
        groups = list(_groups(_parcels(rows, self._joins)))
        published = await asyncio.gather(*(self._publish_group(group) for group in groups))
        outcomes = [outcome for group in published for outcome in group]
        parcels = [parcel for group in groups for parcel in group]
        sent = (each for each, outcome in zip(parcels, outcomes, strict=True) if not isinstance(outcome, Exception))
        done = [row_id for parcel in sent for row_id in parcel.row_ids]
        await connection.execute("DELETE FROM outbox WHERE id = ANY($1)", done)
        _published.inc(len(done))
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, (nats.errors.Error, APIError, TimeoutError, ConnectionError)):
                raise failure
        if failures:
            log.warning("outbox_publish_failed", rows=len(failures), error=repr(failures[0]))
            await asyncio.sleep(_POLL_SECONDS)
        return len(done) == _BATCH_ROWS or bool(failures)

    async def _publish_group(self, parcels: Sequence["_Parcel"]) -> Sequence[object]:
        """What became of each: an exception where it was not published."""
        if len(parcels) >= _TOGETHER_MIN:
            try:
                await self._bus.unless_broken(publish_batch(self._bus.client, [parcel.in_batch for parcel in parcels]))
            except APIError as error:
                # The stream has one of them already, after a crash; one by one it tells which.
                log.info("outbox_batch_refused", rows=len(parcels), error=repr(error))
            except (nats.errors.Error, NoStreamResponseError, TimeoutError, ConnectionError) as error:
                return [error] * len(parcels)
            else:
                return [None] * len(parcels)
        # All are written to one connection in order before the first answer comes back.
        return await asyncio.gather(*(self._publish(parcel) for parcel in parcels), return_exceptions=True)

    async def _publish(self, parcel: "_Parcel") -> None:
        await self._bus.publish(parcel.subject, parcel.data, headers=json.loads(parcel.headers), key=parcel.key)


class _Sent(NamedTuple):
    """A message as it travels in a batch."""

    subject: str
    data: bytes
    headers: dict[str, str]


class _Parcel(NamedTuple):
    """A message to publish, and the rows that it consists of."""

    row_ids: list[int]
    key: str
    subject: str
    headers: str
    data: bytes

    @property
    def in_batch(self) -> _Sent:
        return _Sent(self.subject, self.data, {**json.loads(self.headers), Header.MSG_ID.value: self.key})


def _parcels(rows: Sequence[asyncpg.Record], joins: Mapping[str, Join]) -> Iterator[_Parcel]:
    """Rows of a subject that may be joined stand where the first of them stood."""
    alike: dict[tuple[object, ...], list[list[asyncpg.Record]]] = {}
    for row in rows:
        # Headers carry a trace, which is each message's own.
        kind = (row["subject"], row["headers"]) if _stream(row) in joins else (row["id"],)
        lots = alike.setdefault(kind, [[]])
        if sum(len(each["data"]) for each in lots[-1]) + len(row["data"]) > _JOINED_BYTES_MAX:
            lots.append([])
        lots[-1].append(row)
    for lot in (lot for lots in alike.values() for lot in lots if lot):
        yield _parcel(lot, joins)


def _parcel(rows: Sequence[asyncpg.Record], joins: Mapping[str, Join]) -> _Parcel:
    first, ids = rows[0], [row["id"] for row in rows]
    if len(rows) == 1:
        return _Parcel(ids, str(first["message_id"]), first["subject"], first["headers"], first["data"])
    # Not the first one's key: the stream would take another lot that begins with it for this one, and forget the rest.
    key = str(uuid.uuid5(first["message_id"], " ".join(str(row["message_id"]) for row in rows)))
    data = joins[_stream(first)]([row["data"] for row in rows])
    return _Parcel(ids, key, first["subject"], first["headers"], data)


def _stream(row: asyncpg.Record) -> str:
    """The first word of a subject names it."""
    return str(row["subject"]).partition(".")[0]


def _groups(parcels: Iterator[_Parcel]) -> Iterator[list[_Parcel]]:
    """Messages of one stream, in order and bounded in bytes."""
    by_stream: dict[str, list[_Parcel]] = {}
    for parcel in parcels:
        by_stream.setdefault(parcel.subject.partition(".")[0], []).append(parcel)
    for whole in by_stream.values():
        group: list[_Parcel] = []
        size = 0
        for parcel in whole:
            size += len(parcel.data)
            if group and size > _TOGETHER_BYTES_MAX:
                yield group
                group, size = [], len(parcel.data)
            group.append(parcel)
        yield group
