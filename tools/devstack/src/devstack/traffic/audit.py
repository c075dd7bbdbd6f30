"""The audit: what was acknowledged or accepted against what is stored and what the emulator saw."""

import asyncio
import collections
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import asyncpg

from devstack.traffic.ledger import Ledger
from devstack.traffic.watch import Watcher
from devstack.workspace import Workspace

_POLL_SECONDS = 0.25
_MESSAGES = """
    SELECT m.id::text, m.direction, m.wamid, m.body, m.status, m.failure ->> 'reason' AS reason, m.attempts,
           k.wa_id AS customer
    FROM messages m JOIN contacts k ON k.tenant_id = m.tenant_id AND k.id = m.contact_id
    WHERE m.tenant_id = $1::uuid
    ORDER BY m.id
"""
_CONVERSATIONS = """
    SELECT k.wa_id AS customer, count(*) AS conversations
    FROM conversations c JOIN contacts k ON k.tenant_id = c.tenant_id AND k.id = c.contact_id
    WHERE c.tenant_id = $1::uuid AND c.state = 'open'
    GROUP BY k.wa_id
"""
_PARKED = "SELECT count(*) FROM parked_events WHERE state = 'parked' AND phone_number_id = $1"

FINAL = frozenset({"read", "failed", "unknown"})
"""What every message of the team becomes when nobody fails: customers of the emulator read all they get."""


@dataclass(slots=True)
class Audit:
    """What was found. Every list but `unknown` is empty in a product that keeps its promises."""

    written: int
    answered: int
    lost_written: list[str] = field(default_factory=list)
    """Acknowledged with 200 and not stored."""
    doubled_written: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    """Stored with another text than was acknowledged."""
    out_of_order: list[str] = field(default_factory=list)
    """Customers whose messages, each written after the last was acknowledged, are stored in another order."""
    split: list[str] = field(default_factory=list)
    """Customers with more than one open conversation."""
    parked: int = 0
    lost_answered: list[str] = field(default_factory=list)
    """Accepted by the API and not stored."""
    doubled_answered: list[str] = field(default_factory=list)
    """Stored more than once although the request id was the same."""
    unsettled: list[str] = field(default_factory=list)
    """Still waiting, with the status."""
    sent_twice: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    """Called accepted or better, and Meta never got it."""
    hidden: list[str] = field(default_factory=list)
    """On the phone, and not called so by the platform."""
    regressions: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    """Stored and not told on the live stream, or told otherwise than stored."""
    told_twice: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Marked: their outcome was lost, and no status of Meta has settled it."""

    def problems(self) -> dict[str, Any]:
        """All that should not be."""
        names = [each.name for each in fields(self) if each.name not in {"written", "answered", "unknown"}]
        return {name: found for name in names if (found := getattr(self, name))}

    def assert_nothing_lost(self) -> None:
        """Fails with the first few of each kind."""
        found = {name: each[:5] if isinstance(each, list) else each for name, each in self.problems().items()}
        assert not found, f"of {self.written} written and {self.answered} answered: {found}"


async def settled(database_url: str, shop: Workspace, ledger: Ledger, watcher: Watcher, *, seconds: float) -> Audit:
    """Wait until the audit finds nothing wrong, so long at most, as statuses and retries take their time; gives the
    last one.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = await audit(database_url, shop, ledger, watcher)
        if (not found.problems() and not found.unknown) or time.monotonic() > deadline:
            return found
        if not found.problems() and time.monotonic() > deadline - seconds / 2:
            return found  # what is unknown may stay so: Meta never had it
        await asyncio.sleep(_POLL_SECONDS)


async def audit(database_url: str, shop: Workspace, ledger: Ledger, watcher: Watcher) -> Audit:
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        messages = await connection.fetch(_MESSAGES, shop.tenant_id)
        conversations = await connection.fetch(_CONVERSATIONS, shop.tenant_id)
        parked = await connection.fetchval(_PARKED, shop.phone_number_id)
    finally:
        await connection.close()
    found = Audit(written=len(ledger.written), answered=len(ledger.answered), parked=parked)
    found.split = [row["customer"] for row in conversations if row["conversations"] > 1]
    found.regressions = list(watcher.regressions)
    _inbound(found, [row for row in messages if row["direction"] == "inbound"], ledger, watcher)
    _outbound(found, [row for row in messages if row["direction"] == "outbound"], ledger, watcher)
    _phone(found, [row for row in messages if row["direction"] == "outbound"], await shop.phone_shows())
    return found


def _inbound(found: Audit, rows: list[asyncpg.Record], ledger: Ledger, watcher: Watcher) -> None:
    times = collections.Counter(row["wamid"] for row in rows)
    stored = {row["wamid"]: row for row in rows}
    for wamid, written in ledger.written.items():
        if written.acknowledged is not None and wamid not in stored:
            found.lost_written.append(f"{written.text} of {written.customer}")
        elif wamid in stored and stored[wamid]["body"] != written.text:
            found.altered.append(written.text)
    found.doubled_written = [wamid for wamid, count in times.items() if count > 1]
    found.told_twice = [wamid for wamid, count in watcher.received.items() if count > 1]
    if not watcher.resets:
        found.untold += [
            f"received {wamid}" for wamid in stored.keys() & ledger.written.keys() - watcher.received.keys()
        ]
    by_customer: dict[str, list[int]] = {}
    for row in rows:
        if row["wamid"] in ledger.written:
            by_customer.setdefault(row["customer"], []).append(_number(row["body"]))
    found.out_of_order = [customer for customer, numbers in by_customer.items() if numbers != sorted(numbers)]


def _outbound(found: Audit, rows: list[asyncpg.Record], ledger: Ledger, watcher: Watcher) -> None:
    stored = {row["id"]: row for row in rows}
    for text, answered in ledger.answered.items():
        if answered.acknowledged is not None and answered.id not in stored:
            found.lost_answered.append(text)
        elif answered.id in stored and stored[answered.id]["body"] != text:
            found.altered.append(text)
    found.doubled_answered = _doubled(row["body"] for row in rows)
    found.unsettled = [f"{row['body']}: {row['status']}" for row in rows if row["status"] not in FINAL]
    found.unknown = [row["body"] for row in rows if row["status"] == "unknown"]
    if not watcher.resets:
        for row in rows:
            told = watcher.statuses.get(row["id"], "nothing")
            if told != row["status"] and row["status"] in FINAL:
                found.untold.append(f"{row['body']}: {row['status']}, told {told}")


def _phone(found: Audit, rows: list[asyncpg.Record], shown: list[dict[str, Any]]) -> None:
    times = collections.Counter(each["text"]["body"] for each in shown)
    ours = {row["body"]: row["status"] for row in rows}
    # None is ever repeated by us, so even an unknown one is on the phone once at most.
    found.sent_twice = [f"{text}: {ours.get(text)}" for text, count in times.items() if count > 1]
    reached = {"accepted", "sent", "delivered", "read"}
    found.claimed = [text for text, status in ours.items() if status in reached and text not in times]
    found.hidden = [f"{text}: {ours.get(text)}" for text in times if ours.get(text) not in reached]


def _doubled(texts: Iterable[str]) -> list[str]:
    return [text for text, count in collections.Counter(texts).items() if count > 1]


def _number(text: str) -> int:
    return int(text.rpartition(" ")[2])
