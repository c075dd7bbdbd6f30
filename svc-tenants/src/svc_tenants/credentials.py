"""What the sender gets: the only way in which a token leaves this service."""

from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb2

from kit.crypto import KeyRing
from kit.db import Database
from kit.principal import Principal
from svc_tenants import connected_numbers
from svc_tenants.errors import NumberNotConnected
from svc_tenants.sealed_tokens import SealedToken


async def for_sending(
    db: Database, sender: Principal, keys: KeyRing, phone_number_id: str
) -> accounts_pb2.SendingCredentials:
    """The token that sends for a number. Raises NumberNotConnected.

    The directory tells whose the number is; the token is then read inside that tenant, so that no statement here could
    read another's.
    """
    async with db.begin(sender) as tx:
        found = await connected_numbers.owners(tx, [phone_number_id])
    if not found:
        raise NumberNotConnected(phone_number_id)
    owner = found[0]
    tenant_id, account_id = owner["tenant_id"], owner["whatsapp_account_id"]
    async with db.begin(sender.on_behalf_of(tenant_id)) as tx:
        # One statement: token and version are of one moment.
        row = await tx.fetchrow(
            "SELECT a.messages_per_second, a.token_version, k.wrapped, t.sealed"
            " FROM whatsapp_accounts a"
            " JOIN whatsapp_tokens t ON t.tenant_id = a.tenant_id AND t.whatsapp_account_id = a.id"
            " JOIN data_keys k ON k.tenant_id = t.tenant_id AND k.id = t.data_key_id"
            " WHERE a.tenant_id = $1 AND a.id = $2",
            tenant_id,
            account_id,
        )
    if row is None:
        raise NumberNotConnected(phone_number_id)
    return accounts_pb2.SendingCredentials(
        phone_number_id=phone_number_id,
        tenant_id=str(tenant_id),
        access_token=SealedToken(tenant_id, account_id, row["wrapped"], row["sealed"]).open(keys),
        messages_per_second=row["messages_per_second"],
        tenant_state=owner["tenant_state"],
        token_version=row["token_version"],
    )
