"""Applying what Meta's statuses say to the messages they are about.

A status names its message by Meta's id, known once Meta's answer to the send is recorded, and by ours
(biz_opaque_callback_data), which is there before that and is what settles an unknown outcome.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kit.db import Row, Tx
from svc_messaging import statuses
from svc_messaging.statuses import Progress, Reached, Report

_TIMES = ("sent", "delivered", "read", "played", "failed")

# Ours is believed only for a message of that workspace and number which has no other id of Meta yet.
_FIND = f"""
    SELECT g.place, m.tenant_id, m.id, m.wamid, m.status, m.failure, {", ".join(f"m.{each}_at" for each in _TIMES)}
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY
        AS g (tenant_id, number, wamid, own, place)
    LEFT JOIN wamids w ON w.tenant_id = g.tenant_id AND w.phone_number_id = g.number AND w.wamid = g.wamid
    JOIN messages m ON m.tenant_id = g.tenant_id AND m.id = COALESCE(w.message_id, g.own)
    WHERE m.direction = 'outbound' AND m.phone_number_id = g.number AND COALESCE(m.wamid, g.wamid) = g.wamid
    ORDER BY m.tenant_id, m.id
    FOR NO KEY UPDATE OF m
"""

_UPDATE = f"""
    UPDATE messages m
    SET status = g.status, wamid = g.wamid, failure = g.failure, next_attempt_at = NULL,
        {", ".join(f"{each}_at = g.{each}_at" for each in _TIMES)}
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::timestamptz[], $7::timestamptz[],
                $8::timestamptz[], $9::timestamptz[], $10::timestamptz[])
        AS g (tenant_id, id, status, wamid, failure, {", ".join(f"{each}_at" for each in _TIMES)})
    WHERE m.tenant_id = g.tenant_id AND m.id = g.id
"""

_REMEMBER = """
    INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
    ON CONFLICT DO NOTHING
"""

_PARKED = """
    SELECT p.id, p.body, p.received_at, g.tenant_id, p.phone_number_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g (tenant_id, number, wamid)
    JOIN parked_events p ON p.phone_number_id = g.number AND p.wamid = g.wamid
    WHERE p.state = 'parked' AND p.reason = 'unknown_message' AND p.wamid <> ''
    ORDER BY p.id
    FOR UPDATE OF p
"""

_SETTLED = "UPDATE parked_events SET state = 'settled', settled_at = now() WHERE id = ANY($1)"


@dataclass(frozen=True, slots=True)
class Addressed:
    """A report and whose number it came for."""

    tenant_id: uuid.UUID
    number: str
    report: Report


async def apply(tx: Tx, reports: Sequence[Addressed]) -> tuple[list[tuple[uuid.UUID, uuid.UUID]], list[Addressed]]:
    """Apply reports, one per message. Gives the keys of the messages that changed, and the reports whose message is
    not known. A repetition changes nothing.
    """
    if not reports:
        return [], []
    rows = await tx.fetch(
        _FIND,
        [each.tenant_id for each in reports],
        [each.number for each in reports],
        [each.report.wamid for each in reports],
        [each.report.message_id for each in reports],
    )
    changed = [(row, progress, each) for row in rows if (progress := _moved(row, each := reports[row["place"] - 1]))]
    if changed:
        await _update(tx, changed)
    found = {row["place"] for row in rows}
    unknown = [each for place, each in enumerate(reports, 1) if place not in found]
    return [(row["tenant_id"], row["id"]) for row, _, _ in changed], unknown


async def apply_parked_statuses(
    tx: Tx, messages: Sequence[tuple[uuid.UUID, str, str]]
) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Apply the statuses that came before their messages (tenant, number, wamid) were known here. Gives the keys of
    those that changed.
    """
    if not messages:
        return []
    tenants, numbers, wamids = (list(column) for column in zip(*messages, strict=True))
    rows = await tx.fetch(_PARKED, tenants, numbers, wamids)
    if not rows:
        return []
    by_message: dict[tuple[uuid.UUID, str, str], list[tuple[uuid.UUID, Reached]]] = {}
    for row in rows:
        reached = statuses.read(json.loads(row["body"]), row["received_at"])
        key = (row["tenant_id"], row["phone_number_id"], reached.wamid)
        by_message.setdefault(key, []).append((row["id"], reached))
    reports = [
        Addressed(tenant, number, statuses.reduce(reached for _, reached in items))
        for (tenant, number, _), items in by_message.items()
    ]
    changed, unknown = await apply(tx, reports)
    for each in unknown:
        del by_message[each.tenant_id, each.number, each.report.wamid]
    await tx.execute(_SETTLED, [parked_id for items in by_message.values() for parked_id, _ in items])
    return changed


def _moved(row: Row, addressed: Addressed) -> Progress | None:
    """Where the message stands now; None where the report says nothing new."""
    times = {each: at for each in _TIMES if (at := row[f"{each}_at"]) is not None}
    progress = Progress(row["status"], times, json.loads(row["failure"]) if row["failure"] else None)
    moved = progress.take(addressed.report.progress)
    return progress if moved or row["wamid"] is None else None


async def _update(tx: Tx, changed: Sequence[tuple[Row, Progress, Addressed]]) -> None:
    columns: Iterable[list[datetime | None]] = (
        [progress.times.get(each) for _, progress, _ in changed] for each in _TIMES
    )
    await tx.execute(
        _UPDATE,
        [row["tenant_id"] for row, _, _ in changed],
        [row["id"] for row, _, _ in changed],
        [progress.status for _, progress, _ in changed],
        [addressed.report.wamid for _, _, addressed in changed],
        [json.dumps(progress.failure) if progress.failure else None for _, progress, _ in changed],
        *columns,
    )
    if new := [(row, addressed) for row, _, addressed in changed if row["wamid"] is None]:
        await tx.execute(
            _REMEMBER,
            [row["tenant_id"] for row, _ in new],
            [addressed.number for _, addressed in new],
            [addressed.report.wamid for _, addressed in new],
            [row["id"] for row, _ in new],
        )
