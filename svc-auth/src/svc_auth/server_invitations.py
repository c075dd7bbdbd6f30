"""The RPCs by which workspaces that nobody registered get their first admin."""

import uuid
from dataclasses import replace
from typing import Any

from aerostic.auth.v1 import invitation_service_pb2 as pb
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceServicer
from aerostic.auth.v1.user_pb2 import Member

from kit.principal import current_principal
from svc_auth import convert, invitations, users
from svc_auth.signing_in import SELF, Parts


class InvitationServer(InvitationServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def AcceptInvitation(self, request: pb.AcceptInvitationRequest, context: Any) -> Member:
        tenant_id = invitations.tenant_of(request.token)
        await self._parts.workspaces.require_active(tenant_id)
        password_hash = await self._parts.passwords.hash(request.password)
        async with self._parts.db.begin(SELF.on_behalf_of(tenant_id)) as tx:
            name = " ".join(request.name.split())
            user = await invitations.accept(tx, request.token, name=name, password_hash=password_hash)
        return convert.new_member(user, "admin")

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
