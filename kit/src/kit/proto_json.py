"""Messages as JSON, for REST answers and for the data of events: proto3 JSON with one rule about what is left out.

Lists, maps, numbers, booleans and enums are always there, also when empty, 0 or false, so that readers need no
defaults. What is absent is left out: unset messages, unset optional fields and empty strings (in these contracts an
empty string means that there is none). A message type is compiled once, so that printing costs little more than reading
its fields.
"""

import base64
import functools
import math
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

Print = Callable[[Any], Any]
"""A field's value as JSON has it."""
Add = Callable[[Message, dict[str, Any]], None]
"""Puts a message's field into the printed object."""

_LONG = (
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
)
_INTEGERS_END = 2**53
"""From here on a double is not any integer's own; it is printed as the number it is."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (UTC without saying so, which would be printed)
_OMITTED_WHEN_EMPTY = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def to_json(message: Message) -> bytes:
    """The message as JSON text."""
    return msgspec.json.encode(to_dict(message))


def to_dict(message: Message) -> Any:
    """The message as `json` would load it: a dict, except for types such as Timestamp."""
    return _printer(cast("Descriptor", message.DESCRIPTOR))(message)


@functools.cache
def _printer(descriptor: Descriptor) -> Print:
    if descriptor.full_name.startswith("google.protobuf."):
        return _WELL_KNOWN.get(descriptor.full_name, MessageToDict)
    fields = [_field(field) for field in descriptor.fields]

    def print_message(message: Message) -> dict[str, Any]:
        printed: dict[str, Any] = {}
        for add in fields:
            add(message, printed)
        return printed

    return print_message


def _field(field: FieldDescriptor) -> Add:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return _map(field)
    if field.is_repeated:
        return _list(field)
    if field.has_presence:
        return _optional(field)
    return _omitted_when_empty(field) if field.type in _OMITTED_WHEN_EMPTY else _always(field)


def _map(field: FieldDescriptor) -> Add:
    name, key = field.name, field.json_name
    entry = cast("Descriptor", field.message_type)
    print_value = _value(entry.fields_by_name["value"])

    def add(message: Message, printed: dict[str, Any]) -> None:
        printed[key] = {_map_key(each): print_value(value) for each, value in getattr(message, name).items()}

    return add


def _list(field: FieldDescriptor) -> Add:
    name, key, print_value = field.name, field.json_name, _value(field)

    def add(message: Message, printed: dict[str, Any]) -> None:
        printed[key] = [print_value(value) for value in getattr(message, name)]

    return add


def _optional(field: FieldDescriptor) -> Add:
    name, key, print_value = field.name, field.json_name, _value(field)

    def add(message: Message, printed: dict[str, Any]) -> None:
        if message.HasField(name):
            printed[key] = print_value(getattr(message, name))

    return add


def _omitted_when_empty(field: FieldDescriptor) -> Add:
    name, key, print_value = field.name, field.json_name, _value(field)

    def add(message: Message, printed: dict[str, Any]) -> None:
        if value := getattr(message, name):
            printed[key] = print_value(value)

    return add


def _always(field: FieldDescriptor) -> Add:
    name, key, print_value = field.name, field.json_name, _value(field)

    def add(message: Message, printed: dict[str, Any]) -> None:
        printed[key] = print_value(getattr(message, name))

    return add


def _value(field: FieldDescriptor) -> Print:
    if field.message_type is not None:
        return functools.partial(_message, field.message_type)
    if field.enum_type is not None:
        return functools.partial(_enum, field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _number
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return lambda value: _number(_shortest(value))
    return str if field.type in _LONG else _as_it_is


def _message(descriptor: Descriptor, value: Message) -> Any:
    # Looked up when printing, not before: a type may contain itself.
    return _printer(descriptor)(value)


def _as_it_is(value: Any) -> Any:
    return value


def _map_key(key: object) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def _enum(descriptor: EnumDescriptor, number: int) -> str | int:
    value = descriptor.values_by_number.get(number)
    return value.name if value else number


def _number(value: float) -> float | str:
    """JSON has no such words as NaN; proto3 JSON writes them as strings."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _shortest(value: float) -> float:
    """The shortest decimal that is the same 32-bit number: 0.1 instead of 0.10000000149011612."""
    if not math.isfinite(value):
        return value
    candidates = (float(f"{value:.{digits}g}") for digits in (6, 7, 8))
    return next((each for each in candidates if struct.pack("f", each) == struct.pack("f", value)), value)


def _struct(value: Struct) -> dict[str, Any]:
    return {key: _any_value(each) for key, each in value.fields.items()}


def _list_value(value: ListValue) -> list[Any]:
    return [_any_value(each) for each in value.values]


def _any_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _INTEGERS_END else _number(number)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _struct(value.struct_value)
        case "list_value":
            return _list_value(value.list_value)
        case _:
            return None


def _text(value: Any) -> str:
    text: str = value.ToJsonString()
    return text


def _timestamp(value: Timestamp) -> str:
    """With 0 or 6 digits after the second, as msgspec writes a datetime; with 9 where it is finer than that."""
    micros, finer = divmod(value.nanos, 1000)
    if finer:
        return _text(value)
    return f"{(_EPOCH + timedelta(0, value.seconds, micros)).isoformat()}Z"


_WELL_KNOWN: dict[str, Print] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _text,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list_value,
    "google.protobuf.Value": _any_value,
}
