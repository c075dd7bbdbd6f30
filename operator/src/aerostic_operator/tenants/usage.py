"""What a Tenant's status tells of its use. Thousands of them must not be written whenever a message is sent."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aerostic_operator.objects import Json
from aerostic_operator.tenants.model import Record

_SOON = timedelta(minutes=10)
_LATE = timedelta(hours=1)
_SHARE = 0.01
_AT_ONCE = {"connectedNumbers", "month"}
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def told(before: Mapping[str, Any] | None, record: Record, now: datetime) -> Json:
    """The status' usage: new numbers where connected numbers or the month changed, after ten minutes where something
    moved by more than one in a hundred, and after an hour; otherwise those that stand there.
    """
    fresh = _numbers(record)
    if before is not None and not _is_due(before, fresh, now):
        return dict(before)
    return {**fresh, "time": f"{now:{_TIME}}"}


def _numbers(record: Record) -> Json:
    if record.usage is None:
        return {"connectedNumbers": record.connected_numbers}
    return {
        "connectedNumbers": record.connected_numbers,
        "month": record.usage.month,
        "messagesReceived": record.usage.received,
        "messagesSent": record.usage.sent,
        "messagesDelivered": record.usage.delivered,
        "messagesFailed": record.usage.failed,
    }


def _is_due(before: Mapping[str, Any], fresh: Json, now: datetime) -> bool:
    old = {name: before[name] for name in before.keys() - {"time"}}
    if old == fresh:
        return False
    if old.keys() != fresh.keys() or any(
        old[name] != fresh[name] for name in old.keys() & {"connectedNumbers", "month"}
    ):
        return True
    since = now - datetime.strptime(before["time"], _TIME).replace(tzinfo=now.tzinfo)
    moved = any(abs(fresh[name] - old[name]) > _SHARE * old[name] for name in old.keys() - {"month"})
    return since >= _LATE or (moved and since >= _SOON)
