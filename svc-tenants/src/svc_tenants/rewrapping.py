"""After a new key has been put first in the key ring: wrap every data key by it, so that the old key may go.

Tokens themselves are not touched. Safe to run beside `serve`, to break off and to repeat.
"""

import uuid
from dataclasses import dataclass

import structlog

from kit.crypto import DecryptionFailed, KeyRing, KeyUnknown
from kit.db import Database
from kit.pages import SIZE_MAX, Page
from kit.principal import Principal
from svc_tenants import sealed_tokens, tenants

log = structlog.get_logger()

_WORKER = Principal.service("tenants-rewrap")


@dataclass(slots=True)
class Report:
    """What was done: data keys wrapped anew, and tenants with a data key that the ring cannot open."""

    rewrapped: int = 0
    unreadable: int = 0


async def rewrap_all(db: Database, keys: KeyRing) -> Report:
    """Go through all tenants, one transaction each. A tenant whose keys cannot be opened is told and passed over."""
    report = Report()
    page = Page(SIZE_MAX, cursor=None, is_backward=False, scope="")
    while True:
        async with db.begin(_WORKER) as tx:
            rows = await tenants.list_page(tx, page, state="")
        for row in rows[: page.size]:
            await _rewrap(db, keys, row["id"], report)
        if len(rows) <= page.size:
            return report
        last = rows[page.size - 1]
        cursor = {"create_time": last["created_at"], "id": last["id"]}
        page = Page(SIZE_MAX, cursor=cursor, is_backward=False, scope="")


async def _rewrap(db: Database, keys: KeyRing, tenant_id: uuid.UUID, report: Report) -> None:
    try:
        async with db.begin(_WORKER.on_behalf_of(tenant_id)) as tx:
            report.rewrapped += await sealed_tokens.rewrap(tx, keys, tenant_id)
    except (KeyUnknown, DecryptionFailed) as error:
        report.unreadable += 1
        log.error("data_key_unreadable", tenant=str(tenant_id), error=repr(error))
