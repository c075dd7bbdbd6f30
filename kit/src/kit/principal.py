"""Who calls: a signed-in user, one of our own processes, or nobody."""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal

from kit.errors import TenantRequired, TokenMissing


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. The tenant of every statement, event and log line comes from here, never from a request."""

    kind: Literal["user", "service", "anonymous"]
    tenant_id: uuid.UUID | None = None
    user_id: uuid.UUID | None = None
    role: str = ""
    """Word of aerostic.options.v1.Role; empty unless a user."""
    session_id: uuid.UUID | None = None
    name: str = ""
    """The process, such as "messaging-sender"; empty unless a service."""

    @classmethod
    def user(
        cls,
        *,
        user_id: uuid.UUID,
        role: str,
        tenant_id: uuid.UUID | None = None,
        session_id: uuid.UUID | None = None,
    ) -> "Principal":
        """Without `tenant_id`: a super admin, outside any workspace."""
        return cls("user", tenant_id=tenant_id, user_id=user_id, role=role, session_id=session_id)

    @classmethod
    def service(cls, name: str) -> "Principal":
        return cls("service", name=name)

    def on_behalf_of(self, tenant_id: uuid.UUID) -> "Principal":
        """The process acting for one tenant: a worker, or an internal call that names the tenant."""
        assert self.kind == "service", "only our own processes may choose a tenant"
        return replace(self, tenant_id=tenant_id)

    def require_tenant(self) -> uuid.UUID:
        """The tenant. Raises TenantRequired for callers in none."""
        if self.tenant_id is None:
            raise TenantRequired
        return self.tenant_id

    def require_user(self) -> uuid.UUID:
        """The signed-in user's id. Raises TokenMissing for anybody else."""
        if self.user_id is None:
            raise TokenMissing
        return self.user_id


ANONYMOUS = Principal("anonymous")

_current: ContextVar[Principal] = ContextVar("principal", default=ANONYMOUS)


def current_principal() -> Principal:
    """The caller of the running RPC; ANONYMOUS outside of one."""
    return _current.get()


def set_current_principal(principal: Principal) -> None:
    """For the interceptor, and for edges that verify callers themselves. Lasts for the current task."""
    _current.set(principal)
