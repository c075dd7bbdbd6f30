"""What surrounds every request: id, trace, one log line, metrics, security headers, and an answer whatever fails."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.client_ips import ClientIps
from gateway.intake import Intake
from kit import request_ids, telemetry
from kit.errors import AppError, Internal, Unavailable
from kit.metrics import SECONDS

log = structlog.get_logger()

ABORT = "aerostic.abort"
"""ASGI extension of our server: cuts the connection without waiting for the peer."""

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_PRODUCTION_HEADERS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
_REQUEST_ID = request_ids.HEADER.encode()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Machines ask for these every few seconds; a line for each would hide the others.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

_seconds = Histogram(
    "aerostic_http_seconds",
    "Time from a request's head to the end of its answer",
    ["method", "route", "status"],
    buckets=SECONDS,
)


class Edge:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, *, client_ips: ClientIps, is_production: bool) -> None:
        self._app = app
        self._client_ips = client_ips
        headers = _SECURITY_HEADERS | (_PRODUCTION_HEADERS if is_production else {})
        self._security_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_ids.bind(request_ids.accept(headers.get(request_ids.HEADER)))
        intake = Intake(scope, receive)
        answer = _Answer(send, self._security_headers, intake)
        started = time.perf_counter()
        traceparent = headers.get(telemetry.HEADER, "")
        if telemetry.wants(traceparent):
            await self._trace(scope, intake, answer, traceparent)
        else:
            with telemetry.untraced():
                await self._run(scope, intake, answer)
        self._tell(scope, answer, time.perf_counter() - started)

    async def _trace(self, scope: Scope, intake: Intake, answer: "_Answer", traceparent: str) -> None:
        parent = {telemetry.HEADER: traceparent} if traceparent else None
        with telemetry.span(scope["method"], parent=parent, kind=SpanKind.SERVER, wanted=not parent) as span:
            await self._run(scope, intake, answer)
            span.update_name(f"{scope['method']} {_route(scope)}")
            span.set_attribute("http.response.status_code", answer.status)

    async def _run(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            answer.status = 499
        except asyncio.CancelledError:
            # Only the server cancels, when it stops and its patience is over; this is the end of the task in any case.
            log.warning("http_cut_off", answer_begun=bool(answer.status))
            await self._fail(Unavailable("The server is stopping; try again."), scope, receive, answer)
        except Exception as error:
            # The outermost net: a defect is logged whole, and the caller gets INTERNAL with the request id to report.
            log.exception("http_failed", error=type(error).__name__)
            await self._fail(Internal(), scope, receive, answer)

    async def _fail(self, error: AppError, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if answer.status:
            # Half an answer must not look like a whole one.
            abort(scope)
            return
        problem = problems.response(problems.of_error(error), Request(scope))
        await problem(scope, receive, answer)

    def _tell(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        _seconds.labels(method, route, str(answer.status)).observe(seconds)
        if route in _QUIET:
            return
        told: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": answer.status,
            "duration_ms": round(seconds * 1000, 1),
            "client_ip": self._client_ips.of(Request(scope)),
        }
        if code := scope.get(problems.CODE_IN_SCOPE):
            told["code"] = code
        (log.warning if answer.status >= 500 else log.info)("http_completed", **told)


class _Answer:
    """The way out: adds our headers and remembers the status; 0 until it is known."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]], intake: Intake) -> None:
        self._send = send
        self._headers = headers
        self._intake = intake
        self._closes = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name for name, _ in message["headers"]}
            headers = [*message["headers"], *(each for each in self._headers if each[0] not in given)]
            headers.append((_REQUEST_ID, request_ids.current().encode()))
            message = {**message, "headers": headers}
            if self._intake.must_close:
                self._closes = True
                MutableHeaders(scope=message)["Connection"] = "close"
        elif self._closes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._intake.discard()
            message = {"type": "http.response.body"}
        await self._send(message)


def abort(scope: Scope) -> None:
    """Cut the connection at once. Without our server's extension (in other servers) ending the answer early does it."""
    if cut := scope.get("extensions", {}).get(ABORT):
        cut()


def _route(scope: Scope) -> str:
    """The path's template, never the path itself: ids would make a metric of each."""
    path: str = getattr(scope.get("route"), "path", "unmatched")
    return path
