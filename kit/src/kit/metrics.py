"""Prometheus metrics, and a small HTTP endpoint for processes that have none of their own."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

log = structlog.get_logger()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets for durations in seconds."""

Ready = Callable[[], Awaitable[str]]
"""Tells why the process is not ready; "" when it is."""

_REQUEST_BYTES_MAX = 8 * 1024
_REQUEST_SECONDS = 5

_build = Gauge("aerostic_build_info", "Always 1; the labels say what runs", ["service", "version"])


def name_build(service: str, version: str) -> None:
    _build.labels(service, version).set(1)


def exposition() -> tuple[bytes, str]:
    """All metrics of this process, and their content type."""
    return generate_latest(), CONTENT_TYPE_LATEST


class StatusServer:
    """GET /metrics, /healthz (the process runs) and /readyz (it can work, or the reason why not)."""

    def __init__(self, host: str, port: int, ready: Ready) -> None:
        self._host = host
        self._port = port
        self._ready = ready

    async def run(self, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._answer, self._host, self._port, limit=_REQUEST_BYTES_MAX)
        async with server:
            await stop.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = await self._respond(head.split(b" ", 2)[1].decode("ascii", "replace"))
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            log.debug("status_request_malformed")
        finally:
            writer.close()

    async def _respond(self, path: str) -> tuple[str, str, bytes]:
        match path.split("?", maxsplit=1)[0]:
            case "/metrics":
                body, content_type = exposition()
                return "200 OK", content_type, body
            case "/healthz":
                return "200 OK", "text/plain", b"ok\n"
            case "/readyz":
                reason = await self._ready()
                return (
                    ("503 Service Unavailable", "text/plain", f"{reason}\n".encode())
                    if reason
                    else ("200 OK", "text/plain", b"ok\n")
                )
            case _:
                return "404 Not Found", "text/plain", b"not found\n"
