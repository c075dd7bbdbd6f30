"""Who calls, and whether they may."""

import structlog

from kit import access, tokens
from kit.errors import AppError, TokenInvalid
from kit.interceptors.call import Call
from kit.principal import ANONYMOUS, Principal, set_current_principal
from kit.service_tokens import SERVICE_TYPE, ServiceTrust
from kit.tokens import AccessTokenVerifier

_SCHEME = "bearer"


class Authenticator:
    """Turns the credentials of a call into a principal: users by access token, our processes by service token."""

    def __init__(self, users: AccessTokenVerifier, services: ServiceTrust) -> None:
        self._users = users
        self._services = services

    async def principal(self, authorization: list[str]) -> Principal:
        """The caller of these authorization headers; ANONYMOUS without one. Raises TokenInvalid, TokenExpired or
        Unavailable.
        """
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != _SCHEME:
            raise TokenInvalid
        # The type only chooses the verifier; each verifier then insists on its own type, key and audience.
        if tokens.unverified_header(token).get("typ") == SERVICE_TYPE:
            return self._services.verify(token)
        return await self._users.verify(token)


async def admit(call: Call, authenticator: Authenticator) -> None:
    """Identify the caller and refuse who may not call the method. The principal is current from here on."""
    try:
        call.principal = await authenticator.principal(call.metadata.get("authorization", []))
    except AppError:
        # Signing in, refreshing and signing out must work with a stale token at hand.
        if call.method.permission != access.PUBLIC:
            raise
    access.authorize(call.principal, call.method)
    set_current_principal(call.principal)
    if call.principal.tenant_id:
        structlog.contextvars.bind_contextvars(tenant=str(call.principal.tenant_id))
