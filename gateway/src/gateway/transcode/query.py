"""Fills request messages from query parameters: every field that path and body leave, nested ones with dots."""

from collections.abc import Iterable
from typing import cast
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.transcode import scalars
from gateway.transcode.scalars import Wrong
from gateway.transcode.syntax import join, text_violation
from gateway.transcode.values import descriptor_of, fields_by_any_name, is_map, slot
from kit.errors import InvalidRequest, Violation

_PARAMETERS_MAX = 100


def parse(query_string: bytes) -> list[tuple[str, str]]:
    """Names and values in order. Raises InvalidRequest."""
    try:
        return parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except UnicodeDecodeError:
        message = "must be percent-encoded UTF-8"
    except ValueError:
        message = f"must have {_PARAMETERS_MAX} parameters at most"
    raise InvalidRequest.of(Violation("", "query.syntax", f"The query string {message}"))


def fill(into: Message, parameters: Iterable[tuple[str, str]], *, taken: frozenset[str]) -> list[Violation]:
    """Set fields from parameters; gives what is wrong. `taken`: fields that belong to path or body."""
    violations: list[Violation] = []
    seen: dict[str, str] = {}
    for name, text in parameters:
        place, found = join("", name), _find(descriptor_of(into), name)
        if found is None or found[0].name in taken:
            violations.append(Violation(place, "query.unknown", "is no parameter of this call"))
            continue
        # Two texts for one value, or for a choice: whichever won, somebody would be surprised.
        key = ".".join([*(each.name for each in found[:-1]), slot(found[-1])])
        if violation := text_violation(text, place):
            violations.append(violation)
        elif key in seen and not found[-1].is_repeated:
            violations.append(Violation(place, "query.duplicate", f"must not be given together with {seen[key]}"))
        else:
            seen[key] = name
            violations += _set(into, found, text)
    return violations


def set_field(into: Message, name: str, text: str) -> list[Violation]:
    """Set the field that a path variable names, as the proto names it."""
    found = _find(descriptor_of(into), name)
    assert found is not None, f"{name} was checked when the routes were derived"
    place = ".".join(field.json_name for field in found)
    if violation := text_violation(text, place):
        return [violation]
    return _set(into, found, text)


def settable(descriptor: Descriptor, name: str) -> bool:
    """Whether a path variable or parameter of this name can fill a field."""
    return _find(descriptor, name) is not None


def is_parameter(field: FieldDescriptor) -> bool:
    """Whether one text, or several, can be this field's value."""
    if field.message_type is None:
        return True
    return not is_map(field) and scalars.has_text_form(field.message_type.full_name)


def _find(descriptor: Descriptor, name: str) -> list[FieldDescriptor] | None:
    """The fields along a path such as "filter.state", the last one a value."""
    found: list[FieldDescriptor] = []
    for step in name.split("."):
        above = found[-1] if found else None
        if above is not None and (above.message_type is None or above.is_repeated or is_parameter(above)):
            return None
        owner = above.message_type if above is not None else descriptor
        field = fields_by_any_name(cast("Descriptor", owner)).get(step)
        if field is None:
            return None
        found.append(field)
    return found if is_parameter(found[-1]) else None


def _set(into: Message, path: list[FieldDescriptor], text: str) -> list[Violation]:
    *above, field = path
    for step in above:
        into = getattr(into, step.name)
    try:
        if field.message_type is not None:
            below = getattr(into, field.name)
            scalars.fill_well_known_text(below.add() if field.is_repeated else below, text)
        elif field.is_repeated:
            getattr(into, field.name).append(scalars.from_text(field, text))
        else:
            setattr(into, field.name, scalars.from_text(field, text))
    except Wrong as wrong:
        return [Violation(".".join(each.json_name for each in path), f"query.{wrong.rule}", wrong.message)]
    return []
