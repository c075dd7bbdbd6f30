"""Wiring of the inbox process: what runs, and what they share."""

import asyncio

from kit import streams, watch
from kit.bus import Bus
from kit.db import Database
from kit.grpc_client import Channel
from kit.leases import LeasePool
from kit.metrics import StatusServer
from kit.migrations import require_schema
from kit.outbox import Relay
from kit.principal import Principal
from kit.service_tokens import ServiceIdentity
from svc_messaging.inbox.janitor import Janitor
from svc_messaging.inbox.leaving import Leaving
from svc_messaging.inbox.numbers import Numbers
from svc_messaging.inbox.placing import Placing
from svc_messaging.inbox.second_chance import SecondChance
from svc_messaging.inbox.worker import PartitionWorker
from svc_messaging.migrations import VERSIONS
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
    leaving = Leaving(
        db, worker, bus, meta_partitions=settings.meta_partitions, send_partitions=settings.send_partitions
    )

    async def partition(lease: int, released: asyncio.Event) -> None:
        await PartitionWorker(lease, db=db, worker=worker, bus=bus, numbers=numbers).run(released)

    async def ready() -> str:
        return "" if bus.client.is_connected else "NATS does not answer"

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(LeasePool(dsn, "inbox", settings.meta_partitions).run(partition, stop))
            tasks.create_task(numbers.follow(bus, stop))
            tasks.create_task(Placing(db, worker, tenants, bus, leaving).run(dsn, stop))
            tasks.create_task(SecondChance(db, worker, numbers).run(dsn, stop))
            tasks.create_task(Janitor(db, worker, keep_days=_keep_days(settings)).run(dsn, stop))
            tasks.create_task(watch.run(bus, (streams.META, streams.EVENTS, streams.DEAD), stop))
            tasks.create_task(Relay(dsn, bus, joins=JOINS).run(stop))
            tasks.create_task(StatusServer(settings.host, settings.metrics_port, ready).run(stop))
    finally:
        await tenants.close()
        await bus.close()
        await db.close()


def _keep_days(settings: InboxSettings) -> dict[str, int]:
    """By the janitor's rules."""
    return {
        "request_ids": settings.request_ids_keep_days,
        "wamids": settings.wamids_keep_days,
        "settled": settings.settled_keep_days,
        "parked": settings.parked_keep_days,
        "media": settings.media_keep_days,
    }
