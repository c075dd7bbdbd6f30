"""Is a program ready for work? Each check answers in a second or says no."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2

from devstack.ports import LOOPBACK

_SECONDS = 1.0
_HEALTH_SECONDS = 2.0
# Of some two to three seconds each: longer than a busy machine may take to answer.
_NOES_MAX = 5


async def tcp(port: int) -> bool:
    """Something accepts connections."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            await writer.wait_closed()
            return True
    return False


async def http(port: int, path: str = "/readyz") -> bool:
    """A GET is answered with 200."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
            await writer.wait_closed()
            return status.split()[1:2] == [b"200"]
    return False


async def grpc_health(port: int) -> bool:
    """The standard health service says SERVING for the whole server."""
    with suppress(grpc.aio.AioRpcError):
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
            return answer.status == health_pb2.HealthCheckResponse.SERVING
    return False


CHECKS: Mapping[str, Callable[[int], Awaitable[bool]]] = {"grpc": grpc_health, "http": http, "tcp": tcp}
"""By the way a process of the table tells."""


async def until_unhealthy(healthy: Callable[[], Awaitable[bool]]) -> None:
    """Ask now and then; return when the answer has been no several times in a row. Seconds are not counted: where our
    own loop was held up, they would be its silence and not the program's.
    """
    noes = 0
    while noes < _NOES_MAX:
        await asyncio.sleep(_HEALTH_SECONDS)
        noes = 0 if await healthy() else noes + 1
