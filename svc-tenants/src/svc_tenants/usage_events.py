"""What events say about usage: pure, and quick, for every event of the installation passes here.

Of an event only what counts is decoded: its kind, tenant and time, and the words that a message has reached. Each word
comes once in a message's life, whatever statuses repeat or overtake each other, so that counting needs no memory of
messages.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

import msgspec

from kit.events import BATCH_TYPE, EventMalformed, type_of

_SUBJECTS = ("events.messaging.message.", "events.messaging.batch.")
_RECEIVED = type_of("messaging.message.received")
_UPDATED = type_of("messaging.message.updated")
_SENT, _DELIVERED, _FAILED = 1, 2, 3
_PLACES = {"accepted": _SENT, "delivered": _DELIVERED, "failed": _FAILED}

Counts = list[int]
"""Messages received, sent, delivered, failed."""


class _Data(msgspec.Struct, gc=False):
    reached: list[str] = []


class _Item(msgspec.Struct, gc=False):
    type: str
    tenant: str
    time: str
    data: _Data


_batch = msgspec.json.Decoder(list[_Item])
_alone = msgspec.json.Decoder(_Data)


@dataclass(slots=True)
class Tally:
    """Counts of many events by tenant and day (UTC)."""

    counts: dict[tuple[uuid.UUID, date], Counts] = field(default_factory=dict)
    _rows: dict[tuple[str, str], Counts] = field(default_factory=dict)

    def add(self, subject: str, headers: dict[str, str] | None, data: bytes) -> None:
        """Count the events of one message of EVENTS. Raises EventMalformed, and counts nothing of it then."""
        if not subject.startswith(_SUBJECTS):
            return
        try:
            items = _items(headers or {}, data)
            rows = [self._rows.get((item.tenant, item.time[:10])) or self._row(item) for item in items]
        except (KeyError, ValueError) as error:
            raise EventMalformed(f"{type(error).__name__}: {error}") from error
        for item, counts in zip(items, rows, strict=True):
            if item.type == _RECEIVED:
                counts[0] += 1
            elif item.type == _UPDATED:
                for word in item.data.reached:
                    if place := _PLACES.get(word):
                        counts[place] += 1

    def columns(self) -> Iterable[list[object]]:
        """Tenants, days, and the four counts; in one order everywhere, so that two transactions never wait for each
        other.
        """
        rows = sorted((tenant, day, *counts) for (tenant, day), counts in self.counts.items() if any(counts))
        return [[row[place] for row in rows] for place in range(6)]

    def _row(self, item: _Item) -> Counts:
        day = item.time[:10]
        counts = self.counts.setdefault((uuid.UUID(item.tenant), date.fromisoformat(day)), [0, 0, 0, 0])
        self._rows[item.tenant, day] = counts
        return counts


def _items(headers: dict[str, str], data: bytes) -> list[_Item]:
    if headers.get("content-type") == BATCH_TYPE:
        return _batch.decode(data)
    return [_Item(headers["ce-type"], headers["ce-tenant"], headers["ce-time"], _alone.decode(data))]
