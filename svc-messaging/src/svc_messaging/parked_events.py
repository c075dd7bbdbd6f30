"""Parked events, as super admins read them."""

import uuid

from kit.db import Tx
from kit.pages import Page
from svc_messaging import keyset
from svc_messaging.keyset import Listed

LIST = keyset.Descending("SELECT * FROM parked_events", "parked_events", keyset.Column("id", "id", uuid.UUID))


async def list_page(tx: Tx, page: Page, *, reason: str = "") -> Listed:
    """Rows of the table, newest first; all, or those of a reason. Only callers outside any tenant see one."""
    if reason:
        return await LIST.fetch(tx, "reason = $1", [reason], page)
    return await LIST.fetch(tx, "true", [], page)
