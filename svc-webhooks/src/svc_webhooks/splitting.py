"""Which partitions a webhook body belongs to, and its parts when it belongs to several.

The unit of order is one contact of one number: its messages and the statuses of what was sent to it. A body whose items
all belong to one partition passes as the bytes that were signed. One that spans partitions is cut into bodies of the
same shape: every message and status stands in exactly one of them, in order, with all that surrounds it.

The contact is named by its wa_id where the item has one, and by its BSUID otherwise. Meta shows a person's number
either always or not at all for weeks, so both kinds of item of one person meet in one partition in all but the rare
moment of change, and storing is correct in any order anyway.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kit.partitions import partition_of

Json = dict[str, Any]

UNREADABLE_PARTITION = 0
"""For bodies that are no JSON of Meta's form: they are journaled like all others and parked by their reader."""


class _Named(msgspec.Struct):
    phone_number_id: str = ""


class _Item(msgspec.Struct):
    from_: str = msgspec.field(default="", name="from")
    from_user_id: str = ""
    recipient_id: str = ""
    recipient_user_id: str = ""


class _Value(msgspec.Struct):
    metadata: _Named = msgspec.field(default_factory=_Named)
    messages: list[_Item] = []
    statuses: list[_Item] = []


class _Change(msgspec.Struct):
    value: _Value


class _Entry(msgspec.Struct):
    changes: list[_Change]
    id: str = ""


class _Body(msgspec.Struct):
    entry: list[_Entry]


_keys_only = msgspec.json.Decoder(_Body)


def split(body: bytes, count: int) -> list[tuple[int, bytes]]:
    """The parts of a body, each with its partition. Usually one: the body itself."""
    try:
        partitions = _partitions(_keys_only.decode(body), count)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return _split_loosely(body, count)
    if len(partitions) <= 1:
        return [(partitions.pop() if partitions else UNREADABLE_PARTITION, body)]
    return _cut(msgspec.json.decode(body), sorted(partitions), count)


def _split_loosely(body: bytes, count: int) -> list[tuple[int, bytes]]:
    """A body with odd types somewhere: its well-formed items must reach their partitions all the same."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [(UNREADABLE_PARTITION, body)]
    partitions = {partition for _, _, partition in _items(decoded, count)}
    if len(partitions) <= 1:
        return [(partitions.pop() if partitions else UNREADABLE_PARTITION, body)]
    return _cut(decoded, sorted(partitions), count)


def _partitions(body: _Body, count: int) -> set[int]:
    found: set[int] = set()
    for entry in body.entry:
        for change in entry.changes:
            number = change.value.metadata.phone_number_id
            items = [*change.value.messages, *change.value.statuses]
            for item in items:
                contact = item.from_ or item.recipient_id or item.from_user_id or item.recipient_user_id
                found.add(partition_of(f"{number}/{contact}", count))
            if not items:
                found.add(partition_of(f"{number or entry.id}/", count))
    return found


def _items(body: Any, count: int) -> Iterator[tuple[str, Any, int]]:
    """Every item of a body of any shape: the list it stands in, the item, its partition. A change without items is one
    itself.
    """
    for entry in _list(_dict(body).get("entry")):
        for change in _list(_dict(entry).get("changes")):
            value = _dict(_dict(change).get("value"))
            number = _text(_dict(value.get("metadata")).get("phone_number_id"))
            lists = [(name, item) for name in ("messages", "statuses") for item in _list(value.get(name))]
            for name, item in lists:
                yield name, item, partition_of(f"{number}/{_contact(_dict(item))}", count)
            if not lists:
                yield "change", change, partition_of(f"{number or _text(_dict(entry).get('id'))}/", count)


def _contact(item: Json) -> str:
    keys = ("from", "recipient_id", "from_user_id", "recipient_user_id")
    return next((text for key in keys if (text := _text(item.get(key)))), "")


def _cut(body: Json, partitions: list[int], count: int) -> list[tuple[int, bytes]]:
    return [(partition, msgspec.json.encode(_part(body, partition, count))) for partition in partitions]


def _part(body: Json, partition: int, count: int) -> Json:
    """The body with the items of one partition only. Entries and changes that hold none are left out."""

    def belongs(number: str, contact: str) -> bool:
        return partition_of(f"{number}/{contact}", count) == partition

    entries = [part for entry in _list(body.get("entry")) if (part := _entry_part(_dict(entry), belongs))]
    return {**body, "entry": entries}


def _entry_part(entry: Json, belongs: Callable[[str, str], bool]) -> Json | None:
    changes = [part for change in _list(entry.get("changes")) if (part := _change_part(entry, _dict(change), belongs))]
    return {**entry, "changes": changes} if changes else None


def _change_part(entry: Json, change: Json, belongs: Callable[[str, str], bool]) -> Json | None:
    value = _dict(change.get("value"))
    number = _text(_dict(value.get("metadata")).get("phone_number_id"))
    lists = {name: _list(value[name]) for name in ("messages", "statuses") if isinstance(value.get(name), list)}
    if not any(lists.values()):
        return change if belongs(number or _text(entry.get("id")), "") else None
    kept = {name: [item for item in items if belongs(number, _contact(_dict(item)))] for name, items in lists.items()}
    if not any(kept.values()):
        return None
    # contacts[] stays whole: it is small, and an item may need any of it.
    return {**change, "value": {**value, **kept}}


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
