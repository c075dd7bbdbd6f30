"""Events as the live stream sends them, printed once for all who read them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.stream.positions import Position
from kit import events
from kit.events import Event

VISIBLE: Mapping[str, str] = {
    "messaging.message": "messages.read",
    "messaging.conversation": "conversations.read",
    "messaging.contact": "contacts.read",
    "tenants.tenant": "tenant.read",
    "tenants.whatsappaccount": "whatsappAccounts.read",
    "auth.member": "tenant.read",
}
"""Resources whose events people may see, by the permission that reading them takes. All others stay inside."""

_SESSION_REVOKED = "auth.session.revoked"
_SESSIONS = "sessions/"


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on its way to readers."""

    position: Position
    permission: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What one message of EVENTS tells."""

    frames: Sequence[Frame]
    revoked: frozenset[str] = frozenset()
    """Ids of sessions that are over."""

    @property
    def size(self) -> int:
        return sum(len(frame.text) for frame in self.frames)


def tenant_of(subject: str) -> uuid.UUID | None:
    """Whose message it is; None for a subject that is none of ours."""
    try:
        return uuid.UUID(subject.rpartition(".")[2])
    except ValueError:
        return None


def tell(sequence: int, tenant_id: uuid.UUID, headers: dict[str, str] | None, data: bytes) -> Told:
    """What readers learn of a message. Raises events.EventMalformed."""
    frames: list[Frame] = []
    revoked: set[str] = set()
    for offset, event in enumerate(events.decode(headers, data)):
        if event.tenant_id != tenant_id:
            # The subject decided who gets the message; an event of another workspace must not ride along.
            raise events.EventMalformed("the event is of another tenant than its subject")
        if event.kind == _SESSION_REVOKED:
            revoked.add(event.subject.removeprefix(_SESSIONS))
        elif permission := VISIBLE.get(event.kind.rpartition(".")[0]):
            position = Position(sequence, offset)
            frames.append(Frame(position, permission, print_event(position, event.kind, _data(event))))
    return Told(frames, frozenset(revoked))


def print_event(position: Position, kind: str, data: Mapping[str, Any]) -> bytes:
    """An event that a reader may go on from."""
    return f"id: {position}\n".encode() + print_notice(kind, data)


def print_notice(kind: str, data: Mapping[str, Any]) -> bytes:
    """An event of the stream itself. JSON has no line breaks of its own, so the data is always one line."""
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


def print_mark(position: Position) -> bytes:
    """An event without data: browsers keep its id, from which they go on, and tell their page nothing."""
    return f"id: {position}\n\n".encode()


def _data(event: Event) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "type": event.kind,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "subject": event.subject,
        "data": event.data,
    }
