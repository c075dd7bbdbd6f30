"""Which tenant has which number: the installation's directory, in which a number stands once."""

import uuid
from collections.abc import Sequence

from kit.db import Row, Tx
from svc_tenants.errors import NumberTaken


async def owners(tx: Tx, phone_number_ids: Sequence[str]) -> list[Row]:
    """The owners of those numbers that are connected, in no order; needs no tenant."""
    # Meta's JSON may hold a NUL, which no text of PostgreSQL can: such a number is nobody's.
    storable = [number for number in phone_number_ids if "\0" not in number]
    return await tx.fetch("SELECT * FROM number_owners($1)", storable)


async def of_tenant(tx: Tx, tenant_id: uuid.UUID) -> list[Row]:
    """The tenant's connected numbers, as `owners` shows them, in the order in which they were connected first."""
    return await tx.fetch(
        "SELECT n.phone_number_id, n.tenant_id, n.whatsapp_account_id, a.waba_id, a.display_phone_number,"
        " t.state AS tenant_state"
        " FROM connected_numbers n"
        " JOIN whatsapp_accounts a ON a.tenant_id = n.tenant_id AND a.id = n.whatsapp_account_id"
        " JOIN tenants t ON t.id = n.tenant_id"
        " WHERE n.tenant_id = $1 ORDER BY n.whatsapp_account_id",
        tenant_id,
    )


async def refuse_taken(tx: Tx, tenant_id: uuid.UUID, phone_number_id: str) -> None:
    """Raise NumberTaken if another tenant has the number now; `claim` decides for good."""
    if any(row["tenant_id"] != tenant_id for row in await owners(tx, [phone_number_id])):
        raise NumberTaken(phone_number_id)


async def claim(tx: Tx, tenant_id: uuid.UUID, account_id: uuid.UUID, phone_number_id: str) -> bool:
    """Make the number the tenant's own; False where it was already. Raises NumberTaken.

    Of two tenants at the same moment the second waits here for the first one's transaction.
    """
    added = await tx.fetchval(
        "INSERT INTO connected_numbers (tenant_id, whatsapp_account_id, phone_number_id) VALUES ($1, $2, $3)"
        " ON CONFLICT (phone_number_id) DO NOTHING RETURNING true",
        tenant_id,
        account_id,
        phone_number_id,
    )
    if added:
        return True
    # The row in the way can be seen only where it is the tenant's own.
    own = "SELECT true FROM connected_numbers WHERE tenant_id = $1 AND phone_number_id = $2"
    if not await tx.fetchval(own, tenant_id, phone_number_id):
        raise NumberTaken(phone_number_id)
    return False


async def release(tx: Tx, tenant_id: uuid.UUID, account_id: uuid.UUID) -> None:
    """Make the number free for anybody."""
    await tx.execute(
        "DELETE FROM connected_numbers WHERE tenant_id = $1 AND whatsapp_account_id = $2", tenant_id, account_id
    )


async def is_waba_in_use(tx: Tx, waba_id: str) -> bool:
    """Whether any tenant has a number of this WABA connected."""
    return bool(await tx.fetchval("SELECT waba_is_in_use($1)", waba_id))
