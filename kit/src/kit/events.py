"""CloudEvents 1.0 in JSON on the stream EVENTS.

One event travels in binary mode (its attributes are `ce-` headers, after the NATS binding), several of one tenant in
the batch format, so that a batch of changes costs one disk flush. Readers get the same `Event` from both; a reader of
one kind asks for its subject and for `events.<service>.batch.mixed.*`, and looks at each event's kind.
"""

import functools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from kit.ids import new_id
from kit.outgoing import Outgoing

BATCH_TYPE = "application/cloudevents-batch+json"
_MIXED = "batch.mixed"
"""Stands in the subject for resource and verb where a batch holds events of several kinds."""
_TYPE_PREFIX = "io.aerostic."
# A message that NATS finds too large would stay in the outbox for ever: batches end well below its limit.
_BATCH_BYTES_MAX = 1024 * 1024


class EventMalformed(Exception):
    """A message on EVENTS is no CloudEvent of ours."""


class Event(msgspec.Struct, frozen=True):
    """A fact. `kind` is `<service>.<resource>.<verb>` in the past tense, such as "messaging.message.received"."""

    kind: str
    tenant_id: uuid.UUID
    subject: str
    """What it happened to, such as "messages/<id>"."""
    data: dict[str, Any]
    """The proto3 JSON of the event's message. No secrets."""
    id: uuid.UUID = msgspec.field(default_factory=new_id)
    time: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


@functools.cache
def type_of(kind: str) -> str:
    """The CloudEvents type of a kind."""
    return f"{_TYPE_PREFIX}{kind}.v1"


def subject_of(kind: str, tenant_id: uuid.UUID) -> str:
    return f"events.{kind}.{tenant_id}"


def outgoing(events: list[Event], *, headers: dict[str, str] | None = None) -> list[Outgoing]:
    """Outbox rows for events, those of one tenant together up to 1 MiB (ADR 0020). `headers` carry the trace."""
    groups: dict[uuid.UUID, list[Event]] = {}
    for event in events:
        groups.setdefault(event.tenant_id, []).append(event)
    return [row for group in groups.values() for row in _rows(group, headers or {})]


def decode(headers: dict[str, str] | None, data: bytes) -> list[Event]:
    """The events of one message, in order."""
    attributes = headers or {}
    try:
        if attributes.get("content-type") == BATCH_TYPE:
            return [_from_attributes(item, item["data"]) for item in msgspec.json.decode(data)]
        named = {key[3:]: unquote(value) for key, value in attributes.items() if key.startswith("ce-")}
        return [_from_attributes(named, msgspec.json.decode(data))]
    except (KeyError, ValueError, TypeError) as error:
        raise EventMalformed(f"{type(error).__name__}: {error}") from error


class _InBatch(msgspec.Struct):
    """An event as the batch format writes it."""

    id: uuid.UUID
    subject: str
    time: datetime
    tenant: uuid.UUID
    source: str
    type: str
    data: dict[str, Any]
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


def _rows(group: list[Event], headers: dict[str, str]) -> Iterator[Outgoing]:
    if len(group) == 1:
        yield _alone(group[0], headers)
        return
    batch: list[bytes] = []
    size, start = 0, 0
    for place, event in enumerate(group):
        printed = _printed(event)
        if batch and size + len(printed) > _BATCH_BYTES_MAX:
            yield _together(group[start:place], batch, headers)
            batch, size, start = [], 0, place
        batch.append(printed)
        size += len(printed)
    yield _together(group[start:], batch, headers)


def _printed(event: Event) -> bytes:
    kind = event.kind
    return _json(
        _InBatch(event.id, event.subject, event.time, event.tenant_id, _source(kind), type_of(kind), event.data)
    )


def _alone(event: Event, headers: dict[str, str]) -> Outgoing:
    attributes = {f"ce-{key}": quote(value, safe=" /:+-._~") for key, value in _attributes(event).items()}
    subject = subject_of(event.kind, event.tenant_id)
    return Outgoing(subject, _json(event.data), headers={**headers, **attributes}, id=event.id)


def _together(group: list[Event], printed: list[bytes], headers: dict[str, str]) -> Outgoing:
    first, *rest = group
    service = first.kind.split(".", 1)[0]
    kind = first.kind if all(event.kind == first.kind for event in rest) else f"{service}.{_MIXED}"
    data = b"[" + b",".join(printed) + b"]"
    subject = subject_of(kind, first.tenant_id)
    return Outgoing(subject, data, headers={**headers, "content-type": BATCH_TYPE}, id=first.id)


def _attributes(event: Event) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": _source(event.kind),
        "type": type_of(event.kind),
        "subject": event.subject,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "tenant": str(event.tenant_id),
    }


@functools.cache
def _source(kind: str) -> str:
    return f"//{kind.split('.', 1)[0]}.aerostic.io"


def _from_attributes(attributes: dict[str, str], data: dict[str, Any]) -> Event:
    return Event(
        kind=attributes["type"].removeprefix(_TYPE_PREFIX).removesuffix(".v1"),
        tenant_id=uuid.UUID(attributes["tenant"]),
        subject=attributes["subject"],
        data=data,
        id=uuid.UUID(attributes["id"]),
        time=datetime.fromisoformat(attributes["time"]),
    )


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
