"""The app: the routes derived from the contracts, those written by hand, and its life."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp

from gateway import docs, health, media, openapi, webhooks
from gateway.backends import NAME, Backends
from gateway.client_ips import ClientIps
from gateway.edge import Edge
from gateway.health import Readiness
from gateway.http_server import HttpServer, listen, make_server
from gateway.ingest import Ingest
from gateway.problems import HANDLERS
from gateway.sessions import CSRF_HEADER, MODE_HEADER, Sessions
from gateway.settings import GatewaySettings
from gateway.stream import routes as stream_routes
from gateway.stream.hub import Hub
from gateway.transcode.route import Transcoder
from gateway.transcode.routes import bindings
from kit import access, request_ids, streams
from kit.bus import Bus
from kit.process import VERSION


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    settings: GatewaySettings
    bus: Bus
    backends: Backends
    ingest: Ingest
    hub: Hub
    stop: asyncio.Event


# The edge makes the one span of a request; FastAPI's own would begin a second trace beneath it.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class _Api(FastAPI):
    """FastAPI as a router. Its outermost net is the edge's business, which answers every failure as a problem."""

    allowed_origins: Sequence[str] = ()

    def build_middleware_stack(self) -> ASGIApp:
        # Starlette's own router notes which route has answered, for the access log and metrics.
        router = Router(self.router.routes, redirect_slashes=False)
        app = ExceptionMiddleware(router, handlers=HANDLERS)
        return _shared(app, self.allowed_origins) if self.allowed_origins else app


def make_app(parts: Parts) -> ASGIApp:
    """Raises ContractUnsupported for contracts that cannot be served."""
    client_ips = ClientIps(parts.settings.trusted_proxies)
    routes = make_routes(parts, client_ips)
    api = _Api(routes=routes, openapi_url=None, docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY)
    api.allowed_origins = parts.settings.allowed_origins
    return Edge(api, client_ips=client_ips, is_production=parts.settings.is_production)


def _shared(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins call us and read the answers (CORS); sessions sees to it that no others do."""
    return CORSMiddleware(
        app,
        allow_origins=[origin.rstrip("/") for origin in origins],
        allow_credentials=True,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", request_ids.HEADER, CSRF_HEADER, MODE_HEADER],
        expose_headers=["Retry-After", request_ids.HEADER],
    )


def make_routes(parts: Parts, client_ips: ClientIps) -> list[BaseRoute]:
    """All routes, in the order in which they are tried."""
    settings, backends = parts.settings, parts.backends
    sessions = Sessions(
        client_ips=client_ips,
        is_production=settings.is_production,
        cookie_days=settings.cookie_days,
        allowed_origins=settings.allowed_origins,
    )
    derived = [each for each in bindings(access.all_methods()) if each.method.full_name not in media.STREAMED]
    return [
        # First, since most calls are its; no other route has a path that it has, too.
        Transcoder(derived, backends, sessions, settings),
        *health.routes(Readiness(lambda: _unhealthy(parts), is_stopping=parts.stop.is_set)),
        *webhooks.routes(parts.ingest, settings),
        *media.routes(backends, sessions, settings),
        *stream_routes.routes(parts.hub, sessions, stream_routes.make_verifier(backends), settings),
        *docs.routes(lambda: openapi.document(VERSION)),
    ]


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Serve until `stop`, let requests finish, and go. Raises OSError when the address is taken."""
    listener = listen(settings.host, settings.port)
    try:
        await serve_on([listener], settings, stop)
    finally:
        listener.close()


async def serve_on(listeners: Sequence[socket.socket], settings: GatewaySettings, stop: asyncio.Event) -> None:
    bus = await Bus.connect(settings.nats_url.get_secret_value(), name=NAME)
    await bus.ensure(streams.events(keep_days=settings.events_keep_days, replicas=settings.stream_replicas))
    backends, ingest, hub = Backends(settings), Ingest(settings), Hub(bus, settings)
    parts = Parts(settings, bus, backends, ingest, hub, stop)
    server = make_server(make_app(parts), drain_seconds=settings.drain_seconds)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hub.run(stop))
            tasks.create_task(_run(server, listeners, stop))
    finally:
        ingest.close()
        await backends.close()
        await bus.close()


async def _run(server: HttpServer, listeners: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Answer requests until `stop`; then those under way have the time that the settings give them."""
    serving = asyncio.create_task(server.serve(sockets=list(listeners)))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        serving.cancel()


async def _unhealthy(parts: Parts) -> Mapping[str, str]:
    """What this process needs and cannot reach, each with the reason."""
    reasons = await parts.backends.unhealthy()
    if not parts.bus.client.is_connected:
        reasons["nats"] = "not connected"
    return reasons
