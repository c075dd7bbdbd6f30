"""Meta's status webhooks: what one says, and what many say about one message. Pure and order-free (ADR 0014)."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from kit.ids import parse_id
from svc_messaging import lattice
from svc_messaging.meta_errors import describe

Json = dict[str, Any]


class Reached(msgspec.Struct, frozen=True):
    """How far a message of ours came, by one status object."""

    wamid: str
    status: str
    at: datetime
    message_id: uuid.UUID | None
    """Ours, from biz_opaque_callback_data; unproven."""
    failure: Json | None = None


class StatusUnknown(Exception):
    """The word says nothing about a message's way."""


@dataclass(slots=True)
class Progress:
    """All that is known about one message's way: the highest word, when each was reached first, why it failed."""

    status: str
    times: dict[str, datetime] = field(default_factory=dict)
    failure: Json | None = None

    def take(self, other: "Progress") -> bool:
        """Add what another knows; gives whether that changed anything. Commutative, associative and idempotent."""
        before = (self.status, dict(self.times), self.failure)
        # What explained a wait or an unknown outcome is over once Meta speaks.
        failures = [each.failure for each in (self, other) if each.status == "failed" and each.failure is not None]
        self.status = lattice.highest((self.status, other.status))
        for status, at in other.times.items():
            self.times[status] = min(self.times.get(status, at), at)
        self.failure = max(failures, key=_order) if failures and self.status == "failed" else None
        return before != (self.status, self.times, self.failure)


@dataclass(slots=True)
class Report:
    """What a batch says about one message."""

    wamid: str
    progress: Progress
    message_id: uuid.UUID | None = None


def read(raw: Json, received_at: datetime) -> Reached:
    """One object of statuses[]. Raises StatusUnknown."""
    status = raw.get("status")
    if not isinstance(status, str) or status not in lattice.FROM_META:
        raise StatusUnknown(f"The status {status!r} says nothing about a message's way.")
    return Reached(
        wamid=str(raw.get("id")),
        status=status,
        at=moment(raw.get("timestamp"), received_at),
        message_id=_own_id(raw.get("biz_opaque_callback_data")),
        failure=_failure(raw) if status == "failed" else None,
    )


def reduce(items: Iterable[Reached]) -> Report:
    """One report of all that was said about one message."""
    first, *rest = items
    report = Report(first.wamid, _progress(first), first.message_id)
    for item in rest:
        report.progress.take(_progress(item))
        named = [each for each in (report.message_id, item.message_id) if each is not None]
        report.message_id = min(named, default=None)
    return report


def moment(value: Any, received_at: datetime) -> datetime:
    """Meta's Unix seconds, as text or number; never in our future, and our own time where it makes no sense."""
    try:
        parsed = datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return received_at
    return min(parsed, received_at) if parsed.year > 2008 else received_at


def _progress(item: Reached) -> Progress:
    return Progress(item.status, {item.status: item.at}, item.failure)


def _failure(raw: Json) -> Json:
    errors = raw.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    error = describe(first)
    return {"reason": error.reason, "metaCode": max(error.code, 0), "detail": error.detail, "advice": error.advice}


def _own_id(value: Any) -> uuid.UUID | None:
    return parse_id(value) if isinstance(value, str) else None


def _order(failure: Json) -> tuple[int, str]:
    return failure.get("metaCode") or 0, failure.get("detail") or ""
