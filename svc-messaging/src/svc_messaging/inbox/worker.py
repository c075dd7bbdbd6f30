"""Works on one partition of the journal: a batch of envelopes becomes one transaction, then they are acknowledged."""

import asyncio
import contextlib
import time
from collections import Counter as Counted
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import nats.errors
import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from kit import envelopes, telemetry
from kit.bus import Bus, Msg, Puller
from kit.db import Database, as_app_error
from kit.metrics import SECONDS
from kit.principal import Principal
from kit.streams import META
from svc_messaging import erasures
from svc_messaging.inbox import parse, store
from svc_messaging.inbox.batch import Batch
from svc_messaging.inbox.in_hand import acknowledge, envelopes_in_hand
from svc_messaging.inbox.items import Told, Unusable, Written
from svc_messaging.inbox.numbers import Numbers, TenantsUnavailable
from svc_messaging.inbox.people import Contended
from svc_messaging.inbox.store import REFUSALS

log = structlog.get_logger()

_ACK_WAIT_SECONDS = 30
_ENVELOPES_MAX = 64
_ITEMS_MAX = 2000
# From one transaction to the next, so that a load does not make one of each envelope: most of its cost is the same for
# one item and for a hundred. Under a high load that counts for more, below it how soon a message is there. A lone
# envelope waits for nothing.
_GATHER_SECONDS = 0.01
_MANY_ITEMS = 25
_GATHER_MANY_SECONDS = 0.02
_BACK_OFF_SECONDS = (0.1, 0.3, 1.0, 3.0)

_items = Counter("aerostic_inbox_items_total", "Webhook items taken in", ["kind"])
_parked = Counter("aerostic_inbox_parked_total", "Webhook items set aside, by reason", ["reason"])
_batch_items = Histogram("aerostic_inbox_batch_items", "Items of a transaction", buckets=(1, 3, 10, 30, 100, 300, 1000))
_batch_seconds = Histogram("aerostic_inbox_batch_seconds", "Duration of a transaction", buckets=SECONDS)
_lag = Histogram(
    "aerostic_inbox_lag_seconds", "Arrival of a transaction's oldest webhook to the commit", buckets=SECONDS
)
_pending = Gauge("aerostic_inbox_pending", "Envelopes that wait in the journal", ["partition"])
_KINDS = {Written: "message", Told: "status", Unusable: "unusable"}


class Taken(msgspec.Struct, frozen=True):
    """An item, and the place in the journal and the trace that it came with."""

    item: Written | Told | Unusable
    sequence: int
    traceparent: str


