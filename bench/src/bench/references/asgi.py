"""The least an intake in Python can do: a bare ASGI callable on uvicorn that checks the HMAC and answers 200."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench import children
from bench.children import Json, Tell

Message = dict[str, Any]


class Bare:
    """Reads, verifies, answers; keeps nothing."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        given = next(value for name, value in scope["headers"] if name == b"x-hub-signature-256")
        expected = hmac.new(self._secret, body, "sha256").hexdigest().encode()
        status = 200 if hmac.compare_digest(given, b"sha256=" + expected) else 401
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def work(spec: Json, tell: Tell) -> Json:
    config = uvicorn.Config(
        Bare(spec["secret"].encode()),
        port=spec["port"],
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    tell({"ready": True})
    await serving
    return {}


if __name__ == "__main__":
    children.main(work)
