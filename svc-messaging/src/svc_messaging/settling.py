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
_CLIMBS = f"g.rank > {lattice.sql_rank('m.status')}"
_ORDER = "ROW(COALESCE(({0}.failure->>'metaCode')::bigint, 0), COALESCE({0}.failure->>'detail', '') COLLATE \"C\")"
_FAILURE = f"""
    CASE WHEN g.status <> 'failed' THEN CASE WHEN m.status = 'failed' AND NOT {_CLIMBS} THEN m.failure END
         WHEN {_CLIMBS} THEN g.failure
         WHEN m.status <> 'failed' THEN NULL
         WHEN m.failure IS NULL OR {_ORDER.format("g")} > {_ORDER.format("m")} THEN g.failure
         ELSE m.failure END"""
_IS_NEWS = f"""
    {_CLIMBS} OR m.failure IS DISTINCT FROM {_FAILURE}
    OR {" OR ".join(f"LEAST(m.{each}_at, g.{each}_at) IS DISTINCT FROM m.{each}_at" for each in _TIMES)}
"""

_CAME = ("status", "rank", "failure", *(f"{each}_at" for each in _TIMES))

# A message is found by Meta's id. Ours is believed only for a message of that workspace and number which has no other
# id of Meta yet.
_FIND = """
    LEFT JOIN wamids w ON w.tenant_id = r.tenant_id AND w.phone_number_id = r.number AND w.wamid = r.wamid
    JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = COALESCE(w.message_id, r.own)
    WHERE m.direction = 'outbound' AND m.phone_number_id = r.number AND COALESCE(m.wamid, r.wamid) = r.wamid
"""
# Rows are locked in one order everywhere, so that two transactions never wait for each other. `m` is joined with
# nothing that was gathered on the way, or the planner, who knows no numbers there, would compare each with each.
_APPLY = f"""
    WITH g AS MATERIALIZED (
        SELECT r.*, m.id, m.wamid IS NULL AS is_new
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::int[], $7::jsonb[],
                    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])
            AS r (tenant_id, number, wamid, own, {", ".join(_CAME)})
        {_FIND}
        ORDER BY m.tenant_id, m.id FOR NO KEY UPDATE OF m
    ), m AS (
        UPDATE messages m
        SET status = CASE WHEN {_CLIMBS} THEN g.status ELSE m.status END, failure = {_FAILURE},
            wamid = g.wamid, next_attempt_at = NULL,
            {", ".join(f"{each}_at = LEAST(m.{each}_at, g.{each}_at)" for each in _TIMES)}
        FROM g WHERE m.tenant_id = g.tenant_id AND m.id = g.id AND (g.is_new OR {_IS_NEWS})
        RETURNING m.*, g.is_new, {lattice.REACHED}
    ), remembered AS (
        INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
        SELECT tenant_id, phone_number_id, wamid, id FROM m WHERE is_new
        ON CONFLICT DO NOTHING
    )
    SELECT {snapshots.MESSAGE_COLUMNS}, m.reached FROM m {snapshots.OF_MESSAGE}
"""
_KNOWN = f"""
    SELECT r.tenant_id, r.number, r.wamid
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS r (tenant_id, number, wamid, own) {_FIND}
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
    """Apply reports, one per message. Gives the messages that changed, as of `snapshots` and with what they
    have `reached`, and the reports whose message is not known. A repetition changes nothing.
    """
    if not reports:
        return [], []
    progresses = [each.report.progress for each in reports]
    named = (
        [each.tenant_id for each in reports],
        [each.number for each in reports],
        [each.report.wamid for each in reports],
        [each.report.message_id for each in reports],
    )
    changed = await tx.fetch(
        _APPLY,
        *named,
        [progress.status for progress in progresses],
        [lattice.SQL_RANK[progress.status] for progress in progresses],
        [json.dumps(progress.failure) if progress.failure else None for progress in progresses],
        *([progress.times.get(time) for progress in progresses] for time in _TIMES),
    )
    if len(changed) == len(reports):
        return changed, []
    # Asked after the change: of two ids for one nameless message only one has become its own.
    known = {(row["tenant_id"], row["number"], row["wamid"]) for row in await tx.fetch(_KNOWN, *named)}
    return changed, [each for each in reports if (each.tenant_id, each.number, each.report.wamid) not in known]


async def apply_parked_statuses(tx: Tx, messages: Sequence[tuple[uuid.UUID, str, str]]) -> list[Row]:
    """Apply the statuses that came before their messages (tenant, number, wamid) were known here. Gives those that
    changed, as `apply` does.
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
