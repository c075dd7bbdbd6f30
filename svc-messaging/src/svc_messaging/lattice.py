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


SQL_RANK = {status: rank for rank, status in enumerate(ORDER, 1)}


def sql_rank(status: str) -> str:
    """SQL: the rank of an expression's value, as SQL_RANK tells it."""
    return f"array_position('{{{','.join(ORDER)}}}'::text[], {status})"


_SHOWN = "('delivered', 'read', 'played')"
REACHED = f"""array_remove(ARRAY[
        CASE WHEN old.wamid IS NULL AND new.wamid IS NOT NULL THEN 'accepted' END,
        CASE WHEN old.status NOT IN {_SHOWN} AND new.status IN {_SHOWN} THEN 'delivered' END,
        CASE WHEN old.status <> 'failed' AND new.status = 'failed' THEN 'failed' END
    ], NULL) AS reached"""
"""SQL for RETURNING: what an outbound message came to by this change, each at most once in its life: Meta's id is never
taken away, and neither delivery nor, before delivery, failure is left again for something lower.
"""

WAITING = "direction = 'outbound' AND accepted_at IS NULL AND failed_at IS NULL AND status IN ('queued', 'sending')"
"""SQL: the message has not been sent. The index messages_to_send is partial by the columns that change once."""
