"""The sender process: partitions of the SEND stream, one number after the other handed to its own sender."""

import asyncio
import contextlib
import math
import time
import uuid
from collections import deque
from datetime import UTC, datetime

import structlog
from nats.aio.msg import Msg
from prometheus_client import Gauge

from kit import events as cloud_events
from kit import streams, telemetry
from kit.bus import Bus, Puller
from kit.db import Database, as_app_error
from kit.ids import time_of
from kit.partitions import name_of
from kit.principal import Principal
from svc_messaging import placements, send_commands
from svc_messaging.abandoned import mark_unknown
from svc_messaging.sender import claims, taking_over
from svc_messaging.sender.credentials import CredentialsCache
from svc_messaging.sender.lanes import Queued
from svc_messaging.sender.numbers import NumberSender
from svc_messaging.sender.parts import Parts
from svc_messaging.sender.taking_over import Partition

log = structlog.get_logger()

LANES = ("live", "bulk")
_RECHECK_SECONDS = 0.25
_TELL_SECONDS = 5.0
_MESSAGES_MAX = 100
_AT_ONCE_MAX = 4
"""Messages taken in without a pause; a hundred of them hold ten thousand commands, and sends fall due meanwhile."""
# Of the consumers of one tenant's partitions, when nobody asks them any more: it has moved back, or is gone. What is
# commanded there after that waits in the stream for the next ones.
_KEPT_SECONDS = 24 * 3600.0
_UNACKNOWLEDGED_MAX = 5000
"""Messages of one partition and lane; they are acknowledged as often as the lease is looked at."""

_oldest = Gauge("aerostic_send_oldest_seconds", "Age of the oldest message that only waits for its turn", ["partition"])


