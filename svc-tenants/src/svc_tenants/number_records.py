"""What the looks at connected numbers found, kept: a change is written, told and audited, and nothing else is but the
moment.
"""

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from kit.db import Row, Tx
from kit.principal import Principal
from svc_tenants import audit, events
from svc_tenants.rechecks import Found, merged
from svc_tenants.sealed_tokens import SealedToken

# Not everything at the same moment: an account that was never looked at gets any moment of the time between.
_NEXT = "now() + make_interval(secs => $3) * CASE WHEN checked_at IS NULL THEN random() ELSE 0.9 + 0.2 * random() END"
# Names and times of Meta's have no secrets; details of checks hold Meta's words, from which tokens were taken.
_AUDIT_DETAIL_MAX = 300


@dataclass(frozen=True, slots=True)
class Account:
    """A connected number that is looked at."""

    id: uuid.UUID
    phone_number_id: str
    token_version: int
    sealed: SealedToken


async def of_waba(tx: Tx, tenant_id: uuid.UUID, waba_id: str) -> list[Account]:
    """The tenant's connected numbers of a WABA with their tokens."""
    rows = await tx.fetch(
        "SELECT a.id, a.phone_number_id, a.token_version, k.wrapped, t.sealed"
        " FROM whatsapp_accounts a"
        " JOIN whatsapp_tokens t ON t.tenant_id = a.tenant_id AND t.whatsapp_account_id = a.id"
        " JOIN data_keys k ON k.tenant_id = t.tenant_id AND k.id = t.data_key_id"
        " WHERE a.tenant_id = $1 AND a.waba_id = $2 AND a.disconnected_at IS NULL ORDER BY a.id",
        tenant_id,
        waba_id,
    )
    return [
        Account(
            row["id"],
            row["phone_number_id"],
            row["token_version"],
            SealedToken(tenant_id, row["id"], row["wrapped"], row["sealed"]),
        )
        for row in rows
    ]


async def postpone(tx: Tx, tenant_id: uuid.UUID, waba_id: str, *, seconds: float) -> None:
    """Look at the tenant's numbers of a WABA later, about so many seconds from now; nothing was learnt of them."""
    await tx.execute(
        f"UPDATE whatsapp_accounts SET check_after = {_NEXT}"
        " WHERE tenant_id = $1 AND waba_id = $2 AND disconnected_at IS NULL",
        tenant_id,
        waba_id,
        seconds,
    )


async def record(tx: Tx, principal: Principal, account: Account, found: Found, *, seconds: float) -> bool:
    """Keep what was found of a number, and look again after about so many seconds; True where anything has changed.

    What was found with a token that was replaced meanwhile, or of a number that is gone, is dropped.
    """
    tenant_id = principal.require_tenant()
    row = await tx.fetchrow(
        "SELECT * FROM whatsapp_accounts"
        " WHERE tenant_id = $1 AND id = $2 AND token_version = $3 AND disconnected_at IS NULL FOR UPDATE",
        tenant_id,
        account.id,
        account.token_version,
    )
    if row is None:
        return False
    before = json.loads(row["checks"])
    checks = merged(before, found.checks)
    wanted: dict[str, Any] = asdict(found.facts) if found.facts else {}
    if found.is_token_known:
        wanted["token_expires_at"] = found.token_expires_at
    wanted["state"] = "ready" if all(check["state"] == "passed" for check in checks) else "attention"
    changes = {name: value for name, value in wanted.items() if row[name] != value}
    if not changes and checks == before:
        await tx.execute(
            f"UPDATE whatsapp_accounts SET checked_at = now(), check_after = {_NEXT} WHERE tenant_id = $1 AND id = $2",
            tenant_id,
            account.id,
            seconds,
        )
        return False
    changed = await _write(tx, account.id, tenant_id, seconds, {**changes, "checks": json.dumps(checks)})
    subject = f"whatsappAccounts/{account.id}"
    await audit.record(
        tx, principal, "whatsapp_account.checked", subject, **_differences(row, changes), **_steps(before, checks)
    )
    await events.whatsapp_account(tx, "updated", changed)
    return True


async def _write(tx: Tx, account_id: uuid.UUID, tenant_id: uuid.UUID, seconds: float, columns: dict[str, Any]) -> Row:
    casts = {"checks": "::jsonb"}
    # The columns are those of this module and of Facts, none is a word of Meta's.
    named = ", ".join(f"{name} = ${place}{casts.get(name, '')}" for place, name in enumerate(columns, start=4))
    row = await tx.fetchrow(
        f"UPDATE whatsapp_accounts SET {named}, checked_at = now(), check_after = {_NEXT}, updated_at = now()"
        " WHERE tenant_id = $1 AND id = $2 RETURNING *",
        tenant_id,
        account_id,
        seconds,
        *columns.values(),
    )
    assert row is not None, "the row is locked"
    return row


def _differences(row: Row, changes: dict[str, Any]) -> dict[str, str]:
    return {_camel(name): f"{row[name]} → {value}" for name, value in changes.items()}


def _steps(before: list[dict[str, str]], now: list[dict[str, str]]) -> dict[str, str]:
    known = {check["step"]: check for check in before}
    return {
        f"check.{check['step']}": f"{check['state']}: {check['detail']}"[:_AUDIT_DETAIL_MAX]
        for check in now
        if known.get(check["step"]) != check
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
