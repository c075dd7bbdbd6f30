"""The gRPC server of a service: every method behind the interceptors, with health, reflection, limits and drain.

server = Server("127.0.0.1:9103", [MessageServer(db)], domain="messaging.aerostic.io", authenticator=…)
await server.serve(stop)
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from kit.access import Method
from kit.errors import AppError
from kit.interceptors.auth import Authenticator
from kit.interceptors.call import Handler
from kit.interceptors.failures import Translate
from kit.interceptors.pipeline import Pipeline

log = structlog.get_logger()

METADATA_BYTES_MAX = 16 * 1024
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Limits and switches; each process makes them from its settings."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    calls_max: int = 200
    """More calls than this at once are told to come back (OVERLOADED)."""
    unary_seconds_max: float = 30
    """Also for callers that set no deadline, or a later one."""
    stream_seconds_max: float = 300
    drain_seconds: float = 20
    """How long calls under way may go on after the server was told to stop."""
    reflection: bool = False
    """Tell tools such as grpcurl the contract, without credentials."""


DEFAULTS = ServerOptions()


def unknown(_error: BaseException) -> AppError | None:
    """The translation of services that have none of their own."""
    return None


class Server:
    """Serves servicers on one address. Bound at construction, answering after `start`, healthy after `ready`."""

    def __init__(
        self,
        address: str,
        servicers: Sequence[object],
        *,
        domain: str,
        authenticator: Authenticator,
        translate: Translate = unknown,
        options: ServerOptions = DEFAULTS,
    ) -> None:
        """`address`: host:port; port 0 takes a free one, told by `port`. `translate` knows what a service's own
        exceptions mean, such as kit.db.as_app_error. Raises OSError when the address is taken.
        """
        self._options = options
        self._pipeline = Pipeline(
            domain,
            authenticator,
            translate,
            calls_max=options.calls_max,
            unary_seconds_max=options.unary_seconds_max,
            stream_seconds_max=options.stream_seconds_max,
        )
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(options=_channel_arguments(options), maximum_concurrent_rpcs=_backstop(options))
        collected = _Collector()
        for servicer in servicers:
            _add(servicer, collected)
        self.services = tuple(collected.services)
        self._register(collected)
        self.address = address
        self.port = self._bind(address)

    async def start(self) -> None:
        """Answer calls; health says NOT_SERVING until `ready`."""
        await self._set_health(serving=False)
        await self._server.start()

    async def ready(self) -> None:
        """Say that this process can do its work: health becomes SERVING."""
        await self._set_health(serving=True)
        log.info("server_ready", port=self.port, services=list(self.services))

    async def drain(self, seconds: float | None = None) -> None:
        """Stop: health turns NOT_SERVING, nothing new is accepted, calls under way finish or are cut off after so many
        seconds.
        """
        grace = self._options.drain_seconds if seconds is None else seconds
        log.info("server_draining", calls=self._pipeline.running, seconds=grace)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        log.info("server_stopped")

    async def serve(self, stop: asyncio.Event) -> None:
        """Start, be ready, and drain when `stop` is set."""
        await self.start()
        await self.ready()
        try:
            await stop.wait()
        finally:
            await self.drain()

    def _register(self, collected: "_Collector") -> None:
        pool = descriptor_pool.Default()
        for service, handlers in collected.services.items():
            methods = {name: Method.of(pool.FindMethodByName(f"{service}.{name}")) for name in handlers}
            wrapped = {name: self._pipeline.wrap(methods[name], handler) for name, handler in handlers.items()}
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, wrapped)])
            self._server.add_registered_method_handlers(service, wrapped)
        # Probes and tools have no credentials; these two tell nothing but the contract and "serving".
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._options.reflection:
            names = [*collected.services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    def _bind(self, address: str) -> int:
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"Cannot listen on {address}: it is taken, or not an address of this machine.") from error

    async def _set_health(self, *, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        for service in ("", *self.services):
            await self._health.set(service, answer.SERVING if serving else answer.NOT_SERVING)


class _Collector:
    """Takes what generated code registers, so that it can be wrapped first."""

    def __init__(self) -> None:
        self.services: dict[str, Mapping[str, Handler]] = {}

    def add_generic_rpc_handlers(self, _handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """The same handlers come once more by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.services[service] = handlers


def _add(servicer: object, collector: _Collector) -> None:
    """Find the generated function that registers a servicer's class; a servicer may be of several services."""
    adders = [adder for base in type(servicer).__mro__ if (adder := _adder(base))]
    if not adders:
        raise TypeError(f"{type(servicer).__name__} derives from no generated servicer")
    for adder in adders:
        adder(servicer, collector)


def _adder(base: type) -> Callable[[object, _Collector], None] | None:
    return getattr(sys.modules[base.__module__], f"add_{base.__name__}_to_server", None)


def _backstop(options: ServerOptions) -> int:
    # gRPC's own limit answers without a reason and counts health checks too: ours comes first.
    return 2 * options.calls_max + 100


def _channel_arguments(options: ServerOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two servers on one port are a mistake, not a feature
        ("grpc.max_receive_message_length", options.message_bytes_max),
        ("grpc.max_send_message_length", options.message_bytes_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        # Find dead peers, and bear the pings of our own clients (see grpc_client).
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # Connections are renewed now and then, so that clients find replicas that came later.
        ("grpc.max_connection_age_ms", 600_000),
        ("grpc.max_connection_age_grace_ms", int(options.stream_seconds_max * 1000)),
    ]
