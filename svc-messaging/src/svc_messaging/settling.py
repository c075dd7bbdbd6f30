"""Applying what Meta's statuses say to the messages they are about.

A status names its message by Meta's id, known once Meta's answer to the send is recorded, and by ours
(biz_opaque_callback_data), which is there before that and is what settles an unknown outcome.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kit.db import Row, Tx
from svc_messaging import lattice, snapshots, statuses
from svc_messaging.statuses import Reached, Report

_TIMES = ("sent", "delivered", "read", "played", "failed")

# What statuses.Progress.take says of two progresses, here of a message `m` and a report `g` (a test compares the two).
# Written on `m` itself: where another transaction changed the row meanwhile, PostgreSQL reckons with what is there now.
_STATUS = f"CASE WHEN {lattice.sql_rank('g.status')} > {lattice.sql_rank('m.status')} THEN g.status ELSE m.status END"
_ORDER = "ROW(COALESCE(({0}.failure->>'metaCode')::int, 0), COALESCE({0}.failure->>'detail', '') COLLATE \"C\")"
_FAILURE = f"""
    CASE WHEN {_STATUS} <> 'failed' THEN NULL
         WHEN m.status <> 'failed' OR m.failure IS NULL THEN g.failure
         WHEN g.failure IS NULL THEN m.failure
         WHEN {_ORDER.format("g")} > {_ORDER.format("m")} THEN g.failure
         ELSE m.failure END"""
_REACHED = [f"LEAST(m.{each}_at, g.{each}_at)" for each in _TIMES]
_IS_NEWS = (
    f"(m.status, m.failure, {', '.join(f'm.{each}_at' for each in _TIMES)})"
    f" IS DISTINCT FROM ({_STATUS}, {_FAILURE}, {', '.join(_REACHED)})"
)

# A message is found by Meta's id. Ours is believed only for a message of that workspace and number which has no other
# id of Meta yet. Rows are locked in one order everywhere, so that two transactions never wait for each other.
_APPLY = f"""
    WITH found AS MATERIALIZED (
        SELECT g.*, m.id, m.wamid IS NULL AS is_new
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::jsonb[], $7::timestamptz[],
                    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[]) WITH ORDINALITY
            AS g (tenant_id, number, wamid, own, status, failure, {", ".join(f"{each}_at" for each in _TIMES)}, place)
        LEFT JOIN wamids w ON w.tenant_id = g.tenant_id AND w.phone_number_id = g.number AND w.wamid = g.wamid
        JOIN messages m ON m.tenant_id = g.tenant_id AND m.id = COALESCE(w.message_id, g.own)
        WHERE m.direction = 'outbound' AND m.phone_number_id = g.number AND COALESCE(m.wamid, g.wamid) = g.wamid
        ORDER BY m.tenant_id, m.id
        FOR NO KEY UPDATE OF m
    ), m AS (
        UPDATE messages m
        SET status = {_STATUS}, wamid = g.wamid, failure = {_FAILURE}, next_attempt_at = NULL,
            {", ".join(f"{each}_at = {at}" for each, at in zip(_TIMES, _REACHED, strict=True))}
        FROM found g
        WHERE m.tenant_id = g.tenant_id AND m.id = g.id AND (g.is_new OR {_IS_NEWS})
        RETURNING m.*, g.place
    ), remembered AS (
        INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
        SELECT m.tenant_id, m.phone_number_id, m.wamid, m.id FROM m JOIN found g USING (place) WHERE g.is_new
        ON CONFLICT DO NOTHING
    )
    SELECT g.place, m.place IS NOT NULL AS is_changed, g.is_new, {snapshots.MESSAGE_COLUMNS}
    FROM found g LEFT JOIN m ON m.place = g.place {snapshots.OF_MESSAGE}
    ORDER BY g.tenant_id, g.id
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


async def apply(tx: Tx, reports: Sequence[Addressed]) -> tuple[list[Row], list[Addressed]]:
    """Apply reports, one per message. Gives the messages that changed, as of `snapshots`, and the reports whose message
    is not known. A repetition changes nothing.
    """
    if not reports:
        return [], []
    progresses = [each.report.progress for each in reports]
    rows = await tx.fetch(
        _APPLY,
        [each.tenant_id for each in reports],
        [each.number for each in reports],
        [each.report.wamid for each in reports],
        [each.report.message_id for each in reports],
        [progress.status for progress in progresses],
        [json.dumps(progress.failure) if progress.failure else None for progress in progresses],
        *([progress.times.get(time) for progress in progresses] for time in _TIMES),
    )
    # Of two ids for one nameless message only one can be its own.
    known = {row["place"] for row in rows if row["is_changed"] or not row["is_new"]}
    unknown = [each for place, each in enumerate(reports, 1) if place not in known]
    return [row for row in rows if row["is_changed"]], unknown


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
    return [(row["tenant_id"], row["id"]) for row in changed]
