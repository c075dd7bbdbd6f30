"""What tenants used: the counts that `metering` keeps, read by calendar month in UTC."""

import uuid
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime

from kit.db import Row, Tx


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC."""

    first: date

    @classmethod
    def current(cls) -> "Month":
        return cls(datetime.now(UTC).date().replace(day=1))

    @classmethod
    def read(cls, text: str) -> "Month":
        """A month as "2026-11"; the current one when empty."""
        return cls(date.fromisoformat(f"{text}-01")) if text else cls.current()

    @property
    def last(self) -> date:
        return self.first.replace(day=monthrange(self.first.year, self.first.month)[1])

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


async def by_day(tx: Tx, tenant_id: uuid.UUID, month: Month) -> list[Row]:
    """The days on which something was counted, in order."""
    return await tx.fetch(
        "SELECT day, messages_received, messages_sent, messages_delivered, messages_failed FROM tenant_usage"
        " WHERE tenant_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day",
        tenant_id,
        month.first,
        month.last,
    )
