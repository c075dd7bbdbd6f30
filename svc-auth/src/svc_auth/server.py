"""The RPCs of svc-auth."""

import uuid
from typing import Any

from aerostic.auth.v1 import auth_service_pb2 as pb
from aerostic.auth.v1 import member_service_pb2 as members_pb
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from aerostic.auth.v1.member_service_pb2_grpc import MemberServiceServicer
from aerostic.auth.v1.user_pb2 import Member
from google.protobuf.empty_pb2 import Empty

from kit import access, pages
from kit.keys import encode_key
from kit.principal import current_principal
from svc_auth import callers, convert, signing_in, signing_keys, users
from svc_auth.errors import NotAMember
from svc_auth.signing_in import SELF, Parts


class AuthServer(AuthServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.SessionTokens:
        signed_in = await signing_in.register(
            self._parts,
            email=request.email,
            password=request.password,
            name=_squeezed(request.name),
            workspace_name=_squeezed(request.workspace_name),
        )
        return convert.session_tokens(signed_in)

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.SessionTokens:
        signed_in = await signing_in.log_in(
            self._parts,
            email=request.email,
            password=request.password,
            tenant_id=uuid.UUID(request.tenant_id) if request.tenant_id else None,
            address=callers.address(context.invocation_metadata()),
        )
        return convert.session_tokens(signed_in)

    async def RefreshSession(self, request: pb.RefreshSessionRequest, context: Any) -> pb.SessionTokens:
        return convert.session_tokens(await signing_in.refresh(self._parts, refresh_token=request.refresh_token))

    async def Logout(self, request: pb.LogoutRequest, context: Any) -> Empty:
        await signing_in.log_out(self._parts, refresh_token=request.refresh_token, caller=current_principal())
        return Empty()

    async def GetMe(self, request: pb.GetMeRequest, context: Any) -> pb.Me:
        caller = current_principal()
        async with self._parts.db.begin(caller) as tx:
            user = await users.get(tx, caller.require_user())
        if user is None:
            raise NotAMember
        workspace = await self._parts.workspaces.get(caller.tenant_id) if caller.tenant_id else None
        return pb.Me(
            user=convert.user(user),
            workspace=convert.workspace(workspace),
            role=caller.role,
            permissions=access.role_grants().get(caller.role, ()),
        )

    async def GetJwks(self, request: pb.GetJwksRequest, context: Any) -> pb.Jwks:
        return await jwks(self._parts)


class MemberServer(MemberServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListMembers(self, request: members_pb.ListMembersRequest, context: Any) -> members_pb.ListMembersResponse:
        caller = current_principal()
        tenant_id = caller.require_tenant()
        page = pages.read(request, tenant_id, keys={"name": str, "id": uuid.UUID})
        after = (page.cursor["name"], page.cursor["id"]) if page.cursor else None
        async with self._parts.db.begin(caller) as tx:
            rows = await users.list_members(tx, tenant_id, after=after, most=page.size + 1)
        answer = members_pb.ListMembersResponse(members=[convert.member(row) for row in rows[: page.size]])
        if len(rows) > page.size:
            last = rows[page.size - 1]
            answer.next_page_token = page.token({"name": last["name"], "id": last["id"]})
        return answer

    async def CreateMember(self, request: members_pb.CreateMemberRequest, context: Any) -> Member:
        caller = current_principal()
        tenant_id = caller.require_tenant()
        name = _squeezed(request.name)
        await self._parts.workspaces.require_active(tenant_id)
        password_hash = await self._parts.passwords.hash(request.password)
        async with self._parts.db.begin(caller) as tx:
            user = await users.add_member(
                tx,
                tenant_id,
                email=users.normalized(request.email),
                name=name,
                password_hash=password_hash,
                role=request.role,
            )
        return convert.new_member(user, request.role)


async def jwks(parts: Parts) -> pb.Jwks:
    """The public keys, for the RPC and for this service's own verifier."""
    async with parts.db.begin(SELF) as tx:
        keys = await signing_keys.published(tx)
    return pb.Jwks(
        keys=[
            pb.Jwk(kty="OKP", crv="Ed25519", use="sig", alg="EdDSA", kid=key.kid, x=encode_key(key.raw)) for key in keys
        ]
    )


def _squeezed(name: str) -> str:
    """As names are shown: every gap is one space. The contract sees to it that something is left."""
    return " ".join(name.split())
