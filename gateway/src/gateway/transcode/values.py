"""Fills request messages from parsed JSON, naming every member that does not fit.

Names are accepted as JSON has them and as the proto has them; null means absent.
"""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.transcode import scalars
from gateway.transcode.scalars import Wrong
from gateway.transcode.syntax import join
from kit.errors import Violation

VIOLATIONS_MAX = 20


def fill(into: Message, members: Mapping[str, Any], *, taken: frozenset[str] = frozenset()) -> list[Violation]:
    """Set the message's fields; gives what is wrong, the first 20. `taken`: fields that the path has set."""
    filler = _Filler(taken)
    filler.message(into, members, "")
    return filler.violations


class _Filler:
    def __init__(self, taken: frozenset[str]) -> None:
        self._taken = taken
        self.violations: list[Violation] = []

    def message(self, into: Message, members: Mapping[str, Any], path: str) -> None:
        fields = fields_by_any_name(descriptor_of(into))
        seen: dict[str, str] = {}
        for name, value in members.items():
            if len(self.violations) >= VIOLATIONS_MAX:
                return
            place, field = join(path, name), fields.get(name)
            if field is None:
                self._wrong(place, "json.unknown_field", "is no field here")
            elif not path and field.name in self._taken:
                self._wrong(place, "json.path_field", "is given by the path and must not be repeated")
            elif value is None and not _takes_null(field):
                continue
            elif other := seen.get(slot(field)):
                self._wrong(place, "json.oneof", f"must not be given together with {other}")
            else:
                seen[slot(field)] = name
                self._field(into, field, value, place)

    def _field(self, into: Message, field: FieldDescriptor, value: Any, place: str) -> None:
        if is_map(field):
            self._map(into, field, value, place)
        elif field.is_repeated:
            self._list(into, field, value, place)
        elif field.message_type is not None:
            below: Message = getattr(into, field.name)
            below.SetInParent()
            self._submessage(below, value, place)
        else:
            with self._naming(place):
                setattr(into, field.name, scalars.from_json(field, value))

    def _list(self, into: Message, field: FieldDescriptor, value: Any, place: str) -> None:
        if not isinstance(value, list):
            self._wrong(place, "json.type", "must be an array")
            return
        items = getattr(into, field.name)
        for index, item in enumerate(value):
            at = f"{place}[{index}]"
            if len(self.violations) >= VIOLATIONS_MAX:
                return
            if item is None and not _takes_null(field):
                self._wrong(at, "json.type", "must not be null")
            elif field.message_type is not None:
                self._submessage(items.add(), item, at)
            else:
                with self._naming(at):
                    items.append(scalars.from_json(field, item))

    def _map(self, into: Message, field: FieldDescriptor, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            self._wrong(place, "json.type", "must be an object")
            return
        entry = cast("Descriptor", field.message_type)
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        entries = getattr(into, field.name)
        for name, item in value.items():
            at = join(place, name)
            if len(self.violations) >= VIOLATIONS_MAX:
                return
            if item is None and not _takes_null(value_field):
                self._wrong(at, "json.type", "must not be null")
                continue
            with self._naming(at):
                key = scalars.from_text(key_field, name)
                if value_field.message_type is not None:
                    self._submessage(entries[key], item, at)
                else:
                    entries[key] = scalars.from_json(value_field, item)

    def _submessage(self, into: Message, value: Any, place: str) -> None:
        if scalars.is_well_known(descriptor_of(into).full_name):
            with self._naming(place):
                scalars.fill_well_known(into, value)
        elif isinstance(value, dict):
            self.message(into, value, place)
        else:
            self._wrong(place, "json.type", "must be an object")

    @contextmanager
    def _naming(self, place: str) -> Iterator[None]:
        try:
            yield
        except Wrong as wrong:
            self._wrong(place, f"json.{wrong.rule}", wrong.message)

    def _wrong(self, place: str, rule: str, message: str) -> None:
        self.violations.append(Violation(place, rule, message))


def descriptor_of(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@functools.cache
def fields_by_any_name(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Fields by their JSON names and by their names in the proto."""
    return {field.name: field for field in descriptor.fields} | {field.json_name: field for field in descriptor.fields}


def _takes_null(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def slot(field: FieldDescriptor) -> str:
    """What one value may take: the field itself, under either name, or the oneof it is a choice of."""
    oneof = field.containing_oneof
    return f"oneof {oneof.name}" if oneof and len(oneof.fields) > 1 else field.name
