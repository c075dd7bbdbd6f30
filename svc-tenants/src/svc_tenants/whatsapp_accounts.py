"""WhatsApp accounts: the numbers of a tenant. A disconnected one keeps its row, so that it can come back as itself."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import astuple

from kit.db import Row, Tx
from kit.ids import new_id
from kit.pages import Page
from kit.principal import Principal
from svc_tenants import audit, connected_numbers, events
from svc_tenants.checks import Check, Verified, Wanted
from svc_tenants.errors import WhatsAppAccountNotFound


async def get(tx: Tx, tenant_id: uuid.UUID, account_id: uuid.UUID) -> Row:
    """A connected number of the tenant. Raises WhatsAppAccountNotFound."""
    row = await tx.fetchrow(
        "SELECT * FROM whatsapp_accounts WHERE tenant_id = $1 AND id = $2 AND disconnected_at IS NULL",
        tenant_id,
        account_id,
    )
    if row is None:
        raise WhatsAppAccountNotFound(account_id)
    return row


async def find_by_number(tx: Tx, tenant_id: uuid.UUID, phone_number_id: str) -> Row | None:
    """The tenant's connected number of this id at Meta."""
    return await tx.fetchrow(
        "SELECT * FROM whatsapp_accounts WHERE tenant_id = $1 AND phone_number_id = $2 AND disconnected_at IS NULL",
        tenant_id,
        phone_number_id,
    )


async def get_by_number(tx: Tx, tenant_id: uuid.UUID, phone_number_id: str) -> Row:
    """As `find_by_number`. Raises WhatsAppAccountNotFound."""
    if (row := await find_by_number(tx, tenant_id, phone_number_id)) is None:
        raise WhatsAppAccountNotFound(phone_number_id)
    return row


async def list_page(tx: Tx, tenant_id: uuid.UUID, page: Page) -> list[Row]:
    """The connected numbers, newest first; one more than the page holds when there is a next one."""
    return await tx.fetch(
        "SELECT * FROM whatsapp_accounts"
        " WHERE tenant_id = $1 AND disconnected_at IS NULL AND ($2::uuid IS NULL OR id < $2)"
        " ORDER BY id DESC LIMIT $3",
        tenant_id,
        page.cursor["id"] if page.cursor else None,
        page.size + 1,
    )


async def former_numbers(tx: Tx, tenant_id: uuid.UUID) -> list[Row]:
    """phone_number_id and disconnected_at of every number that the tenant had and has no more."""
    return await tx.fetch(
        "SELECT phone_number_id, disconnected_at FROM whatsapp_accounts"
        " WHERE tenant_id = $1 AND disconnected_at IS NOT NULL ORDER BY phone_number_id",
        tenant_id,
    )


async def store(tx: Tx, principal: Principal, wanted: Wanted, verified: Verified) -> Row:
    """Connect a verified number, or renew it where it is the tenant's own. Raises NumberTaken."""
    row = await _upsert(tx, principal.require_tenant(), wanted, verified)
    is_new = await connected_numbers.claim(tx, row["tenant_id"], row["id"], wanted.phone_number_id)
    verb = "connected" if is_new else "updated"
    await audit.record(
        tx,
        principal,
        f"whatsapp_account.{verb}",
        f"whatsappAccounts/{row['id']}",
        phoneNumberId=wanted.phone_number_id,
        wabaId=wanted.waba_id,
        tokenVersion=str(row["token_version"]),
    )
    await events.whatsapp_account(tx, verb, row)
    return row


async def record_checks(tx: Tx, account: Row, checks: Sequence[Check]) -> Row:
    """Replace what the checks of a connected number found. Raises WhatsAppAccountNotFound when it is gone."""
    row = await tx.fetchrow(
        "UPDATE whatsapp_accounts SET checks = $3::jsonb, state = $4, updated_at = now()"
        " WHERE tenant_id = $1 AND id = $2 AND disconnected_at IS NULL RETURNING *",
        account["tenant_id"],
        account["id"],
        _json(checks),
        _state(checks),
    )
    if row is None:
        raise WhatsAppAccountNotFound(account["id"])
    await events.whatsapp_account(tx, "updated", row)
    return row


async def disconnect(tx: Tx, principal: Principal, account_id: uuid.UUID) -> Row:
    """Free a number for anybody. Raises WhatsAppAccountNotFound."""
    tenant_id = principal.require_tenant()
    row = await tx.fetchrow(
        "UPDATE whatsapp_accounts SET disconnected_at = now(), updated_at = now()"
        " WHERE tenant_id = $1 AND id = $2 AND disconnected_at IS NULL RETURNING *",
        tenant_id,
        account_id,
    )
    if row is None:
        raise WhatsAppAccountNotFound(account_id)
    await connected_numbers.release(tx, tenant_id, account_id)
    await audit.record(
        tx,
        principal,
        "whatsapp_account.disconnected",
        f"whatsappAccounts/{account_id}",
        phoneNumberId=row["phone_number_id"],
        wabaId=row["waba_id"],
    )
    await events.whatsapp_account(tx, "disconnected", row)
    return row


async def _upsert(tx: Tx, tenant_id: uuid.UUID, wanted: Wanted, verified: Verified) -> Row:
    row = await tx.fetchrow(
        """
        INSERT INTO whatsapp_accounts (
            tenant_id, id, phone_number_id, waba_id, display_phone_number, verified_name, quality_rating,
            messages_per_second, number_status, name_status, messaging_limit, token_expires_at, checks, state,
            checked_at, check_after
        ) VALUES (
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14,
            now(), now() + random() * interval '10 minutes'
        )
        ON CONFLICT (tenant_id, phone_number_id) DO UPDATE SET
            waba_id = excluded.waba_id,
            display_phone_number = excluded.display_phone_number,
            verified_name = excluded.verified_name,
            quality_rating = excluded.quality_rating,
            messages_per_second = excluded.messages_per_second,
            number_status = excluded.number_status,
            name_status = excluded.name_status,
            messaging_limit = excluded.messaging_limit,
            token_expires_at = excluded.token_expires_at,
            checked_at = excluded.checked_at,
            check_after = excluded.check_after,
            checks = excluded.checks,
            state = excluded.state,
            token_version = whatsapp_accounts.token_version + 1,
            updated_at = now(),
            disconnected_at = NULL
        RETURNING *
        """,
        tenant_id,
        new_id(),
        wanted.phone_number_id,
        wanted.waba_id,
        *astuple(verified.facts),
        verified.token_expires_at,
        _json(verified.checks),
        _state(verified.checks),
    )
    assert row is not None
    return row


def _state(checks: Sequence[Check]) -> str:
    return "ready" if all(check.state == "passed" for check in checks) else "attention"


def _json(checks: Sequence[Check]) -> str:
    return json.dumps([check.as_json() for check in checks])
