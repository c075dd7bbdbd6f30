"""CloudEvents 1.0 in JSON on the stream EVENTS.

One event travels in binary mode (its attributes are `ce-` headers, after the NATS binding), several of one tenant in
the batch format, so that a batch of changes costs one disk flush. Readers get the same `Event` from both.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from kit.ids import new_id
from kit.outbox import Outgoing

BATCH_TYPE = "application/cloudevents-batch+json"
_TYPE_PREFIX = "io.aerostic."
# A message that NATS finds too large would stay in the outbox for ever: batches end well below its limit.
_BATCH_BYTES_MAX = 1024 * 1024


class EventMalformed(Exception):
    """A message on EVENTS is no CloudEvent of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact. `kind` is `<service>.<resource>.<verb>` in the past tense, such as "messaging.message.received"."""

    kind: str
    tenant_id: uuid.UUID
    subject: str
    """What it happened to, such as "messages/<id>"."""
    data: dict[str, Any]
    """The proto3 JSON of the event's message. No secrets."""
    id: uuid.UUID = field(default_factory=new_id)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


def subject_of(kind: str, tenant_id: uuid.UUID) -> str:
    return f"events.{kind}.{tenant_id}"


def outgoing(events: list[Event], *, headers: dict[str, str] | None = None) -> list[Outgoing]:
    """Outbox rows for events, those of one kind and tenant together up to 1 MiB. `headers` carry the trace."""
    groups: dict[str, list[_Printed]] = {}
    for event in events:
        printed = _Printed(event, _json(event.data))
        groups.setdefault(subject_of(event.kind, event.tenant_id), []).append(printed)
    return [_outgoing(subject, batch, headers or {}) for subject, group in groups.items() for batch in _batches(group)]


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


class _Printed(NamedTuple):
    event: Event
    data: bytes


def _batches(group: list[_Printed]) -> Iterator[list[_Printed]]:
    batch: list[_Printed] = []
    size = 0
    for printed in group:
        if batch and size + len(printed.data) > _BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(printed)
        size += len(printed.data)
    yield batch


def _outgoing(subject: str, batch: list[_Printed], headers: dict[str, str]) -> Outgoing:
    first = batch[0].event
    if len(batch) == 1:
        attributes = {f"ce-{key}": quote(value, safe=" /:+-._~") for key, value in _attributes(first).items()}
        return Outgoing(subject, batch[0].data, headers={**headers, **attributes}, id=first.id)
    items = [_json(_attributes(event))[:-1] + b',"data":' + data + b"}" for event, data in batch]
    data = b"[" + b",".join(items) + b"]"
    return Outgoing(subject, data, headers={**headers, "content-type": BATCH_TYPE}, id=first.id)


def _attributes(event: Event) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"//{event.kind.split('.', 1)[0]}.aerostic.io",
        "type": f"{_TYPE_PREFIX}{event.kind}.v1",
        "subject": event.subject,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "tenant": str(event.tenant_id),
    }


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