class PartitionWorker:
    """Works on one partition while this process holds its lease."""

    def __init__(self, partition: Partition, *, bus: Bus, parts: Parts) -> None:
        self._partition = partition
        self._name = name_of(partition.number, partition.scope)
        self._bus = bus
        self._parts = parts
        self._numbers: dict[str, NumberSender] = {}
        self._owned_since = time.monotonic()
        self._stop = asyncio.Event()
        self._received: deque[tuple[float, str]] = deque()
        """Messages to acknowledge, by their reply subjects, and when they came at the latest."""
        self._connections = bus.reconnects
        self._is_unsure = False
        """Whether commands of numbers that are not known here may have been lost."""

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._take_over(tasks)
            pullers = [await self._puller(lane) for lane in LANES]
            pulls = [
                tasks.create_task(self._pull(puller, lane, tasks)) for puller, lane in zip(pullers, LANES, strict=True)
            ]
            await self._until_stopped(stop, tasks)
            self._stop.set()
            for number in self._numbers.values():
                number.lanes.wake()
            for puller in pullers:
                puller.end()
            await asyncio.wait(pulls)
            await self._acknowledge()
            for puller in pullers:
                await puller.close()
        # Every delivery has ended; what they found out must be on record before another process may take over.
        await self._parts.recorder.settled()

    async def _take_over(self, tasks: asyncio.TaskGroup) -> None:
        """Settle what an owner before us left behind. What waits is in the table, with a command or without."""
        async with self._parts.db.begin(self._parts.worker, first=placements.HOLD) as tx:
            numbers = await taking_over.waiting_numbers(tx, self._partition)
            orphans = await taking_over.orphans(tx, self._partition, numbers)
            await mark_unknown(tx, orphans)
        if numbers:
            log.info("partition_taken_over", partition=self._name, unknown=len(orphans), numbers=len(numbers))
        self._look_at(numbers, tasks)

    def _look_at(self, numbers: dict[str, set[uuid.UUID]], tasks: asyncio.TaskGroup) -> None:
        for number, tenants in numbers.items():
            self._number(number, tasks).look_anew(tenants)

    async def _until_stopped(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        told_at = -math.inf
        try:
            while not stop.is_set():
                self._notice_reconnects()
                if self._is_unsure:
                    await self._look_for_lost(tasks)
                await self._acknowledge()
                if time.monotonic() - told_at > _TELL_SECONDS:
                    told_at = time.monotonic()
                    self._tell_oldest()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _RECHECK_SECONDS)
        finally:
            # Whoever takes over tells it from now on.
            with contextlib.suppress(KeyError):
                _oldest.remove(self._name)

    def _notice_reconnects(self) -> None:
        """Whenever the connection to NATS comes back, commands may have been lost on their way: they would be delivered
        again only after the ack wait, and younger ones of their contacts must not go before.
        """
        if self._connections != self._bus.reconnects:
            self._connections, self._is_unsure = self._bus.reconnects, True
            for number in self._numbers.values():
                number.look_anew(())

    async def _look_for_lost(self, tasks: asyncio.TaskGroup) -> None:
        connections = self._connections
        try:
            async with self._parts.db.begin(self._parts.worker, first=placements.HOLD) as tx:
                numbers = await taking_over.waiting_numbers(tx, self._partition)
        except Exception as error:
            if as_app_error(error) is None:
                raise
            log.warning("partition_not_recovered", partition=self._name, error=repr(error))
        else:
            self._is_unsure = connections != self._connections
            self._look_at(numbers, tasks)

    async def _acknowledge(self) -> None:
        """Acknowledge what came before the lease was last known to be held. Whoever holds it next reads the table after
        that, and finds those messages there.
        """
        held_at = self._parts.lease_held_at()
        while self._received and self._received[0][0] < held_at:
            await self._bus.acknowledge(self._received.popleft()[1])

    def _tell_oldest(self) -> None:
        found = [oldest for number in self._numbers.values() if (oldest := number.lanes.oldest()) is not None]
        age = (datetime.now(UTC) - time_of(min(found))).total_seconds() if found else 0.0
        _oldest.labels(self._name).set(max(0.0, age))

    async def _puller(self, lane: str) -> Puller:
        return await self._bus.puller(
            streams.SEND,
            f"sender-{lane}-{self._name}",
            f"send.{lane}.{self._name}",
            limit=_MESSAGES_MAX,
            unacknowledged_max=_UNACKNOWLEDGED_MAX,
            inactive_seconds=_KEPT_SECONDS if self._partition.scope else None,
        )

    async def _pull(self, puller: Puller, lane: str, tasks: asyncio.TaskGroup) -> None:
        while not self._stop.is_set():
            messages = await puller.batch(_AT_ONCE_MAX, seconds=0.5)
            self._notice_reconnects()
            for message in messages:
                await self._enqueue(message, lane, tasks)

    async def _enqueue(self, message: Msg, lane: str, tasks: asyncio.TaskGroup) -> None:
        try:
            commands = send_commands.decode(message.data)
        except send_commands.CommandMalformed as error:
            await self._bus.bury(message, consumer=f"sender-{lane}", reason="malformed", detail=str(error))
            return
        traceparent = (message.headers or {}).get(telemetry.HEADER, "")
        for command in commands:
            self._number(command.phone_number_id, tasks).add(Queued(command, lane, traceparent))
        self._received.append((time.monotonic(), message.reply))

    def _number(self, phone_number_id: str, tasks: asyncio.TaskGroup) -> NumberSender:
        sender = self._numbers.get(phone_number_id)
        if sender is None:
            sender = self._numbers[phone_number_id] = NumberSender(
                phone_number_id, self._parts, scope=self._partition.scope, owned_since=self._owned_since
            )
            if self._is_unsure:
                sender.look_anew(())
            tasks.create_task(sender.run(self._stop))
        return sender


async def release_due_retries(db: Database, worker: Principal, partitions: int, stop: asyncio.Event) -> None:
    """Command the messages whose retry is due, twice a second. Any number of processes may do it at once."""
    while not stop.is_set():
        released = 0
        try:
            async with db.begin(worker) as tx:
                released = await claims.release_due(tx, partitions=partitions, most=500)
        except Exception as error:
            if as_app_error(error) is None:
                raise
            log.warning("retries_wait_for_database", error=repr(error))
        if released < 500:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)


async def forget_changed_credentials(bus: Bus, cache: CredentialsCache, stop: asyncio.Event) -> None:
    """Drop kept tokens when svc-tenants says that an account or a workspace changed."""

    async def changed(message: Msg) -> None:
        for event in cloud_events.decode(message.headers, message.data):
            cache.forget_tenant(event.tenant_id)

    await bus.follow("events.tenants.*.*.*", changed, missed=cache.forget_all, stop=stop)
