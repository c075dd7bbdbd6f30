"""Events of svc-auth. They name users by id and never carry e-mails, hashes or tokens."""

import uuid

from kit.events import Event, outgoing
from kit.outgoing import Outgoing


def member_added(tenant_id: uuid.UUID, user_id: uuid.UUID, role: str) -> list[Outgoing]:
    data = {"memberId": str(user_id), "role": role}
    return outgoing([Event("auth.member.added", tenant_id, f"members/{user_id}", data)])


def session_revoked(tenant_id: uuid.UUID, user_id: uuid.UUID, session_id: uuid.UUID, because: str) -> list[Outgoing]:
    data = {"sessionId": str(session_id), "memberId": str(user_id), "because": because}
    return outgoing([Event("auth.session.revoked", tenant_id, f"sessions/{session_id}", data)])
