"""`python -m svc_tenants serve | migrate | rewrap-keys`."""

import asyncio
import sys

from aerostic.auth.v1.auth_service_pb2 import GetJwksRequest
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceStub

from kit import logging, process, streams
from kit.bus import Bus
from kit.crypto import KeyRing
from kit.db import Database, as_app_error
from kit.grpc_client import Channel
from kit.grpc_server import Server, ServerOptions
from kit.interceptors.auth import Authenticator
from kit.keys import KeySource
from kit.metrics import StatusServer
from kit.migrations import migrate, require_schema
from kit.outbox import Relay
from kit.service_tokens import ServiceIdentity, ServiceTrust
from kit.tokens import AccessTokenVerifier
from svc_tenants.checker import Checker
from svc_tenants.connecting import Connector
from svc_tenants.erasing import Eraser
from svc_tenants.erasing_elsewhere import Elsewhere
from svc_tenants.graph import GraphClient
from svc_tenants.metering import Meter
from svc_tenants.migrations import VERSIONS
from svc_tenants.rewrapping import rewrap_all
from svc_tenants.server import TenantServer, WhatsAppAccountServer
from svc_tenants.server_placement import PlacementServer
from svc_tenants.server_provisioning import ProvisioningServer
from svc_tenants.server_usage import UsageServer
from svc_tenants.settings import KeySettings, MigrateSettings, ServeSettings

NAME = "svc-tenants"

# Supervisors wait ten seconds before they kill.
_DRAIN_SECONDS = 8


async def serve(settings: ServeSettings, stop: asyncio.Event) -> None:
    """Answer RPCs, publish the outbox, count usage and look at numbers until told to stop."""
    dsn = settings.database_url.get_secret_value()
    db = await Database.connect(dsn, name=NAME, connections=settings.database_connections)
    await require_schema(db, VERSIONS)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(
        streams.events(keep_days=settings.events_keep_days, replicas=settings.stream_replicas),
        streams.dead(keep_days=settings.dead_keep_days, replicas=settings.stream_replicas),
    )
    graph = GraphClient(
        settings.graph_url,
        settings.graph_version,
        app_id=settings.app_id,
        app_secret=settings.app_secret.get_secret_value(),
    )
    keys = KeyRing.parse(settings.key_encryption_keys.get_secret_value())
    identity = ServiceIdentity(NAME, settings.service_key.get_secret_value())
    auth, messaging = Channel(settings.auth_target, identity), Channel(settings.messaging_target, identity)
    connector = Connector(db, graph, keys)
    server = Server(
        f"{settings.host}:{settings.port}",
        [
            TenantServer(db),
            WhatsAppAccountServer(db, connector, keys),
            ProvisioningServer(db, connector),
            UsageServer(db),
            PlacementServer(db),
        ],
        domain="tenants.aerostic.io",
        authenticator=authenticator(settings, auth),
        translate=as_app_error,
        options=ServerOptions(reflection=settings.environment == "development", drain_seconds=_DRAIN_SECONDS),
    )
    eraser = Eraser(db, bus, connector, Elsewhere(auth, messaging), settle_seconds=settings.erasure_settle_seconds)
    drained = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Relay(dsn, bus).run(drained))
            tasks.create_task(Meter(db, bus, dsn).run(drained))
            tasks.create_task(
                StatusServer(settings.host, settings.metrics_port, lambda: why_not_ready(db)).run(drained)
            )
            tasks.create_task(eraser.run(dsn, stop))
            tasks.create_task(Checker(db, graph, keys, seconds=settings.number_check_seconds).run(dsn, stop))
            await server.serve(stop)
            # The relay goes last: it publishes what the last calls changed.
            drained.set()
    finally:
        await graph.close()
        await auth.close()
        await messaging.close()
        await bus.close()
        await db.close()


async def why_not_ready(db: Database) -> str:
    """Empty when the process can do its work."""
    try:
        await db.fetchval("SELECT 1")
    except Exception as error:
        if (known := as_app_error(error)) is None:
            raise
        return known.message
    return ""


def authenticator(settings: ServeSettings, auth: Channel) -> Authenticator:
    """Users by the keys of svc-auth, processes by the keys in the settings."""
    stub = auth.stub(AuthServiceStub)
    keys = KeySource(lambda: auth.call(stub.GetJwks, GetJwksRequest()))
    return Authenticator(AccessTokenVerifier(keys), ServiceTrust.from_json(settings.service_trust))


def run_serve(_arguments: list[str]) -> None:
    settings = ServeSettings.load()
    process.run(lambda stop: serve(settings, stop), name=NAME, settings=settings)


def run_migrate(_arguments: list[str]) -> None:
    asyncio.run(migrate(MigrateSettings.load().owner_database_url.get_secret_value(), VERSIONS))


def run_rewrap(_arguments: list[str]) -> None:
    settings = KeySettings.load()
    logging.configure(level=settings.log_level, log_format=settings.log_format, service=NAME)
    keys = KeyRing.parse(settings.key_encryption_keys.get_secret_value())

    async def rewrap() -> None:
        db = await Database.connect(settings.database_url.get_secret_value(), name="tenants-rewrap", connections=2)
        try:
            report = await rewrap_all(db, keys)
        finally:
            await db.close()
        print(f"{report.rewrapped} data keys wrapped by the key {keys.current}.")
        if report.unreadable:
            sys.exit(f"{report.unreadable} workspaces have a data key that these keys cannot open; keep the old keys.")

    asyncio.run(rewrap())


if __name__ == "__main__":
    process.dispatch({"serve": run_serve, "migrate": run_migrate, "rewrap-keys": run_rewrap}, program="svc_tenants")
