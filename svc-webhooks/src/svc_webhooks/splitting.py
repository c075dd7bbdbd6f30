"""Which partitions a webhook body belongs to, and its parts when it belongs to several.

The unit of order is one contact of one number: its messages and the statuses of what was sent to it. A body whose items
all belong to one partition passes as the bytes that were signed. One that spans partitions is cut into bodies of the
same shape: every message and status stands in exactly one of them, in order, with all that surrounds it.

Whatever has another shape is an item as a whole, and keeps it: a change without messages and statuses, an entry without
changes. The reader of the journal says what is wrong with it.

A number in the routes belongs to a tenant with partitions of its own, so its items go there (ADR 0025).

The contact is named by its wa_id where the item has one, and by its BSUID otherwise. Meta shows a person's number
either always or not at all for weeks, so both kinds of item of one person meet in one partition in all but the rare
moment of change, and storing is correct in any order anyway.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from kit.partitions import name_of, partition_of

Json = dict[str, Any]

NO_ROUTES: Mapping[str, str] = {}
UNREADABLE_PARTITION = name_of(0)
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


class _Layout(NamedTuple):
    """Which partitions there are."""

    partitions: int
    routes: Mapping[str, str]

    def partition(self, number: str, entry_name: str, contact: str) -> str:
        """Items belong to their number and contact; what has neither belongs to its entry."""
        partition = partition_of(f"{number or entry_name}/{contact}", self.partitions)
        return name_of(partition, self.routes.get(number, ""))


def split(body: bytes, count: int, routes: Mapping[str, str] = NO_ROUTES) -> list[tuple[str, bytes]]:
    """The parts of a body, each with its partition's name. Usually one: the body itself.

    `count`: partitions that tenants share, and that each of the others has. `routes`: the tenants with partitions of
    their own, by number.
    """
    if count == 1 and not routes:
        return [(UNREADABLE_PARTITION, body)]
    layout = _Layout(count, routes)
    partition = _only_partition(body, layout)
    if partition is not None:
        return [(partition, body)]
    try:
        return _parts(msgspec.json.decode(body), body, layout, msgspec.json.encode)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # The standard decoder takes half a surrogate pair and such, which are no reason to lose order.
        return _parts(json.loads(body), body, layout, _encode_slowly)
    except (ValueError, RecursionError):
        return [(UNREADABLE_PARTITION, body)]


def _parts(decoded: Any, body: bytes, layout: _Layout, encode: Callable[[Json], bytes]) -> list[tuple[str, bytes]]:
    parts = _cut(decoded, layout)
    if len(parts) <= 1:
        return [(next(iter(parts), UNREADABLE_PARTITION), body)]
    return [(partition, encode(part)) for partition, part in sorted(parts.items())]


def _only_partition(body: bytes, layout: _Layout) -> str | None:
    """The short way for nearly all bodies: None where there are several partitions, or types that Meta does not use."""
    try:
        decoded = _keys_only.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found: set[str] = set()
    for entry in decoded.entry:
        if not entry.changes:
            found.add(layout.partition("", entry.id, ""))
        for change in entry.changes:
            number = change.value.metadata.phone_number_id
            items = [*change.value.messages, *change.value.statuses]
            for item in items:
                contact = item.from_ or item.recipient_id or item.from_user_id or item.recipient_user_id
                found.add(layout.partition(number, "", contact))
            if not items:
                found.add(layout.partition(number, entry.id, ""))
    return found.pop() if len(found) == 1 else None


def _encode_slowly(part: Json) -> bytes:
    """For half a surrogate pair Python's escape is JSON's, too."""
    return json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _cut(body: Any, layout: _Layout) -> dict[str, Json]:
    """By partition: the body with the entries that belong there. Empty for a body of another shape."""
    parts: dict[str, list[Any]] = {}
    for entry in _list(_dict(body).get("entry")):
        for partition, part in _cut_entry(entry, layout).items():
            parts.setdefault(partition, []).append(part)
    return {partition: {**body, "entry": entries} for partition, entries in parts.items()}


def _cut_entry(entry: Any, layout: _Layout) -> dict[str, Any]:
    name, changes = _text(_dict(entry).get("id")), _list(_dict(entry).get("changes"))
    if not changes:
        return {layout.partition("", name, ""): entry}
    parts: dict[str, list[Any]] = {}
    for change in changes:
        for partition, part in _cut_change(name, change, layout).items():
            parts.setdefault(partition, []).append(part)
    return {partition: {**entry, "changes": kept} for partition, kept in parts.items()}


def _cut_change(entry_name: str, change: Any, layout: _Layout) -> dict[str, Any]:
    value = _dict(_dict(change).get("value"))
    number = _text(_dict(value.get("metadata")).get("phone_number_id"))
    lists = {name: value[name] for name in ("messages", "statuses") if isinstance(value.get(name), list)}
    if not any(lists.values()):
        return {layout.partition(number, entry_name, ""): change}
    parts: dict[str, dict[str, list[Any]]] = {}
    for name, items in lists.items():
        for item in items:
            partition = layout.partition(number, "", _contact(_dict(item)))
            parts.setdefault(partition, {other: [] for other in lists})[name].append(item)
    # contacts[] stays whole: it is small, and an item may need any of it.
    return {partition: {**change, "value": {**value, **kept}} for partition, kept in parts.items()}


def _contact(item: Json) -> str:
    keys = ("from", "recipient_id", "from_user_id", "recipient_user_id")
    return next((text for key in keys if (text := _text(item.get(key)))), "")


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Texts are keys only here, so half a surrogate pair, which has no bytes, may stand as a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
