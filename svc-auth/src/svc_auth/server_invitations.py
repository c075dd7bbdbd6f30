"""The RPCs by which workspaces that nobody registered get their first admin."""

import uuid
from dataclasses import replace
from typing import Any

from aerostic.auth.v1 import invitation_service_pb2 as pb
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceServicer
from aerostic.auth.v1.user_pb2 import Member

from kit.db import Row
from kit.principal import current_principal
from svc_auth import callers, convert, invitations, throttle, users
from svc_auth.errors import CredentialsWrong
from svc_auth.signing_in import SELF, Parts


class InvitationServer(InvitationServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def AcceptInvitation(self, request: pb.AcceptInvitationRequest, context: Any) -> Member:
        tenant_id = invitations.tenant_of(request.token)
        address = callers.address(context.invocation_metadata())
        # The token is proven before anything is spent on whoever shows it.
        async with self._parts.db.begin(SELF.on_behalf_of(tenant_id)) as tx:
            email = await invitations.email_of(tx, request.token)
            user = await users.find_by_email(tx, email)
            if user is not None:
                await throttle.require_free(tx, email, address)
        await self._parts.workspaces.require_active(tenant_id)
        if user is not None:
            await self._join(request, tenant_id, user, address)
            return convert.new_member(user, "admin")
        password_hash = await self._parts.passwords.hash(request.password)
        async with self._parts.db.begin(SELF.on_behalf_of(tenant_id)) as tx:
            name = " ".join(request.name.split())
            user = await invitations.accept(tx, request.token, name=name, password_hash=password_hash)
        return convert.new_member(user, "admin")

    async def _join(self, request: pb.AcceptInvitationRequest, tenant_id: uuid.UUID, user: Row, address: str) -> None:
        """Somebody who has an account shows that it is his. Raises CredentialsWrong."""
        if not await self._parts.passwords.matches(request.password, user["password_hash"]):
            async with self._parts.db.begin(SELF) as tx:
                await throttle.count_failure(tx, user["email"], address)
            raise CredentialsWrong
        async with self._parts.db.begin(SELF.on_behalf_of(tenant_id)) as tx:
            await throttle.forgive(tx, user["email"])
            await invitations.accept_as(tx, request.token, user)

    async def InviteFirstAdmin(self, request: pb.InviteFirstAdminRequest, context: Any) -> pb.InviteFirstAdminResponse:
        tenant_id = uuid.UUID(request.tenant_id)
        principal = replace(current_principal(), tenant_id=tenant_id)
        async with self._parts.db.begin(principal) as tx:
            admin, token = await invitations.invite(tx, tenant_id, users.normalized(request.email))
        return pb.InviteFirstAdminResponse(first_admin=convert.first_admin(admin), token=token)

    async def BatchGetFirstAdmins(
        self, request: pb.BatchGetFirstAdminsRequest, context: Any
    ) -> pb.BatchGetFirstAdminsResponse:
        async with self._parts.db.begin(current_principal()) as tx:
            rows = await invitations.first_admins(tx, [uuid.UUID(tenant_id) for tenant_id in request.tenant_ids])
        return pb.BatchGetFirstAdminsResponse(first_admins=[convert.first_admin(row) for row in rows])
