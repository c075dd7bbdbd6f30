"""Recording outcomes: what arrives while one transaction runs is recorded together by the next."""

import asyncio
import collections
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client import Counter

from kit import outbox, telemetry
from kit.db import Database, Row, Tx, as_app_error
from kit.principal import Principal
from svc_messaging import events, lattice, settling, snapshots
from svc_messaging.sender import outcomes
from svc_messaging.sender.outcomes import Outcome

log = structlog.get_logger()

_sent = Counter("aerostic_sends_total", "Tries to send a message, by outcome and reason", ["status", "reason"])

# Preparing a transaction holds the process up for so long as many sends fall due at 1,000 a second.
_BATCH_MAX = 100
_RETRY_SECONDS = 0.5
# After a transaction others gather for a moment: one by one they would cost more than their sending did. A lone outcome
# waits for nothing.
_GATHER_SECONDS = 0.02

# A status of Meta may have overtaken its answer: what it said stands, and only what the answer adds is added.
_RECORD = f"""
    WITH m AS (
        UPDATE messages m
        SET status = CASE WHEN m.status IN ('sending', 'unknown') THEN o.status ELSE m.status END,
            wamid = COALESCE(m.wamid, NULLIF(o.given, '')),
            accepted_at = CASE WHEN o.status = 'accepted' THEN o.at ELSE m.accepted_at END,
            failed_at = CASE WHEN o.status = 'failed' AND m.status IN ('sending', 'unknown') THEN o.at
                             ELSE m.failed_at END,
            failure = CASE WHEN m.status IN ('sending', 'unknown') THEN o.failure ELSE m.failure END,
            next_attempt_at = CASE WHEN m.status IN ('sending', 'unknown') THEN o.retry_at END
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::timestamptz[])
            AS o (tenant_id, id, status, given, at, failure, retry_at)
        WHERE m.tenant_id = o.tenant_id AND m.id = o.id
        RETURNING m.*, o.given, {lattice.REACHED}
    ), remembered AS (
        INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
        SELECT tenant_id, phone_number_id, given, id FROM m WHERE given <> ''
        ON CONFLICT DO NOTHING
    )
    SELECT {snapshots.MESSAGE_COLUMNS}, m.reached FROM m {snapshots.OF_MESSAGE}
"""

# Meta may answer another id than we addressed (digits added or removed for some countries): both lead to the contact.
# One whose contact is gone meanwhile, with its workspace, leads nowhere.
_IDENTITIES = """
    WITH there AS (
        SELECT i.tenant_id, i.value, i.contact_id
        FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS i (tenant_id, value, contact_id)
        JOIN contacts c ON c.tenant_id = i.tenant_id AND c.id = i.contact_id
        FOR KEY SHARE OF c
    )
    INSERT INTO contact_identities (tenant_id, kind, value, contact_id)
    SELECT tenant_id, 'wa_id', value, contact_id FROM there
    ON CONFLICT DO NOTHING
"""


@dataclass(slots=True)
class Record:
    """An outcome on its way into the database; `done` is called after the commit."""

    message: Row
    outcome: Outcome
    done: Callable[[], None]
    traceparent: str = ""


class Recorder:
    """Writes outcomes in batches; keeps trying while the database is away, since an outcome cannot be had again."""

    def __init__(self, db: Database, worker: Principal) -> None:
        self._db = db
        self._worker = worker
        self._waiting: list[Record] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        self._idle.clear()
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not (stop.is_set() and not self._waiting):
            self._wake.clear()
            batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
            if batch:
                await self._write(batch)
                if len(self._waiting) < _BATCH_MAX and not stop.is_set():
                    await asyncio.sleep(_GATHER_SECONDS)
                continue
            self._idle.set()
            waits = [asyncio.ensure_future(event.wait()) for event in (self._wake, stop)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def settled(self) -> None:
        """Wait until everything added so far is recorded."""
        await self._idle.wait()

    async def _write(self, batch: list[Record]) -> None:
        traceparent = next((item.traceparent for item in batch if item.traceparent), "")
        parent = {telemetry.HEADER: traceparent} if traceparent else None
        while True:
            try:
                with telemetry.span("sender record", parent=parent, outcomes=len(batch)):
                    async with self._db.begin(self._worker) as tx:
                        await record(tx, batch)
                break
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("recording_waits_for_database", outcomes=len(batch), error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
        said = collections.Counter(
            (item.outcome.status, item.outcome.failure.reason if item.outcome.failure else "") for item in batch
        )
        for labels, count in said.items():
            _sent.labels(*labels).inc(count)
        for item in batch:
            item.done()


async def record(tx: Tx, batch: list[Record]) -> None:
    """Write the outcomes, the ids that Meta gave, and the events, in one transaction."""
    now = datetime.now(UTC)
    # Rows are locked in one order everywhere, so that two transactions do not wait for each other.
    batch = sorted(batch, key=lambda item: (item.message["tenant_id"], item.message["id"]))
    rows = await tx.fetch(
        _RECORD,
        [item.message["tenant_id"] for item in batch],
        [item.message["id"] for item in batch],
        [item.outcome.status for item in batch],
        [item.outcome.wamid for item in batch],
        [now] * len(batch),
        [json.dumps(outcomes.as_json(item.outcome.failure)) if item.outcome.failure else None for item in batch],
        [now + item.outcome.delay if item.outcome.status == "queued" else None for item in batch],
    )
    rows += await _follow_up(tx, [item for item in batch if item.outcome.wamid])
    await outbox.add(tx, events.leaving(events.of_messages(events.UPDATED, rows)))


async def _follow_up(tx: Tx, accepted: list[Record]) -> list[Row]:
    """What Meta's ids lead to: another identity of the contact, and statuses that came before Meta's answer did. Gives
    the messages that these have moved on.
    """
    if not accepted:
        return []
    named = [item for item in accepted if item.outcome.wa_id and item.outcome.wa_id != item.message["wa_id"]]
    if named:
        await tx.execute(
            _IDENTITIES,
            [item.message["tenant_id"] for item in named],
            [item.outcome.wa_id for item in named],
            [item.message["contact_id"] for item in named],
        )
    keys = [(item.message["tenant_id"], item.message["phone_number_id"], item.outcome.wamid) for item in accepted]
    return await settling.apply_parked_statuses(tx, keys)
