"""Checks requests against the rules in their protos and words what is wrong as REST users see it."""

from typing import cast

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from protovalidate import FieldPathElementPb, ViolationPb

from kit.errors import InvalidRequest, Violation

# Compiles the rules of a message type when it first sees one.
_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Raises InvalidRequest naming every field and rule that is broken."""
    if found := _validator.collect_violations(message):
        descriptor = cast("Descriptor", message.DESCRIPTOR)
        raise InvalidRequest.of(*(_violation(descriptor, one.proto) for one in found))


def _violation(descriptor: Descriptor, found: ViolationPb) -> Violation:
    elements = found.field.elements if found.field else []
    path, oneof = _json_path(descriptor, elements)
    if oneof:
        return Violation(path, "oneof.required", f"needs exactly one of {', '.join(oneof)}")
    # Read after the field's name: "template value is required" says less well what "template is required" says.
    return Violation(path, found.rule_id, found.message.removeprefix("value "))


def _json_path(descriptor: Descriptor | None, elements: list[FieldPathElementPb]) -> tuple[str, list[str]]:
    """The path in JSON names; and the members' names where it ends at a oneof."""
    path = ""
    for element in elements:
        dot = "." if path else ""
        field = descriptor.fields_by_name.get(element.field_name) if descriptor else None
        if field is None:
            oneof = descriptor.oneofs_by_name.get(element.field_name) if descriptor else None
            return f"{path}{dot}{element.field_name}", [member.json_name for member in oneof.fields] if oneof else []
        path += f"{dot}{field.json_name}{_subscript(element)}"
        descriptor = _message_below(field)
    return path, []


def _subscript(element: FieldPathElementPb) -> str:
    return f"[{element.subscript.value}]" if element.subscript else ""


def _message_below(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    if message and message.GetOptions().map_entry:
        value: Descriptor | None = message.fields_by_name["value"].message_type
        return value
    return message
