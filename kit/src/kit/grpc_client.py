"""Calls to other services: always with a deadline, an identity, the request id and the trace of the running request.

channel = Channel(settings.tenants_target, identity)
tenants = channel.stub(TenantServiceStub)
tenant = await channel.call(tenants.GetTenant, GetTenantRequest(tenant_id=…))
"""

import asyncio
import json
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc.aio import StreamUnaryMultiCallable, UnaryStreamMultiCallable, UnaryUnaryMultiCallable
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Histogram

from kit import access, deadlines, request_ids, telemetry
from kit.errors import DeadlineExceeded, RemoteError, from_rpc_error, is_dropped
from kit.grpc_presence import Presence
from kit.grpc_uploads import patient
from kit.metrics import SECONDS
from kit.service_tokens import ServiceIdentity

DEFAULT_SECONDS = 10.0
STREAM_SECONDS = 300.0

_MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_NOTHING: Mapping[str, str] = {}

S = TypeVar("S")
Request = TypeVar("Request")
Answer = TypeVar("Answer")

_tracer = trace.get_tracer("kit.grpc")
_propagator = TraceContextTextMapPropagator()
_seconds = Histogram(
    "aerostic_rpc_client_seconds",
    "Time that a called service took, by outcome",
    ["method", "code"],
    buckets=SECONDS,
)


