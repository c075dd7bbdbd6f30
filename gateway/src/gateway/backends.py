"""The services behind the edge: one channel each, and every public call with a deadline and a caller."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc.aio import StreamUnaryMultiCallable, UnaryStreamMultiCallable, UnaryUnaryMultiCallable
from grpc_health.v1 import health_pb2

from gateway.client_ips import METADATA_KEY
from gateway.settings import GatewaySettings
from kit import access, answers
from kit.access import Method
from kit.errors import RemoteError
from kit.grpc_client import Channel
from kit.service_tokens import ServiceIdentity

NAME = "gateway"
_HEALTH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf the gateway calls."""

    token: str | None
    """The user's access token; "" for nobody; None for the gateway itself, whose word on the address is believed."""
    ip: str

    @property
    def metadata(self) -> Mapping[str, str]:
        return {METADATA_KEY: self.ip} if self.ip else {}


class Backends:
    """Channels by service: "auth" serves the packages aerostic.auth.*."""

    def __init__(self, settings: GatewaySettings) -> None:
        identity = ServiceIdentity(NAME, settings.service_key.get_secret_value())
        targets = {
            "auth": settings.auth_target,
            "tenants": settings.tenants_target,
            "messaging": settings.messaging_target,
        }
        self._channels = {name: Channel(target, identity) for name, target in targets.items()}
        self._health = {name: channel.stub(_health_check) for name, channel in self._channels.items()}

    def unary(self, method: Method, *, seconds: float) -> "Unary":
        """A prepared call of a method without streams."""
        channel, codecs = self._channel(method), _codecs(method)
        codecs["response_deserializer"] = functools.partial(answers.parsed, parse=codecs["response_deserializer"])
        callable_ = channel.stub(lambda raw: raw.unary_unary(method.path, **codecs))
        return Unary(channel, callable_, seconds)

    def upload(self, method: Method, *, seconds: float) -> "Upload":
        channel = self._channel(method)
        callable_ = channel.stub(lambda raw: raw.stream_unary(method.path, **_codecs(method)))
        return Upload(channel, callable_, seconds)

    def download(self, method: Method, *, seconds: float) -> "Download":
        channel = self._channel(method)
        callable_ = channel.stub(lambda raw: raw.unary_stream(method.path, **_codecs(method)))
        return Download(channel, callable_, seconds)

    async def unhealthy(self) -> dict[str, str]:
        """Services that do not serve now, each with the reason."""
        states = await asyncio.gather(*(self._state(name) for name in self._channels))
        return {name: state for name, state in zip(self._channels, states, strict=True) if state != "SERVING"}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _state(self, name: str) -> str:
        try:
            answer = await self._channels[name].call(
                self._health[name], health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS, token=""
            )
        except RemoteError as error:
            return error.code.name
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def _channel(self, method: Method) -> Channel:
        _, service, *_ = method.full_name.split(".")
        if service not in self._channels:
            raise LookupError(f"{method.full_name} is public, and the gateway does not know where {service} is")
        return self._channels[service]


@dataclass(frozen=True, slots=True)
class Unary:
    channel: Channel
    callable: "UnaryUnaryMultiCallable[Message, Message | bytes]"
    seconds: float

    async def __call__(self, request: Message, caller: Caller) -> Message:
        """Raises RemoteError."""
        answer = await self._call(request, caller, caller.metadata)
        assert isinstance(answer, Message), "nobody asked for JSON"
        return answer

    async def transcode(self, request: Message, caller: Caller) -> Message | bytes:
        """The same; where the service prints its answer itself, the JSON as it came."""
        return await self._call(request, caller, {**caller.metadata, answers.HEADER: answers.JSON})

    async def _call(self, request: Message, caller: Caller, extra: Mapping[str, str]) -> Message | bytes:
        await self.channel.awaited()
        return await self.channel.call(self.callable, request, timeout=self.seconds, token=caller.token, extra=extra)


@dataclass(frozen=True, slots=True)
class Upload:
    channel: Channel
    callable: "StreamUnaryMultiCallable[Message, Message]"
    seconds: float

    async def __call__(self, requests: AsyncIterator[Message], caller: Caller) -> Message:
        """Raises RemoteError."""
        await self.channel.awaited()
        return await self.channel.upload(
            self.callable, requests, timeout=self.seconds, token=caller.token, extra=caller.metadata
        )


@dataclass(frozen=True, slots=True)
class Download:
    channel: Channel
    callable: "UnaryStreamMultiCallable[Message, Message]"
    seconds: float

    async def __call__(self, request: Message, caller: Caller) -> AsyncGenerator[Message, None]:
        """Raises RemoteError while it is read."""
        await self.channel.awaited()
        answers = self.channel.stream(
            self.callable, request, timeout=self.seconds, token=caller.token, extra=caller.metadata
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer


def find_method(full_name: str) -> Method:
    """The contract's method of this name. Raises LookupError."""
    for method in access.all_methods():
        if method.full_name == full_name:
            return method
    raise LookupError(full_name)


def message_class(descriptor: object) -> type[Message]:
    return GetMessageClass(cast("Descriptor", descriptor))


def _health_check(
    raw: grpc.aio.Channel,
) -> "UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]":
    return raw.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


def _codecs(method: Method) -> dict[str, Any]:
    request, answer = message_class(method.descriptor.input_type), message_class(method.descriptor.output_type)
    return {"request_serializer": request.SerializeToString, "response_deserializer": answer.FromString}
