"""Wiring of the server process: what runs, and what they share."""

import asyncio
from collections.abc import Sequence

from aerostic.auth.v1.auth_service_pb2 import GetJwksRequest
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceStub

from kit import dead_letters, streams
from kit.bus import Bus
from kit.db import Database, as_app_error
from kit.errors import AppError
from kit.grpc_client import Channel
from kit.grpc_server import Server, ServerOptions
from kit.interceptors.auth import Authenticator
from kit.keys import KeySource
from kit.metrics import StatusServer
from kit.migrations import require_schema
from kit.service_tokens import ServiceIdentity, ServiceTrust
from kit.tokens import AccessTokenVerifier
from svc_messaging import erasures
from svc_messaging.migrations import VERSIONS
from svc_messaging.queues import Queues
from svc_messaging.server.contacts import ContactServer
from svc_messaging.server.conversations import ConversationServer
from svc_messaging.server.dead_letters import DeadLetterServer
from svc_messaging.server.erasure import ErasureServer
from svc_messaging.server.media import MediaServer
from svc_messaging.server.messages import MessageServer
from svc_messaging.server.parked_events import ParkedEventServer
from svc_messaging.server.workspaces import Workspaces
from svc_messaging.settings import ServeSettings

NAME = "messaging-server"
DOMAIN = "messaging.aerostic.io"

# Supervisors wait ten seconds before they kill.
_DRAIN_SECONDS = 8


async def run(settings: ServeSettings, stop: asyncio.Event) -> None:
    """Answer RPCs until told to stop. The outbox is published by the inbox and the sender, whose role may read it."""
    dsn = settings.database_url.get_secret_value()
    db = await Database.connect(dsn, name=NAME, connections=settings.database_connections)
    await require_schema(db, VERSIONS)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(streams.dead(keep_days=settings.dead_keep_days, replicas=settings.stream_replicas))
    identity = ServiceIdentity(NAME, settings.service_key.get_secret_value())
    auth, tenants = Channel(settings.auth_target, identity), Channel(settings.tenants_target, identity)
    workspaces = Workspaces(tenants)
    queues = Queues(partitions=settings.send_partitions, number_max=settings.number_queue_max)
    server = Server(
        f"{settings.host}:{settings.port}",
        servicers(db, workspaces, queues, bus),
        domain=DOMAIN,
        authenticator=_authenticator(settings, auth),
        translate=known_failure,
        options=ServerOptions(reflection=settings.environment == "development", drain_seconds=_DRAIN_SECONDS),
    )
    drained = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workspaces.follow(bus, drained))
            status = StatusServer(settings.host, settings.metrics_port, lambda: _why_not_ready(db))
            tasks.create_task(status.run(drained))
            await server.serve(stop)
            drained.set()
    finally:
        await tenants.close()
        await auth.close()
        await bus.close()
        await db.close()


def servicers(db: Database, workspaces: Workspaces, queues: Queues, bus: Bus) -> Sequence[object]:
    """All services of aerostic.messaging.v1."""
    return (
        ContactServer(db),
        ConversationServer(db),
        MessageServer(db, workspaces, queues),
        MediaServer(db),
        ParkedEventServer(db),
        DeadLetterServer(bus),
        ErasureServer(db),
    )


def known_failure(error: BaseException) -> AppError | None:
    """What a failure of the engines means to a caller; None where it is a bug of ours."""
    return as_app_error(error) or dead_letters.as_app_error(error) or erasures.as_app_error(error)


async def _why_not_ready(db: Database) -> str:
    """Empty when the process can do its work."""
    try:
        await db.fetchval("SELECT 1")
    except Exception as error:
        if (known := as_app_error(error)) is None:
            raise
        return known.message
    return ""


def _authenticator(settings: ServeSettings, auth: Channel) -> Authenticator:
    """Users by the keys of svc-auth, processes by the keys in the settings."""
    stub = auth.stub(AuthServiceStub)
    keys = KeySource(lambda: auth.call(stub.GetJwks, GetJwksRequest()))
    return Authenticator(AccessTokenVerifier(keys), ServiceTrust.from_json(settings.service_trust))
