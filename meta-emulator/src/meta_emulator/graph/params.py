"""Parameters of a Graph call, and the checks on one JSON object of it with Meta's way of naming the offender."""

import json

import msgspec
from aiohttp import web

from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.model import Json

_FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}


async def read(request: web.Request) -> Json:
    """Query, then form or JSON body. As at Meta, a body that is no JSON object counts as no parameters at all."""
    params: Json = dict(request.query)
    if request.content_type in _FORM_TYPES:
        form = await request.post()
        params.update({name: _decoded(value) for name, value in form.items() if isinstance(value, str)})
        return params
    try:
        body = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return params
    if isinstance(body, dict):
        params.update(body)
    return params


def _decoded(value: str) -> object:
    """Forms carry objects as JSON text."""
    if value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


class Param:
    """One JSON object of a request and the name it goes by in error details, such as `text` or `text['body']`."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid_parameter(f"Param {path} must be a JSON object.")
        self.value: Json = value
        self.path = path

    def name(self, key: str) -> str:
        return f"{self.path}['{key}']" if self.path else key

    def only(self, *known: str) -> None:
        for key in self.value:
            if key not in known:
                raise invalid_parameter(f'Unexpected key "{key}" on param "{self.path}".')

    def has(self, key: str) -> bool:
        return self.value.get(key) is not None

    def need(self, key: str) -> object:
        if not self.has(key):
            raise GraphError(131008, details=f"Parameter {self.name(key)} is required.")
        return self.value[key]

    def text(self, key: str, longest: int | None = None, *, may_be_empty: bool = False) -> str:
        value = self.need(key)
        if not isinstance(value, str):
            raise invalid_parameter(f"Param {self.name(key)} must be a string.")
        if not value and not may_be_empty:
            raise GraphError(131008, details=f"Parameter {self.name(key)} must not be empty.")
        if longest is not None and len(value) > longest:
            raise invalid_parameter(f"Param {self.name(key)} must be at most {longest} characters long.")
        return value

    def text_if_any(self, key: str, longest: int | None = None) -> str:
        return self.text(key, longest, may_be_empty=True) if self.has(key) else ""

    def flag(self, key: str) -> None:
        if self.has(key) and not isinstance(self.value[key], bool):
            raise invalid_parameter(f"Param {self.name(key)} must be a boolean.")

    def number(self, key: str, low: float, high: float) -> float:
        """A number, also as text."""
        value = self.need(key)
        try:
            found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
        except ValueError:
            found = None
        if found is None or not low <= found <= high:
            raise invalid_parameter(f"Param {self.name(key)} must be a number between {low:g} and {high:g}.")
        return found

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            listed = ", ".join(choices)
            raise invalid_parameter(f'Param {self.name(key)} must be one of {{{listed}}} - got "{value}".')
        return value

    def child(self, key: str) -> "Param":
        return Param(self.need(key), self.name(key))

    def items(self, key: str, fewest: int, most: int) -> list["Param"]:
        value = self.need(key)
        if not isinstance(value, list):
            raise invalid_parameter(f"Param {self.name(key)} must be an array.")
        if not fewest <= len(value) <= most:
            raise invalid_parameter(f"Param {self.name(key)} must have between {fewest} and {most} items.")
        return [Param(item, f"{self.name(key)}[{place}]") for place, item in enumerate(value)]
