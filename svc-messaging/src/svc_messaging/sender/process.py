"""Wiring of the sender process: what runs, and what they share."""

import asyncio
import math
from dataclasses import replace

from kit import streams, watch
from kit.bus import Bus
from kit.db import Database
from kit.grpc_client import Channel
from kit.leases import LeasePool, StandIns
from kit.metrics import StatusServer
from kit.migrations import require_schema
from kit.outbox import Relay
from kit.principal import Principal
from kit.service_tokens import ServiceIdentity
from svc_messaging.migrations import VERSIONS
from svc_messaging.placements import SHARED
from svc_messaging.scopes import Scopes
from svc_messaging.send_commands import JOINS
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.credentials import CredentialsCache
from svc_messaging.sender.graph import GraphClient
from svc_messaging.sender.media_in import MediaFetcher
from svc_messaging.sender.media_out import MediaUploads
from svc_messaging.sender.parts import Parts
from svc_messaging.sender.recorder import Recorder
from svc_messaging.sender.taking_over import Partition
from svc_messaging.sender.worker import PartitionWorker, forget_changed_credentials, release_due_retries
from svc_messaging.settings import SenderSettings

NAME = "messaging-sender"


async def run(settings: SenderSettings, stop: asyncio.Event) -> None:
    """Send until told to stop; what is in flight then is recorded before this returns."""
    dsn = settings.worker_database_url.get_secret_value()
    db = await Database.connect(dsn, name=NAME, connections=settings.database_connections)
    await require_schema(db, VERSIONS)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(
        streams.send(replicas=settings.stream_replicas),
        streams.events(keep_days=settings.events_keep_days, replicas=settings.stream_replicas),
        streams.dead(keep_days=settings.dead_keep_days, replicas=settings.stream_replicas),
    )
    tenants = Channel(settings.tenants_target, ServiceIdentity(NAME, settings.service_key.get_secret_value()))
    graph = GraphClient(settings.graph_url, settings.graph_version)
    worker = Principal.service(NAME)
    credentials = CredentialsCache(tenants)
    recorder = Recorder(db, worker)
    uploads = MediaUploads(db, worker, graph)
    count = settings.send_partitions
    claimer = Claimer(db, worker, partitions=count)
    parts = Parts(db, worker, graph, credentials, uploads, claimer, recorder, lambda: False, lambda: -math.inf)
    senders = _Senders(dsn, count, bus, parts)
    scopes = Scopes(db, worker)

    async def ready() -> str:
        return "" if bus.client.is_connected else "NATS does not answer"

    recorded = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            recording = tasks.create_task(recorder.run(recorded))
            sending = [tasks.create_task(senders.of(settings.tenant, stop))]
            tasks.create_task(forget_changed_credentials(bus, credentials, stop))
            tasks.create_task(StatusServer(settings.host, settings.metrics_port, ready).run(stop))
            if settings.tenant == SHARED:
                sending.append(tasks.create_task(senders.standing_in(scopes, stop)))
                tasks.create_task(scopes.follow(stop))
                # These are of all tenants, and one process of all does each: they cost a dedicated one nothing.
                tasks.create_task(MediaFetcher(db, worker, graph, credentials).run(dsn, stop))
                tasks.create_task(release_due_retries(db, worker, count, stop))
                tasks.create_task(watch.run(bus, (streams.SEND,), stop))
                tasks.create_task(Relay(dsn, bus, joins=JOINS).run(stop))
            await asyncio.wait(sending)
            recorded.set()
            await recording
    finally:
        await graph.close()
        await tenants.close()
        await bus.close()
        await db.close()


class _Senders:
    """Work on partitions, as long as their leases are held."""

    def __init__(self, dsn: str, partitions: int, bus: Bus, parts: Parts) -> None:
        self._dsn = dsn
        self._partitions = partitions
        self._bus = bus
        self._parts = parts

    async def of(self, scope: str, stop: asyncio.Event) -> None:
        """The partitions that tenants share, or those of one tenant."""
        leases = LeasePool(self._dsn, f"sender {scope}".rstrip(), self._partitions)
        await leases.run(lambda lease, released: self._work(leases, scope, lease, released), stop)

    async def standing_in(self, scopes: Scopes, stop: asyncio.Event) -> None:
        """The partitions of tenants of which no process of their own lives."""
        leases = StandIns(self._dsn, "sender", self._partitions, scopes)
        await leases.run(lambda scope, lease, released: self._work(leases, scope, lease, released), stop)

    async def _work(self, leases: LeasePool | StandIns, scope: str, lease: int, released: asyncio.Event) -> None:
        parts = replace(self._parts, is_lease_lost=lambda: leases.is_lost, lease_held_at=lambda: leases.held_at)
        await PartitionWorker(Partition(lease, self._partitions, scope), bus=self._bus, parts=parts).run(released)
