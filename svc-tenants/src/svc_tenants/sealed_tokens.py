"""Tokens at rest: sealed with the tenant's data key, for this tenant and account only; the data key is wrapped by the
installation's key ring. A token in clear exists only while it is checked, sent to Meta, or handed to the sender.
"""

import uuid
from dataclasses import dataclass

import structlog

from kit.crypto import DataKey, DecryptionFailed, KeyRing, KeyUnknown
from kit.db import Row, Tx
from kit.ids import new_id

log = structlog.get_logger()

_PURPOSE = "meta-token"


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A stored token, with what it takes to open it."""

    tenant_id: uuid.UUID
    account_id: uuid.UUID
    wrapped_key: bytes
    sealed: bytes

    def open(self, keys: KeyRing) -> str:
        """The token in clear. Raises KeyUnknown or DecryptionFailed."""
        data_key = keys.unwrap(self.wrapped_key, self.tenant_id)
        return data_key.open(self.sealed, purpose=_PURPOSE, record=self.account_id).decode("ascii")


async def put(tx: Tx, keys: KeyRing, account: Row, token: str) -> None:
    """Store the token of an account, instead of the one before."""
    tenant_id, account_id = account["tenant_id"], account["id"]
    key_id, data_key = await _data_key(tx, keys, tenant_id)
    sealed = data_key.seal(token.encode("ascii"), purpose=_PURPOSE, record=account_id)
    await tx.execute(
        "INSERT INTO whatsapp_tokens (tenant_id, whatsapp_account_id, data_key_id, sealed) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (tenant_id, whatsapp_account_id) DO UPDATE"
        " SET data_key_id = excluded.data_key_id, sealed = excluded.sealed, updated_at = now()",
        tenant_id,
        account_id,
        key_id,
        sealed,
    )


async def take(tx: Tx, account: Row) -> SealedToken:
    """The token of an account, and forget it."""
    row = await tx.fetchrow(
        "DELETE FROM whatsapp_tokens t USING data_keys k"
        " WHERE t.tenant_id = $1 AND t.whatsapp_account_id = $2 AND k.tenant_id = t.tenant_id AND k.id = t.data_key_id"
        " RETURNING k.wrapped, t.sealed",
        account["tenant_id"],
        account["id"],
    )
    assert row is not None, "a connected account has a token: both are stored in one transaction"
    return SealedToken(account["tenant_id"], account["id"], row["wrapped"], row["sealed"])


async def rewrap(tx: Tx, keys: KeyRing, tenant_id: uuid.UUID) -> int:
    """Wrap the tenant's data keys by the ring's current key; tells how many were not. Raises KeyUnknown and
    DecryptionFailed.
    """
    rows = await tx.fetch("SELECT id, wrapped FROM data_keys WHERE tenant_id = $1 FOR UPDATE", tenant_id)
    outdated = [
        (row["id"], keys.rewrap(row["wrapped"], tenant_id)) for row in rows if not keys.is_current(row["wrapped"])
    ]
    for key_id, wrapped in outdated:
        await tx.execute(
            "UPDATE data_keys SET wrapped = $3 WHERE tenant_id = $1 AND id = $2", tenant_id, key_id, wrapped
        )
    return len(outdated)


async def _data_key(tx: Tx, keys: KeyRing, tenant_id: uuid.UUID) -> tuple[uuid.UUID, DataKey]:
    """The tenant's newest data key. Two first tokens at once make two keys, which is one more than needed."""
    newest = await tx.fetchrow(
        "SELECT id, wrapped FROM data_keys WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1", tenant_id
    )
    if newest is not None:
        try:
            return newest["id"], keys.unwrap(newest["wrapped"], tenant_id)
        except (KeyUnknown, DecryptionFailed) as error:
            # The installation's key was lost: what it protected is lost too, but a new token can be stored.
            log.error("data_key_unreadable", tenant=str(tenant_id), error=repr(error))
    key_id, wrapped = new_id(), keys.new_data_key(tenant_id)
    await tx.execute("INSERT INTO data_keys (tenant_id, id, wrapped) VALUES ($1, $2, $3)", tenant_id, key_id, wrapped)
    return key_id, keys.unwrap(wrapped, tenant_id)
