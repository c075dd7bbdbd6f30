"""Who changed what and when, kept with the change itself. Holds no secrets and is never edited."""

import json

from kit import request_ids
from kit.db import Tx
from kit.ids import new_id
from kit.principal import Principal


async def record(tx: Tx, principal: Principal, action: str, subject: str, **detail: str) -> None:
    """Note that the caller did `action`, such as "tenant.suspended", to `subject`, such as "tenants/<id>"."""
    await tx.execute(
        "INSERT INTO audit_log (tenant_id, id, action, subject, actor_user_id, actor_name, request_id, detail)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)",
        principal.require_tenant(),
        new_id(),
        action,
        subject,
        principal.user_id,
        principal.name or principal.role,
        request_ids.current(),
        json.dumps(detail),
    )
