"""Errors of the control API: which field, which rule, and a sentence."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from meta_emulator.model import Json

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PLACE = re.compile(r" - at `(?:\$|key in \$)\.?(?P<field>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]+)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")


class Refused(Exception):
    def __init__(self, field: str, rule: str, message: str, *, status: int = 400) -> None:
        self.field, self.rule, self.message, self.status = field, rule, message, status
        super().__init__(message)

    def answer(self) -> web.Response:
        error = {"field": self.field or None, "rule": self.rule, "message": self.message}
        return web.json_response({"error": error}, status=self.status)


def not_found(field: str, value: object) -> Refused:
    return Refused(field, "known", f"{field}: there is no {value!r}.", status=404)


async def read(request: web.Request, shape: type[T]) -> T:
    """The JSON body as `shape`; an absent body counts as {}."""
    raw = await request.read()
    try:
        return msgspec.json.decode(raw or b"{}", type=shape)
    except msgspec.ValidationError as wrong:
        raise from_validation(wrong) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
        raise Refused("", "json", f"The body is no valid JSON: {malformed}.") from malformed


async def read_object(request: web.Request) -> Json:
    """For partial changes: the keys that are given, whatever they are."""
    return await read(request, Json)


def from_validation(wrong: msgspec.ValidationError) -> Refused:
    text = str(wrong)
    place = _PLACE.search(text)
    field = place.group("field") if place else ""
    inner = _UNKNOWN.search(text) or _MISSING.search(text)
    rule = "type"
    if inner is not None:
        rule = "known_field" if _UNKNOWN.search(text) else "required"
        field = f"{field}.{inner.group('field')}".strip(".")
    elif text.startswith(("Expected `str` matching", "Expected `int` >", "Expected `int` <", "Expected `float`")):
        rule = "range"
    elif text.startswith("Invalid enum"):
        rule = "choice"
    return Refused(field, rule, _PLACE.sub("", text) + ".")


def answered(handler: Handler) -> Handler:
    """Refuse pages of other origins, mark the state changed, and turn refusals into JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return Refused("", "same_origin", "Browsers may call this only from the phone page.", status=403).answer()
        try:
            return await handler(request)
        except Refused as refused:
            return refused.answer()

    return answer
