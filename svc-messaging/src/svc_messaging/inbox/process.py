"""Wiring of the inbox process: what runs, and what they share."""

import asyncio

from kit import streams, watch
from kit.bus import Bus
from kit.db import Database
from kit.grpc_client import Channel
from kit.leases import LeasePool, StandIns
from kit.metrics import StatusServer
from kit.migrations import require_schema
from kit.outbox import Relay
from kit.partitions import name_of
from kit.principal import Principal
from kit.service_tokens import ServiceIdentity
from svc_messaging.inbox.janitor import Janitor
from svc_messaging.inbox.leaving import Leaving
from svc_messaging.inbox.numbers import Numbers
from svc_messaging.inbox.placing import Placing
from svc_messaging.inbox.second_chance import SecondChance
from svc_messaging.inbox.worker import PartitionWorker
from svc_messaging.migrations import VERSIONS
from svc_messaging.placements import SHARED
from svc_messaging.scopes import Scopes
from svc_messaging.send_commands import JOINS
from svc_messaging.settings import InboxSettings

NAME = "messaging-inbox"


async def run(settings: InboxSettings, stop: asyncio.Event) -> None:
    """Take webhooks in until told to stop; what is in hand then is committed or comes again."""
    dsn = settings.worker_database_url.get_secret_value()
    db = await Database.connect(dsn, name=NAME, connections=settings.database_connections)
    await require_schema(db, VERSIONS)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(
        streams.meta(
            keep_days=settings.meta_keep_days, bytes_max=settings.meta_bytes_max, replicas=settings.stream_replicas
        ),
        streams.routes(replicas=settings.stream_replicas),
        streams.events(keep_days=settings.events_keep_days, replicas=settings.stream_replicas),
        streams.dead(keep_days=settings.dead_keep_days, replicas=settings.stream_replicas),
    )
    tenants = Channel(settings.tenants_target, ServiceIdentity(NAME, settings.service_key.get_secret_value()))
    worker = Principal.service(NAME)
    numbers = Numbers(tenants)
    inboxes = _Inboxes(settings, db, worker, bus, numbers)

    async def ready() -> str:
        return "" if bus.client.is_connected else "NATS does not answer"

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inboxes.of(settings.tenant, stop))
            tasks.create_task(numbers.follow(bus, stop))
            tasks.create_task(StatusServer(settings.host, settings.metrics_port, ready).run(stop))
            if settings.tenant == SHARED:
                scopes = Scopes(db, worker)
                tasks.create_task(inboxes.standing_in(scopes, stop))
                tasks.create_task(scopes.follow(stop))
                # These are of all tenants, and one process of all does each: they cost a dedicated one nothing.
                leaving = Leaving(
                    db, worker, bus, meta_partitions=settings.meta_partitions, send_partitions=settings.send_partitions
                )
                tasks.create_task(Placing(db, worker, tenants, bus, leaving).run(dsn, stop))
                tasks.create_task(SecondChance(db, worker, numbers).run(dsn, stop))
                janitor = Janitor(
                    db, worker, keep_days=_keep_days(settings), messages_keep_days=settings.messages_keep_days
                )
                tasks.create_task(janitor.run(dsn, stop))
                tasks.create_task(watch.run(bus, (streams.META, streams.EVENTS, streams.DEAD), stop))
                tasks.create_task(Relay(dsn, bus, joins=JOINS).run(stop))
    finally:
        await tenants.close()
        await bus.close()
        await db.close()


class _Inboxes:
    """Work on partitions, as long as their leases are held."""

    def __init__(self, settings: InboxSettings, db: Database, worker: Principal, bus: Bus, numbers: Numbers) -> None:
        self._dsn = settings.worker_database_url.get_secret_value()
        self._partitions = settings.meta_partitions
        # Then the journal holds nothing any more that the consumer of a tenant which is gone would have to remember.
        self._kept_seconds = (settings.meta_keep_days + 1) * 24 * 3600
        self._db = db
        self._worker = worker
        self._bus = bus
        self._numbers = numbers

    async def of(self, scope: str, stop: asyncio.Event) -> None:
        """The partitions that tenants share, or those of one tenant."""
        leases = LeasePool(self._dsn, f"inbox {scope}".rstrip(), self._partitions)
        await leases.run(lambda lease, released: self._work(scope, lease, released), stop)

    async def standing_in(self, scopes: Scopes, stop: asyncio.Event) -> None:
        """The partitions of tenants of which no process of their own lives."""
        await StandIns(self._dsn, "inbox", self._partitions, scopes).run(self._work, stop)

    async def _work(self, scope: str, lease: int, released: asyncio.Event) -> None:
        partition = PartitionWorker(
            name_of(lease, scope),
            db=self._db,
            worker=self._worker,
            bus=self._bus,
            numbers=self._numbers,
            kept_seconds=None if scope == SHARED else self._kept_seconds,
        )
        await partition.run(released)


def _keep_days(settings: InboxSettings) -> dict[str, int]:
    """By the janitor's rules."""
    return {
        "request_ids": settings.request_ids_keep_days,
        "wamids": settings.wamids_keep_days,
        "settled": settings.settled_keep_days,
        "parked": settings.parked_keep_days,
        "unknown_messages": settings.messages_keep_days,
        "media": settings.media_keep_days,
    }
