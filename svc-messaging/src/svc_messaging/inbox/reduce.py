"""Many statuses to one per message: the highest word, every time, the last failure. Pure and order-free."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from svc_messaging import lattice
from svc_messaging.inbox.items import Json, Reached


@dataclass(slots=True)
class Progress:
    """All that a batch says about one message of ours."""

    wamid: str
    status: str
    times: dict[str, datetime] = field(default_factory=dict)
    """When each status was reached first."""
    failure: Json | None = None
    message_id: uuid.UUID | None = None
    items: list[Reached] = field(default_factory=list)


def reduce(items: Iterable[Reached]) -> dict[tuple[str, str], Progress]:
    """One Progress per number and wamid. A repetition changes nothing, nor does another order."""
    found: dict[tuple[str, str], Progress] = {}
    for item in items:
        progress = found.setdefault((item.number, item.wamid), Progress(item.wamid, item.status))
        progress.status = lattice.highest((progress.status, item.status))
        progress.times[item.status] = min(progress.times.get(item.status, item.at), item.at)
        progress.items.append(item)
        if item.failure is not None and (progress.failure is None or _order(item.failure) > _order(progress.failure)):
            progress.failure = item.failure
        if item.message_id is not None and (progress.message_id is None or item.message_id < progress.message_id):
            progress.message_id = item.message_id
    return found


def _order(failure: Json) -> tuple[int, str]:
    return failure["metaCode"], failure["detail"]