class PartitionWorker:
    """Takes a partition's envelopes in, in order, while this process holds its lease."""

    def __init__(
        self,
        partition: str,
        *,
        db: Database,
        worker: Principal,
        bus: Bus,
        numbers: Numbers,
        kept_seconds: float | None = None,
    ) -> None:
        """`partition`: its name. `kept_seconds`: for how long its consumer is kept while nobody works on it; None keeps
        it for ever.
        """
        self._partition = partition
        self._kept_seconds = kept_seconds
        self._db = db
        self._worker = worker
        self._bus = bus
        self._numbers = numbers

    async def run(self, stop: asyncio.Event) -> None:
        durable = f"inbox-{self._partition}"
        puller = await self._bus.puller(
            META,
            durable,
            f"meta.{self._partition}",
            limit=2 * _ENVELOPES_MAX,
            ack_wait_seconds=_ACK_WAIT_SECONDS,
            inactive_seconds=self._kept_seconds,
        )
        ending = asyncio.create_task(_end_at(stop, puller))
        try:
            seen = self._bus.reconnects
            await self._take_over(durable, stop)
            while not stop.is_set():
                messages = await puller.batch(_ENVELOPES_MAX, seconds=0.5)
                if seen != self._bus.reconnects:
                    # What was on its way when the connection broke was handed out, too, and comes before these.
                    seen = await self._recover(durable, stop)
                if messages and not stop.is_set():
                    began = time.monotonic()
                    _pending.labels(self._partition).set(messages[-1].metadata.num_pending)
                    is_busy = await self._take_in(messages, stop) >= _MANY_ITEMS
                    gather_seconds = _GATHER_MANY_SECONDS if is_busy else _GATHER_SECONDS
                    await asyncio.sleep(max(0.0, began + gather_seconds - time.monotonic()))
        finally:
            ending.cancel()
            # Whoever takes over tells what waits from now on.
            with contextlib.suppress(KeyError):
                _pending.remove(self._partition)
            await puller.close()

    async def _recover(self, durable: str, stop: asyncio.Event) -> int:
        """Take over from ourselves, however often the connection breaks. Gives the number of the last connection."""
        while True:
            connection = self._bus.reconnects
            try:
                await self._take_over(durable, stop)
            except (nats.errors.Error, TimeoutError) as error:
                log.warning("partition_not_recovered", partition=self._partition, error=repr(error))
                await _sleep(stop, _BACK_OFF_SECONDS[0])
            else:
                return connection
            if stop.is_set():
                return connection

    async def _take_over(self, durable: str, stop: asyncio.Event) -> None:
        """Store what a predecessor that died had in hand; that some of it is stored already changes nothing."""
        taken: list[Taken] = []
        sequences: list[int] = []
        async for sequence, data in envelopes_in_hand(self._bus, self._partition, durable):
            try:
                taken += _items_of(data, sequence)
            except envelopes.EnvelopeMalformed:
                continue  # buried when it comes again
            sequences.append(sequence)
            if len(taken) >= _ITEMS_MAX:
                if not await self._store_all(taken, stop):
                    return
                await acknowledge(self._bus, durable, sequences)
                taken, sequences = [], []
        if await self._store_all(taken, stop):
            await acknowledge(self._bus, durable, sequences)

    async def _take_in(self, messages: Sequence[Msg], stop: asyncio.Event) -> int:
        """Gives how many items it was."""
        taken: list[Taken] = []
        good: list[Msg] = []
        for message in messages:
            try:
                taken += _items_of(message.data, message.metadata.sequence.stream)
                good.append(message)
            except envelopes.EnvelopeMalformed as error:
                await self._bus.bury(message, consumer="inbox", reason="malformed", detail=str(error))
        if await self._store_all(taken, stop):
            for message in good:
                await message.ack()
        return len(taken)

    async def _store_all(self, taken: Sequence[Taken], stop: asyncio.Event) -> bool:
        """False when told to stop before all is stored: it is not acknowledged, so it comes again."""
        for start in range(0, len(taken), _ITEMS_MAX):
            if not await self._store_patiently(taken[start : start + _ITEMS_MAX], stop):
                return False
        return True

    async def _store_patiently(self, taken: Sequence[Taken], stop: asyncio.Event) -> bool:
        """Store, however long the database or svc-tenants is away. False when told to stop meanwhile."""
        tries = 0
        while True:
            try:
                await self._store(taken)
            except Contended:
                log.info("inbox_contended", partition=self._partition)
            except Exception as error:
                # A workspace that was marked as erased in this very moment is left out the next time.
                known = as_app_error(error) or erasures.as_app_error(error)
                if known is None and not isinstance(error, TenantsUnavailable):
                    raise
                log.warning("inbox_waits", partition=self._partition, items=len(taken), error=repr(error))
                await _sleep(stop, _BACK_OFF_SECONDS[min(tries, len(_BACK_OFF_SECONDS) - 1)])
                tries += 1
                if stop.is_set():
                    return False
            else:
                return True

    async def _store(self, taken: Sequence[Taken]) -> None:
        """One transaction. What the database refuses is narrowed down to the single item, which is parked."""
        if not taken:
            return
        owners = await self._numbers.owners({each.item.number for each in taken if each.item.number})
        batch = Batch(owners)
        for each in taken:
            batch.add(each.item, each.sequence)
        try:
            await self._write(batch, next((each.traceparent for each in taken if each.traceparent), ""))
        except REFUSALS as error:
            if len(taken) == 1:
                await self._park(taken[0], error)
                return
            log.warning("inbox_narrows_down", partition=self._partition, items=len(taken), error=repr(error))
            middle = len(taken) // 2
            await self._store(taken[:middle])
            await self._store(taken[middle:])
            return
        _count(taken)

    async def _write(self, batch: Batch, traceparent: str) -> None:
        parent = {telemetry.HEADER: traceparent} if traceparent else None
        size = len(batch.written) + len(batch.told) + len(batch.unusable)
        with telemetry.span("inbox store", parent=parent, kind=SpanKind.CONSUMER, items=size), _batch_seconds.time():
            async with self._db.begin(self._worker) as tx:
                aside = await store.write(tx, batch)
        _batch_items.observe(size)
        for reason in aside.new_reasons:
            _parked.labels(reason).inc()
            log.warning("webhook_item_parked", partition=self._partition, reason=reason)

    async def _park(self, taken: Taken, error: Exception) -> None:
        batch = Batch({})
        batch.add(parse.of_poison(taken.item, f"{type(error).__name__}: {error}"), taken.sequence)
        await self._write(batch, taken.traceparent)
        _items.labels("poison").inc()


async def _end_at(stop: asyncio.Event, puller: Puller) -> None:
    """Nobody waits for envelopes any longer once told to stop."""
    await stop.wait()
    puller.end()


def _items_of(data: bytes, sequence: int) -> Iterator[Taken]:
    """The items of an envelope. Raises EnvelopeMalformed."""
    for entry in envelopes.decode(data):
        received_at = datetime.fromtimestamp(entry.received_at_ms / 1000, UTC)
        for item in parse.parse(entry.body, received_at):
            yield Taken(item, sequence, entry.traceparent)


def _count(taken: Sequence[Taken]) -> None:
    for kind, count in Counted(type(each.item) for each in taken).items():
        _items.labels(_KINDS[kind]).inc(count)
    oldest = min(each.item.received_at for each in taken)
    _lag.observe(max(0.0, (datetime.now(UTC) - oldest).total_seconds()))


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
