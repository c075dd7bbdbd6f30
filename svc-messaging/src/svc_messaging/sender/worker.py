"""The sender process: partitions of the SEND stream, one number after the other handed to its own sender."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.msg import Msg

from kit import events as cloud_events
from kit import streams, telemetry
from kit.bus import Bus, Puller
from kit.db import Database, as_app_error
from kit.partitions import name_of
from kit.principal import Principal
from svc_messaging import placements, send_commands
from svc_messaging.abandoned import mark_unknown
from svc_messaging.sender import claims, taking_over
from svc_messaging.sender.credentials import CredentialsCache
from svc_messaging.sender.lanes import Queued
from svc_messaging.sender.numbers import NumberSender, Parts
from svc_messaging.sender.taking_over import Partition, Waiting

log = structlog.get_logger()

LANES = ("live", "bulk")
_RECHECK_SECONDS = 0.25
_MESSAGES_MAX = 100
_AT_ONCE_MAX = 4
"""Messages taken in without a pause; a hundred of them hold ten thousand commands, and sends fall due meanwhile."""
_IN_MEMORY_MAX = 2000
"""Commands of one partition and lane that are held in memory; the rest waits in the stream."""


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

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._take_over(tasks)
            pullers = [await self._puller(lane) for lane in LANES]
            pulls = [
                tasks.create_task(self._pull(puller, lane, tasks)) for puller, lane in zip(pullers, LANES, strict=True)
            ]
            await self._until_stopped(stop, tasks)
            self._stop.set()
            await asyncio.wait(pulls)
            for puller in pullers:
                await puller.close()
        # Every delivery has ended; what they found out must be on record before another process may take over.
        await self._parts.recorder.settled()

    async def _take_over(self, tasks: asyncio.TaskGroup) -> None:
        """Settle what an owner before us left behind, and do not wait for its unacknowledged commands."""
        async with self._parts.db.begin(self._parts.worker, first=placements.HOLD) as tx:
            orphans = await taking_over.orphans(tx, self._partition)
            await mark_unknown(tx, orphans)
            waiting = await taking_over.waiting(tx, self._partition, most=_IN_MEMORY_MAX)
        if orphans or waiting:
            log.info("partition_taken_over", partition=self._name, unknown=len(orphans), waiting=len(waiting))
        self._add(waiting, tasks)

    async def _until_stopped(self, stop: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        """Wait; whenever the connection to NATS comes back, look for commands that were lost on their way: they would
        be delivered again only after the ack wait.
        """
        seen = self._bus.reconnects
        while not stop.is_set():
            if seen != self._bus.reconnects:
                try:
                    async with self._parts.db.begin(self._parts.worker, first=placements.HOLD) as tx:
                        waiting = await taking_over.waiting(tx, self._partition, most=_IN_MEMORY_MAX)
                except Exception as error:
                    if as_app_error(error) is None:
                        raise
                    log.warning("partition_not_recovered", partition=self._name, error=repr(error))
                else:
                    seen = self._bus.reconnects
                    self._add(waiting, tasks)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RECHECK_SECONDS)

    def _add(self, waiting: list[Waiting], tasks: asyncio.TaskGroup) -> None:
        by_number: dict[str, list[Waiting]] = {}
        for each in waiting:
            by_number.setdefault(each.command.phone_number_id, []).append(each)
        for number, found in by_number.items():
            self._number(number, tasks).queue(found)

    async def _puller(self, lane: str) -> Puller:
        return await self._bus.puller(
            streams.SEND,
            f"sender-{lane}-{self._name}",
            f"send.{lane}.{self._name}",
            limit=_MESSAGES_MAX,
        )

    async def _pull(self, puller: Puller, lane: str, tasks: asyncio.TaskGroup) -> None:
        while not self._stop.is_set():
            if sum(len(number.lanes) for number in self._numbers.values()) >= _IN_MEMORY_MAX:
                await asyncio.sleep(0.05)
                continue
            for message in await puller.batch(_AT_ONCE_MAX, seconds=0.5):
                await self._enqueue(message, lane, tasks)

    async def _enqueue(self, message: Msg, lane: str, tasks: asyncio.TaskGroup) -> None:
        try:
            commands = send_commands.decode(message.data)
        except send_commands.CommandMalformed as error:
            await self._bus.bury(message, consumer=f"sender-{lane}", reason="malformed", detail=str(error))
            return
        traceparent = (message.headers or {}).get(telemetry.HEADER, "")
        acknowledge = _after(len(commands), message.ack)
        for command in commands:
            self._number(command.phone_number_id, tasks).lanes.add(Queued(command, acknowledge, lane, traceparent))

    def _number(self, phone_number_id: str, tasks: asyncio.TaskGroup) -> NumberSender:
        sender = self._numbers.get(phone_number_id)
        if sender is None:
            sender = self._numbers[phone_number_id] = NumberSender(
                phone_number_id, self._parts, scope=self._partition.scope, owned_since=self._owned_since
            )
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


def _after(count: int, acknowledge: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """What acknowledges once it was called so many times: when every command of a message has its outcome."""
    left = count

    async def one_done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            await acknowledge()

    return one_done
