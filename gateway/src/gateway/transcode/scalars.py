"""Single values of proto3 JSON, from JSON or from the text of a path or query: strictly of their field's type."""

import base64
import binascii
import math
import re
import struct
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_WORDS_FOR_NUMBERS = ("NaN", "Infinity", "-Infinity")
_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
# How a value of these types looks, and the types that a query parameter can hold.
_TEXT_FORMS = {
    "google.protobuf.Timestamp": "a time such as 2026-01-31T23:59:59Z",
    "google.protobuf.Duration": "a duration in seconds such as 1.5s",
    "google.protobuf.FieldMask": "field names separated by commas",
}
_JSON_FORMS = {
    **_TEXT_FORMS,
    "google.protobuf.Struct": "an object",
    "google.protobuf.ListValue": "an array",
}
_PREFIX = "google.protobuf."
WRAPPERS = frozenset(
    f"{_PREFIX}{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class Wrong(Exception):
    """A value breaks a rule of its type."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


def from_json(field: FieldDescriptor, value: Any) -> Any:
    """A scalar or enum field's value. Raises Wrong."""
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _typed(value, str, "a string")
        case FieldDescriptor.TYPE_BYTES:
            return _bytes(_typed(value, str, "a string in base64"))
        case FieldDescriptor.TYPE_BOOL:
            return _typed(value, bool, "true or false")
        case kind if kind in _FLOATS:
            return _float(field, value)
        case _:
            return _integer(field, value)


def from_text(field: FieldDescriptor, text: str) -> Any:
    """The same from a path or query, where everything is text."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in {"true", "false"}:
            raise Wrong("type", "must be true or false")
        return text == "true"
    if field.enum_type is not None and _INTEGER.fullmatch(text):
        return _enum(field.enum_type, int(text))
    return from_json(field, text)


def is_well_known(full_name: str) -> bool:
    """Whether a message type has a JSON form of its own."""
    return full_name.startswith(_PREFIX) and full_name != f"{_PREFIX}Empty"


def has_text_form(full_name: str) -> bool:
    return full_name in _TEXT_FORMS or full_name in WRAPPERS


def fill_well_known(into: Message, value: Any) -> None:
    """Read a type such as Timestamp or Struct. Raises Wrong."""
    full_name = into.DESCRIPTOR.full_name
    if full_name in WRAPPERS:
        _set_wrapped(into, from_json(_wrapped(into), value))
        return
    form = _JSON_FORMS.get(full_name, "a JSON value")
    expected: type = {"an object": dict, "an array": list}.get(form, str if full_name in _TEXT_FORMS else object)
    _typed(value, expected, form)
    try:
        ParseDict(value, into)
    except (ParseError, ValueError, OverflowError):
        raise Wrong("type", f"must be {form}") from None


def fill_well_known_text(into: Message, text: str) -> None:
    """The same from a query. Only for types that `has_text_form`."""
    if into.DESCRIPTOR.full_name in WRAPPERS:
        _set_wrapped(into, from_text(_wrapped(into), text))
    else:
        fill_well_known(into, text)


def _wrapped(wrapper: Message) -> FieldDescriptor:
    return cast("FieldDescriptor", wrapper.DESCRIPTOR.fields_by_name["value"])


def _set_wrapped(wrapper: Message, value: Any) -> None:
    setattr(wrapper, _wrapped(wrapper).name, value)


def _typed(value: Any, kind: type, form: str) -> Any:
    # bool is an int to Python, and to nobody else.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in {bool, object}):
        raise Wrong("type", f"must be {form}")
    return value


def _integer(field: FieldDescriptor, value: Any) -> int:
    is_text = isinstance(value, str) and _INTEGER.fullmatch(value)
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == math.floor(value)
    if not is_text and not is_whole:
        raise Wrong("type", "must be a whole number")
    number = int(value)
    least, most = _RANGES[field.cpp_type]
    if not least <= number <= most:
        raise Wrong("range", f"must be from {least} to {most}")
    return number


def _float(field: FieldDescriptor, value: Any) -> float:
    is_text = isinstance(value, str) and (value in _WORDS_FOR_NUMBERS or _DECIMAL.fullmatch(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_text and not is_number:
        raise Wrong("type", "must be a number")
    try:
        number = float(value)
        if field.type == FieldDescriptor.TYPE_FLOAT:
            struct.pack("f", number)
    except OverflowError:
        raise Wrong("range", "must be a number that the field can hold") from None
    if math.isinf(number) and value not in _WORDS_FOR_NUMBERS:
        raise Wrong("range", "must be a number that the field can hold")
    return number


def _bytes(text: str) -> bytes:
    """Standard or URL-safe alphabet, padded or not."""
    unpadded = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("type", "must be a string in base64") from None


def _enum(descriptor: EnumDescriptor, value: Any) -> int:
    if isinstance(value, str) and value in descriptor.values_by_name:
        return descriptor.values_by_name[value].number
    if isinstance(value, int) and not isinstance(value, bool) and value in descriptor.values_by_number:
        return value
    raise Wrong("enum", f"must be one of {', '.join(descriptor.values_by_name)}")
