"""What leaves for NATS with a transaction. Of its own, as whoever only reads events needs no database."""

import uuid
from dataclasses import dataclass, field

from kit.ids import new_id


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish after the transaction."""

    subject: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    id: uuid.UUID = field(default_factory=new_id)
    """Deduplicates the publish; the stream stores one message per id within two minutes."""