class Channel:
    """A connection to one service, restored by itself. Retries by itself only what the contract calls repeatable.

    `token` of a call says on whose behalf it is made: None for this process itself, a user's access token to pass his
    request on, "" for nobody.
    """

    def __init__(
        self,
        target: str,
        identity: ServiceIdentity | None = None,
        *,
        services: Iterable[ServiceDescriptor] | None = None,
        message_bytes_max: int = _MESSAGE_BYTES_MAX,
    ) -> None:
        """`target`: host:port. `services`: those called here, for contracts outside of aerostic.*."""
        self._identity = identity
        self._channel = grpc.aio.insecure_channel(target, options=_channel_arguments(services, message_bytes_max))
        self._presence = Presence(self._channel)
        self._paths: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()

    def stub(self, stub: Callable[[grpc.aio.Channel], S]) -> S:
        """An instance of a generated stub class; its methods are for `call`, `stream` and `upload`."""
        return stub(cast("grpc.aio.Channel", _NotingChannel(self._channel, self._paths)))

    async def call(
        self,
        method: "UnaryUnaryMultiCallable[Request, Answer]",
        request: Request,
        *,
        timeout: float = DEFAULT_SECONDS,
        token: str | None = None,
        extra: Mapping[str, str] = _NOTHING,
    ) -> Answer:
        """Call and wait for the answer, at most `timeout` seconds or what is left of the running call's time. `extra`
        is metadata beside the usual. A request with a `request_id` that a stopping server drops is made once more, as
        its contract promises one effect. Raises RemoteError.
        """
        with self._outgoing(method, token, extra) as metadata:
            try:
                return await method(request, timeout=_shortest(timeout), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if not getattr(request, "request_id", "") or not is_dropped(error):
                    raise
                return await method(request, timeout=_shortest(timeout), metadata=metadata)

    async def stream(
        self,
        method: "UnaryStreamMultiCallable[Request, Answer]",
        request: Request,
        *,
        timeout: float = STREAM_SECONDS,
        token: str | None = None,
        extra: Mapping[str, str] = _NOTHING,
    ) -> AsyncGenerator[Answer, None]:
        """The answers as they come. Closing it early ends the call."""
        with self._outgoing(method, token, extra) as metadata:
            call = method(request, timeout=_shortest(timeout), metadata=metadata)
            try:
                async for answer in call:
                    yield answer
            finally:
                call.cancel()

    async def upload(
        self,
        method: "StreamUnaryMultiCallable[Request, Answer]",
        requests: AsyncIterator[Request],
        *,
        timeout: float = STREAM_SECONDS,
        token: str | None = None,
        extra: Mapping[str, str] = _NOTHING,
    ) -> Answer:
        """Send requests as they come and wait for the answer."""
        with self._outgoing(method, token, extra) as metadata:
            return await patient(method(requests, timeout=_shortest(timeout), metadata=metadata))

    async def awaited(self) -> None:
        """Waits a moment for a service that is started again, so that the call after it is no failure. For callers who
        have the time; others are told at once that the service is away.
        """
        await self._presence.awaited()

    async def close(self) -> None:
        await self._presence.close()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextmanager
    def _outgoing(
        self, method: object, token: str | None, extra: Mapping[str, str]
    ) -> Iterator[tuple[tuple[str, str], ...]]:
        """The metadata of a call; times it, traces it, and turns its failure into RemoteError."""
        service, _, name = self._paths[method][1:].partition("/")
        span = None if telemetry.is_untraced() else _begin_span(service, name)
        started, code = time.perf_counter(), "OK"
        try:
            yield (*self._metadata(token, span), *extra.items())
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if span:
                span.set_status(Status(StatusCode.ERROR, code))
            raise from_rpc_error(error) from error
        except RemoteError as error:
            code = error.code.name
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        finally:
            if span:
                span.end()
            _seconds.labels(f"{service}.{name}", code).observe(time.perf_counter() - started)

    def _metadata(self, token: str | None, span: trace.Span | None) -> tuple[tuple[str, str], ...]:
        sent = {request_ids.HEADER: request_ids.current() or request_ids.accept(None)}
        if span:
            _propagator.inject(sent, trace.set_span_in_context(span))
        else:
            sent[telemetry.HEADER] = telemetry.UNTRACED
        if token is None and self._identity:
            token = self._identity.token()
        if token:
            sent["authorization"] = f"Bearer {token}"
        return tuple(sent.items())


def _begin_span(service: str, name: str) -> trace.Span:
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    # Not the current span: a stream's loop may end in another context than it began in.
    return _tracer.start_span(f"{service}/{name}", kind=SpanKind.CLIENT, attributes=attributes)


class _NotingChannel:
    """Stands for a channel while a stub is built, and notes which path each of its methods has."""

    def __init__(self, channel: grpc.aio.Channel, paths: weakref.WeakKeyDictionary[object, str]) -> None:
        self._channel = channel
        self._paths = paths

    def __getattr__(self, kind: str) -> Callable[..., object]:
        make = getattr(self._channel, kind)

        def noted(path: str, **options: Any) -> object:
            method: object = make(path, **options)
            self._paths[method] = path
            return method

        return noted


def _shortest(timeout: float) -> float:
    """Seconds that a call may take. Raises RemoteError when the running call's time is over: gRPC itself lets a call
    with no time through where the answer comes fast enough.
    """
    left = deadlines.remaining_seconds()
    if left is None:
        return timeout
    if left <= 0:
        raise RemoteError(grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded().message)
    return min(timeout, left)


def service_config(services: Iterable[ServiceDescriptor] | None = None) -> str:
    """GRPC's configuration (gRFC A6) for these contracts: which methods may be retried, and balance over replicas."""
    names = [
        {"service": method.descriptor.containing_service.full_name, "method": method.descriptor.name}
        for method in access.all_methods(services)
        if method.is_repeatable
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        # CANCELLED is what a server says that stops at the moment; what we cancel ourselves is not tried again.
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # When most calls fail, retries stop: they would keep a struggling service down.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        "methodConfig": [{"name": names, "retryPolicy": policy}] if names else [],
    }
    return json.dumps(config)


def _channel_arguments(
    services: Iterable[ServiceDescriptor] | None, message_bytes_max: int
) -> list[tuple[str, int | str]]:
    return [
        ("grpc.service_config", service_config(services)),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.enable_http_proxy", 0),  # our own services are never behind the machine's web proxy
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A service that restarts is back in a second; the default would wait up to two minutes to look.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
