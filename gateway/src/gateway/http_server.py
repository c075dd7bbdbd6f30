"""uvicorn as the edge runs it: loopback-tested limits on heads, dead peers found, and connections that can be cut."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.edge import ABORT

HEAD_BYTES_MAX = 64 * 1024
HEAD_SECONDS_MAX = 15
# A peer that takes nothing for so long is gone, or as good as gone.
STALLED_SECONDS_MAX = 60


class EdgeProtocol(HttpToolsProtocol):
    """One connection. Bounds what uvicorn leaves unbounded: the size of a request's head and the time it may take."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS_MAX * 1000)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]
        self._head_bytes = 0
        if self._head_timer is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            # The parser makes an error of it, and uvicorn a 400 that closes the connection.
            raise ValueError("The head of the request is too large")

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer(uvicorn.Server):
    """A server whose life is that of its task: signals are kit.process's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError when the address is taken or is none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"Cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def make_server(app: ASGIApp, *, drain_seconds: float) -> HttpServer:
    config = uvicorn.Config(
        app,
        http=EdgeProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # kit.logging formats uvicorn's own lines too
        access_log=False,  # the edge writes one line per request
        server_header=False,
        proxy_headers=False,  # client_ips reads them, and only from our own proxies
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(drain_seconds),
        backlog=2048,
    )
    return HttpServer(config)
