"""Webhook bodies as Meta sends them, and how a batch of them goes through the inbox."""

import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kit.db import Database
from kit.ids import new_id
from kit.principal import Principal
from svc_messaging.inbox import parse, store
from svc_messaging.inbox.batch import Batch
from svc_messaging.inbox.numbers import Owner

WORKER = Principal.service("messaging-inbox")


def digits(count: int = 11) -> str:
    return "1650" + str(uuid.uuid4().int)[: count - 4]


def new_wamid() -> str:
    return f"wamid.{uuid.uuid4().hex}"


@dataclass
class Customer:
    """Somebody who writes; a name left empty is not shown by Meta."""

    wa_id: str = field(default_factory=digits)
    user_id: str = ""
    name: str = "Ana Souza"
    username: str = ""

    def writes(self, kind: str = "text", content: Any = None, **extra: Any) -> dict[str, Any]:
        """An item of messages[]."""
        message = {"id": new_wamid(), "timestamp": str(int(time.time())), "type": kind, **extra}
        if self.wa_id:
            message["from"] = self.wa_id
        if self.user_id:
            message["from_user_id"] = self.user_id
        message[kind] = {"body": "Is it in stock?"} if content is None else content
        return message

    @property
    def contact(self) -> dict[str, Any]:
        shown = {"wa_id": self.wa_id, "user_id": self.user_id}
        profile = {"name": self.name, **({"username": self.username} if self.username else {})}
        return {"profile": profile, **{key: value for key, value in shown.items() if value}}


@dataclass
class Line:
    """A connected number."""

    number: str = field(default_factory=lambda: str(uuid.uuid4().int)[:15])
    owner: Owner = field(default_factory=lambda: Owner(new_id(), new_id()))

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.owner.tenant_id

    def body(self, *, messages: list[Any] = [], statuses: list[Any] = [], contacts: list[Any] = []) -> bytes:  # noqa: B006
        value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": self.number}}
        value |= {name: items for name, items in (("contacts", contacts), ("messages", messages)) if items}
        if statuses:
            value["statuses"] = statuses
        return json.dumps(
            {
                "object": "whatsapp_business_account",
                "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
            }
        ).encode()

    def written(self, customer: Customer, *messages: dict[str, Any]) -> bytes:
        return self.body(messages=list(messages) or [customer.writes()], contacts=[customer.contact])


def status(
    wamid: str, word: str, *, at: int | None = None, own: uuid.UUID | None = None, **extra: Any
) -> dict[str, Any]:
    """An item of statuses[]."""
    told = {
        "id": wamid,
        "status": word,
        "timestamp": str(at or int(time.time())),
        "recipient_id": "16505551234",
        **extra,
    }
    return told | ({"biz_opaque_callback_data": str(own)} if own else {})


async def take_in(worker_db: Database, *bodies: bytes, lines: list[Line]) -> list[str]:
    """One batch; gives the reasons of what was parked."""
    batch = Batch({line.number: line.owner for line in lines})
    for sequence, body in enumerate(bodies, 1):
        for item in parse.parse(body, datetime.now(UTC)):
            batch.add(item, sequence)
    async with worker_db.begin(WORKER) as tx:
        return (await store.write(tx, batch)).new_reasons
