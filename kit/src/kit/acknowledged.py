"""Publishing with acknowledgement, in half the time of the client's own request: no task and no wait of its own."""

import asyncio

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

_SECONDS = 10.0
_NO_RESPONDERS = "503"


class _Told(msgspec.Struct):
    """What a stream answers."""

    seq: int = 0
    error: dict[str, object] | None = None


_decoder = msgspec.json.Decoder(_Told)


_Publish = tuple[int, "asyncio.Future[Msg]"]
"""On which connection, counted by reconnections, and what waits."""


class Acknowledged:
    """Publishes of one connection that wait for their acknowledgement."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, _Publish] = {}
        self._count = 0

    async def open(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._heard)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None) -> int:
        """The message's sequence once it is on disk. Raises APIError or NoStreamResponseError where the stream does not
        take it, TimeoutError, and ConnectionError as soon as the connection came back without an answer.
        """
        self._count += 1
        loop = asyncio.get_running_loop()
        reply = f"{self._inbox}.{self._count}"
        waiting: asyncio.Future[Msg] = loop.create_future()
        self._waiting[reply] = (self._connection, waiting)
        timer = loop.call_later(_SECONDS, _fail, waiting, nats.errors.TimeoutError())
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
            answer = await waiting
        finally:
            timer.cancel()
            del self._waiting[reply]
        if answer.headers and answer.headers.get("Status") == _NO_RESPONDERS:
            raise NoStreamResponseError
        told = _decoder.decode(answer.data)
        if told.error is not None:
            raise APIError.from_error(told.error)
        return told.seq

    def break_off(self) -> None:
        """The connection came back: answers to what was asked before never come. The client says so a moment after it
        publishes again.
        """
        for connection, waiting in self._waiting.values():
            if connection != self._connection:
                _fail(waiting, ConnectionError("The connection broke before the answer came."))

    @property
    def _connection(self) -> int:
        return self._client.stats["reconnects"]

    async def _heard(self, message: Msg) -> None:
        if (publish := self._waiting.get(message.subject)) is not None and not publish[1].done():
            publish[1].set_result(message)


def _fail(waiting: "asyncio.Future[Msg]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
