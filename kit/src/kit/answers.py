"""Answers that leave as JSON, for callers that pass them on as they are (ADR 0016).

A page of a list that is built as a message, serialized, parsed and printed again costs several times what its JSON
does. So a caller may say that it takes JSON, and a method that is called often may print its answer itself:

    return answers.either(lambda: ListResponse(things=[…]), lambda: {"things": […]})

Everybody else, and every other method, speaks protobuf; a client tells the two apart by the first byte.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

import msgspec
from google.protobuf.message import Message

HEADER = "aerostic-answer"
JSON = "json"

# An object begins with it, and no message can: it would announce a group, which proto3 does not have.
_OBJECT = b"{"

M = TypeVar("M", bound=Message)

_takes_json: ContextVar[bool] = ContextVar("takes_json", default=False)


class Serialize(Protocol):
    """How a method's answers become bytes."""

    def __call__(self, answer: Any, /) -> bytes: ...


class _Printed:
    """Stands where the message would."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def accept(form: str | None) -> None:
    """For the server: what the caller of the current task takes, as its HEADER says."""
    _takes_json.set(form == JSON)


def either(message: Callable[[], M], printed: Callable[[], dict[str, Any]]) -> M:
    """The answer of a servicer in the form that its caller takes. Both must say the same by kit.proto_json's rules;
    ids and times of `printed` may be objects.
    """
    if not _takes_json.get():
        return message()
    return cast("M", _Printed(msgspec.json.encode(printed())))


def serialized(answer: object, serialize: Serialize) -> bytes:
    return answer.raw if isinstance(answer, _Printed) else serialize(answer)


def parsed(raw: bytes, parse: Callable[[bytes], M]) -> M | bytes:
    """For the client: the message, or its JSON where the service printed it."""
    return raw if raw[:1] == _OBJECT else parse(raw)
