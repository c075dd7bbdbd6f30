"""The events of svc-tenants: tenants.tenant.created, renamed, placed, suspended, resumed, deleting, deleted and
tenants.whatsappaccount.connected, updated, disconnected. Other services drop what they remember of a tenant or number
when one comes.
"""

import uuid

from aerostic.tenants.v1 import tenant_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from kit import outbox, telemetry
from kit.db import Row, Tx
from kit.events import Event, outgoing
from svc_tenants import convert


async def tenant(tx: Tx, verb: str, row: Row) -> None:
    await _add(tx, Event(f"tenants.tenant.{verb}", row["id"], f"tenants/{row['id']}", _data(convert.tenant(row))))


async def tenant_deleted(tx: Tx, tenant_id: uuid.UUID) -> None:
    """The last event of a tenant. It says no more than that the tenant is gone."""
    data = _data(tenant_pb2.Tenant(id=str(tenant_id)))
    await outbox.add(tx, outgoing([Event("tenants.tenant.deleted", tenant_id, f"tenants/{tenant_id}", data)]))


async def erase_waiting(tx: Tx, tenant_id: uuid.UUID) -> None:
    """Take back what of a tenant waits to be published."""
    await tx.execute(
        "DELETE FROM outbox WHERE subject LIKE 'events.%' AND right(subject, 37) = '.' || $1::uuid", tenant_id
    )


async def whatsapp_account(tx: Tx, verb: str, row: Row) -> None:
    subject, data = f"whatsappAccounts/{row['id']}", _data(convert.whatsapp_account(row))
    await _add(tx, Event(f"tenants.whatsappaccount.{verb}", row["tenant_id"], subject, data))


async def _add(tx: Tx, event: Event) -> None:
    await outbox.add(tx, outgoing([event], headers=telemetry.headers()))


def _data(message: Message) -> dict[str, object]:
    return MessageToDict(message)
