"""What a workspace's readers have missed, fetched from EVENTS without any consumer: the server finds the messages of
one tenant by its subjects and gives them in batches (JetStream's direct get).
"""

import json
import uuid
from dataclasses import dataclass

from nats.aio.msg import Msg

from kit import streams
from kit.bus import Bus

_SUBJECT = f"$JS.API.DIRECT.GET.{streams.EVENTS}"
_BATCH = 256
_BATCH_BYTES_MAX = 1024 * 1024
_SECONDS_MAX = 10.0


class ReplayFailed(Exception):
    """The server answered something else than messages."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A message of the past."""

    sequence: int
    headers: dict[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    messages: list[Missed]
    left: int
    """How many messages of the tenant lie after these."""


async def fetch(bus: Bus, tenant_id: uuid.UUID, *, since: int) -> Batch:
    """The next messages of a tenant from a sequence on. Raises ReplayFailed or tail.OUTAGES."""
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox)
    request = {
        "seq": max(1, since),
        "next_by_subj": f"events.*.*.*.{tenant_id}",
        "batch": _BATCH,
        "max_bytes": _BATCH_BYTES_MAX,
    }
    messages: list[Missed] = []
    try:
        await bus.client.publish(_SUBJECT, json.dumps(request).encode(), reply=inbox)
        while True:
            message = await subscription.next_msg(timeout=_SECONDS_MAX)
            headers: dict[str, str] = dict(message.headers or {})
            if status := headers.get("Status"):
                return _end(status, headers, messages)
            messages.append(_missed(message, headers))
    finally:
        await subscription.unsubscribe()


def _missed(message: Msg, headers: dict[str, str]) -> Missed:
    return Missed(int(headers["Nats-Sequence"]), headers, message.data)


def _end(status: str, headers: dict[str, str], messages: list[Missed]) -> Batch:
    if status == "204":
        return Batch(messages, left=int(headers.get("Nats-Num-Pending", "0")))
    if status == "404":
        return Batch(messages, left=0)
    raise ReplayFailed(f"{status} {headers.get('Description', '')}")
