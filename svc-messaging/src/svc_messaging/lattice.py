"""How far an outbound message has come: a total order that statuses climb (ADR 0014).

Statuses arrive more than once, late and in any order; a message has the highest that arrived. `failed` stands below
`delivered`, since a phone that shows a message has it, and `unknown` below every word from Meta.
"""

from collections.abc import Iterable

ORDER = ("queued", "sending", "unknown", "accepted", "sent", "failed", "delivered", "read", "played")
RANK = {status: rank for rank, status in enumerate(ORDER)}

FROM_META = frozenset({"sent", "failed", "delivered", "read", "played"})
"""Words of Meta's status webhooks that count. Others, such as "deleted" or "warning", say nothing about the way."""


def highest(statuses: Iterable[str]) -> str:
    """The status that a message has after all of these, in whatever order they came."""
    return max(statuses, key=RANK.__getitem__)


def rank_sql(column: str) -> str:
    """The same order as an SQL expression."""
    whens = " ".join(f"WHEN '{status}' THEN {rank}" for status, rank in RANK.items())
    return f"CASE {column} {whens} ELSE {len(ORDER)} END"
