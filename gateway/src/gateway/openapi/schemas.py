"""Messages as JSON Schema (the dialect of OpenAPI 3.1), in the canonical JSON of proto3.

What is sent and what is answered differ: requests keep rules and refuse unknown members, answers may grow.
"""

from collections.abc import Callable, Iterable
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi import rules
from gateway.openapi.comments import comments
from gateway.openapi.rules import Schema
from gateway.transcode.values import is_map

_LONG = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
_UNSIGNED_LONG = {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}
_INT = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_UNSIGNED = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**32 - 1}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: _INT,
    FieldDescriptor.TYPE_SINT32: _INT,
    FieldDescriptor.TYPE_SFIXED32: _INT,
    FieldDescriptor.TYPE_UINT32: _UNSIGNED,
    FieldDescriptor.TYPE_FIXED32: _UNSIGNED,
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_SFIXED64: _LONG,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED_LONG,
    FieldDescriptor.TYPE_FIXED64: _UNSIGNED_LONG,
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$",
        "description": 'A duration in seconds, such as "1.5s".',
    },
    "google.protobuf.FieldMask": {"type": "string", "description": "Field names, separated by commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
}
# The gateway has it where a browser keeps it in a cookie.
_FILLED_FROM_COOKIE = frozenset({"aerostic.auth.v1.RefreshSessionRequest.refresh_token"})
_OMITTED_WHEN_EMPTY = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

Reference = Callable[[Descriptor], Schema]


class Schemas:
    """The document's components, filled as operations ask for them."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._owners: dict[str, object] = {}

    def answer(self, descriptor: Descriptor) -> Schema:
        """A reference to how a message is answered."""
        return self._reference(descriptor, descriptor.name, _answered)

    def request(self, descriptor: Descriptor, *, without: frozenset[str] = frozenset()) -> Schema:
        """A reference to how a message is sent, without fields that the path gives."""
        name = descriptor.name if descriptor.name.endswith("Request") else f"{descriptor.name}Input"
        known = self._owners.get(name)
        if known is not None and known != (descriptor.full_name, without):
            name += "".join(f"Without{_pascal(field)}" for field in sorted(without))
        return self._add(
            name, (descriptor.full_name, without), lambda: _sent(descriptor, self._request_below, without=without)
        )

    def named(self, name: str, schema: Schema) -> Schema:
        """A reference to a component that no contract has."""
        return self._add(name, name, lambda: schema)

    def parameter(self, field: FieldDescriptor) -> Schema:
        """One text, or several, in a path or query."""
        return _field(field, self._request_below, is_sent=True)

    def _request_below(self, descriptor: Descriptor) -> Schema:
        return _WELL_KNOWN.get(descriptor.full_name) or self.request(descriptor)

    def _reference(self, descriptor: Descriptor, name: str, build: Callable[[Descriptor, Reference], Schema]) -> Schema:
        if (known := _WELL_KNOWN.get(descriptor.full_name)) is not None:
            return dict(known)
        return self._add(name, descriptor.full_name, lambda: build(descriptor, self.answer))

    def _add(self, name: str, owner: object, build: Callable[[], Schema]) -> Schema:
        if name not in self._owners:
            # Before it is built: a message may contain itself.
            self._owners[name] = owner
            self.components[name] = build()
        assert self._owners[name] == owner, f"two schemas would be called {name}"
        return {"$ref": f"#/components/schemas/{name}"}


def _answered(descriptor: Descriptor, reference: Reference) -> Schema:
    fields = list(descriptor.fields)
    schema = _object(descriptor, fields, reference, is_sent=False)
    if always := [field.json_name for field in fields if _is_always_printed(field)]:
        schema["required"] = always
    return schema


def _sent(descriptor: Descriptor, reference: Reference, *, without: frozenset[str]) -> Schema:
    fields = [field for field in descriptor.fields if field.name not in without]
    schema = _object(descriptor, fields, reference, is_sent=True)
    schema["additionalProperties"] = False
    if required := [field.json_name for field in fields if _must_be_sent(field)]:
        schema["required"] = required
    choices = [
        _choice([field.json_name for field in oneof.fields], is_required=rules.is_choice_required(oneof))
        for oneof in descriptor.oneofs
        if len(oneof.fields) > 1
    ]
    if choices:
        schema |= choices[0] if len(choices) == 1 else {"allOf": choices}
    return schema


def _object(
    descriptor: Descriptor, fields: Iterable[FieldDescriptor], reference: Reference, *, is_sent: bool
) -> Schema:
    schema: Schema = {"type": "object"}
    if text := comments().get(descriptor.full_name):
        schema["description"] = text
    schema["properties"] = {field.json_name: _field(field, reference, is_sent=is_sent) for field in fields}
    return schema


def _choice(names: list[str], *, is_required: bool) -> Schema:
    one = [{"required": [name]} for name in names]
    return {"oneOf": one if is_required else [*one, {"not": {"anyOf": one}}]}


def _field(field: FieldDescriptor, reference: Reference, *, is_sent: bool) -> Schema:
    if is_map(field):
        entry = cast("Descriptor", field.message_type)
        below = _field(entry.fields_by_name["value"], reference, is_sent=is_sent)
        schema: Schema = {"type": "object", "additionalProperties": below} | rules.many(field)
    else:
        schema = _value(field, reference) | (rules.single(field) if is_sent else {})
        if field.is_repeated:
            schema = {"type": "array", "items": schema} | (rules.many(field) if is_sent else {})
    described = _description(field, is_sent=is_sent)
    return schema | {"description": described} if described else schema


def _value(field: FieldDescriptor, reference: Reference) -> Schema:
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.message_type is None:
        return dict(_SCALARS[field.type])
    return dict(_WELL_KNOWN.get(field.message_type.full_name) or reference(field.message_type))


def _description(field: FieldDescriptor, *, is_sent: bool) -> str:
    told = [comments().get(field.full_name, "")]
    if is_sent:
        told += [f"It {rule}." for rule in rules.in_words(field)]
    return " ".join(filter(None, told))


def _must_be_sent(field: FieldDescriptor) -> bool:
    return rules.is_required(field) and field.full_name not in _FILLED_FROM_COOKIE


def _is_always_printed(field: FieldDescriptor) -> bool:
    return field.is_repeated or (not field.has_presence and field.type not in _OMITTED_WHEN_EMPTY)


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
