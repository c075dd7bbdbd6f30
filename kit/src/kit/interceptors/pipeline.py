"""Puts the interceptors around handlers, once, when a server is built.

A wrapped handler takes and gives bytes: requests are parsed after the caller is admitted, so nobody spends our time
on a message he may not send, and an answer that cannot be serialized is a failure like any other.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError, Message

from kit import answers, deadlines, request_ids
from kit.access import Method
from kit.errors import DETAILS_KEY, DeadlineExceeded, InvalidRequest, Overloaded, Unimplemented, to_status
from kit.interceptors.auth import Authenticator, admit
from kit.interceptors.call import Call, Context, Handler, text_metadata
from kit.interceptors.failures import Translate, caught
from kit.interceptors.metrics import measured
from kit.interceptors.tracing import traced
from kit.interceptors.validation import validate

# We give up a little before the caller does, so that it hears why.
_SHAVED_SECONDS = 0.02

Body = Callable[[], Awaitable[bytes | None]]


@dataclass(slots=True)
class Pipeline:
    """What the handlers of one server share."""

    domain: str
    authenticator: Authenticator
    translate: Translate
    calls_max: int
    unary_seconds_max: float
    stream_seconds_max: float
    running: int = field(default=0)

    def wrap(self, method: Method, handler: Handler) -> Handler:
        """The handler with everything around it. Raises TypeError for one that is not async."""
        if handler.request_streaming and handler.response_streaming:
            raise TypeError(f"{method.full_name}: calls that stream both ways are not supported")
        served = _Served(method, handler)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream_out(served))
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._stream_in(served))
        return grpc.unary_unary_rpc_method_handler(self._unary(served))

    def _unary(self, served: "_Served") -> Callable[[bytes, Context], Awaitable[bytes | None]]:
        async def serve(raw: bytes, context: Context) -> bytes | None:
            async def body() -> bytes:
                return served.serialize(await served.invoke(served.parse(raw), context))

            return await self._run(served.method, context, body, self.unary_seconds_max)

        return serve

    def _stream_out(self, served: "_Served") -> Callable[[bytes, Context], Awaitable[None]]:
        async def serve(raw: bytes, context: Context) -> None:
            async def body() -> None:
                produced = served.invoke(served.parse(raw), context)
                try:
                    async for answer in produced:
                        await context.write(served.serialize(answer))
                finally:
                    await produced.aclose()

            await self._run(served.method, context, body, self.stream_seconds_max)

        return serve

    def _stream_in(self, served: "_Served") -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes | None]]:
        async def serve(raws: AsyncIterator[bytes], context: Context) -> bytes | None:
            async def requests() -> AsyncIterator[Message]:
                async for raw in raws:
                    yield served.parse(raw)

            async def body() -> bytes:
                return served.serialize(await served.invoke(requests(), context))

            return await self._run(served.method, context, body, self.stream_seconds_max)

        return serve

    async def _run(self, method: Method, context: Context, body: Body, seconds_max: float) -> bytes | None:
        metadata = text_metadata(context)
        request_id = request_ids.accept(next(iter(metadata.get(request_ids.HEADER, ())), None))
        request_ids.bind(request_id)
        left = cast("float | None", context.time_remaining())  # None: the caller set no deadline
        seconds = min(seconds_max, seconds_max if left is None else left - _SHAVED_SECONDS)
        deadlines.start(seconds)
        answers.accept(next(iter(metadata.get(answers.HEADER, ())), None))
        call = Call(method, metadata, timeout_seconds=seconds)
        trailers = ((request_ids.HEADER, request_id),)
        context.set_trailing_metadata(trailers)
        answer = None
        with traced(call), measured(call), caught(call, self.translate):
            answer = await self._within_limits(call, body)
        if call.failure:
            status = to_status(call.failure, domain=self.domain)
            details = (DETAILS_KEY, status.SerializeToString())
            await context.abort(call.failure.code, status.message, (*trailers, details))
        return answer

    async def _within_limits(self, call: Call, body: Body) -> bytes | None:
        if self.running >= self.calls_max:
            raise Overloaded("Too many calls run at once; try again shortly.", retry_after=1)
        self.running += 1
        try:
            async with asyncio.timeout(call.timeout_seconds) as limit:
                await admit(call, self.authenticator)
                return await body()
        except TimeoutError:
            # Others' time-outs look the same: those are for the service to translate.
            if limit.expired():
                raise DeadlineExceeded from None
            raise
        finally:
            self.running -= 1


class _Served:
    """A servicer's method with the messages it speaks."""

    def __init__(self, method: Method, handler: Handler) -> None:
        self.method = method
        function: Any = handler.unary_stream or handler.stream_unary or handler.unary_unary
        self._function = _checked(method, function, streams=handler.response_streaming)
        self._parse: Any = handler.request_deserializer
        self._serialize: Any = handler.response_serializer

    def invoke(self, request: object, context: Context) -> Any:
        """Begin the servicer's work: gives a coroutine or an async generator. Raises Unimplemented."""
        if self._function is None:
            raise Unimplemented
        return self._function(request, context)

    def parse(self, raw: bytes) -> Message:
        """The request, valid. Raises InvalidRequest."""
        try:
            message: Message = self._parse(raw)
        except DecodeError:
            raise InvalidRequest("The request is not a message of this method.") from None
        validate(message)
        return message

    def serialize(self, answer: Message) -> bytes:
        return answers.serialized(answer, self._serialize)


def _checked(method: Method, function: Any, *, streams: bool) -> Any:
    """The servicer's function; None where it has none and the generated default stands in. Raises TypeError."""
    if function.__module__.endswith("_pb2_grpc"):
        return None
    if streams and not inspect.isasyncgenfunction(function):
        raise TypeError(f"{method.full_name} must be an async generator: `async def` with `yield`")
    if not streams and not inspect.iscoroutinefunction(function):
        raise TypeError(f"{method.full_name} must be `async def`")
    return function
