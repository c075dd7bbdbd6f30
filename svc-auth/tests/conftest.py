"""svc-auth behind a real server, with svc-tenants played by a few lines."""

import uuid
from datetime import timedelta

import asyncpg
import pytest
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from aerostic.auth.v1.erasure_service_pb2_grpc import ErasureServiceStub
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceStub
from aerostic.auth.v1.member_service_pb2_grpc import MemberServiceStub
from aerostic.tenants.v1 import tenant_service_pb2 as tenants_pb
from aerostic.tenants.v1.tenant_pb2 import Tenant
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceServicer

from kit.crypto import KeyRing
from kit.db import Database, as_app_error
from kit.errors import Unavailable
from kit.grpc_client import Channel
from kit.interceptors.auth import Authenticator
from kit.keys import KeySource
from kit.testing.rpc import Authority, serve
from kit.tokens import AccessTokenVerifier
from svc_auth import signing_keys
from svc_auth.__main__ import known_failure
from svc_auth.passwords import Passwords
from svc_auth.server import AuthServer, MemberServer, jwks
from svc_auth.server_erasure import ErasureServer
from svc_auth.server_invitations import InvitationServer
from svc_auth.signing_in import SELF, Parts
from svc_auth.workspaces import Workspaces


class Tenants(TenantServiceServicer):
    """svc-tenants: remembers what was created, and can be away or suspend."""

    def __init__(self) -> None:
        self.created: dict[uuid.UUID, str] = {}
        self.suspended: set[uuid.UUID] = set()
        self.deleting: set[uuid.UUID] = set()
        self.is_away = False
        self.dies_after_creating = False

    async def CreateTenant(self, request, context):
        if self.is_away:
            raise Unavailable("away")
        self.created[uuid.UUID(request.tenant_id)] = request.display_name
        if self.dies_after_creating:
            raise Unavailable("died before it could answer")
        return Tenant(id=request.tenant_id, display_name=request.display_name)

    async def BatchGetTenantStates(self, request, context):
        if self.is_away:
            raise Unavailable("away")
        found = [uuid.UUID(i) for i in request.tenant_ids if uuid.UUID(i) in self.created]
        states = [
            tenants_pb.TenantState(
                tenant_id=str(i),
                state="deleting" if i in self.deleting else "suspended" if i in self.suspended else "active",
                display_name=self.created[i],
            )
            for i in found
        ]
        return tenants_pb.BatchGetTenantStatesResponse(tenants=states)


class Auth:
    """A running svc-auth and what tests look at."""

    def __init__(self, rpc, parts, tenants, database, identities) -> None:
        self.rpc, self.parts, self.tenants, self.database, self.identities = rpc, parts, tenants, database, identities
        self.service = rpc.stub(AuthServiceStub)
        self.members = rpc.stub(MemberServiceStub)
        self.invitations = rpc.stub(InvitationServiceStub)
        self.erasure = rpc.stub(ErasureServiceStub)

    async def call(self, name, request, *, token: str = ""):
        return await self.rpc.bearer(token).call(getattr(self.service, name), request)

    async def call_from(self, address: str, name: str, request, *, token: str):
        """A call whose metadata names this client's address, by whoever holds the token."""
        method, extra = getattr(self.service, name), {"aerostic-client-ip": address}
        return await self.rpc.channel.call(method, request, token=token, extra=extra)

    async def prolong_blocks(self) -> None:
        """The first waits last a second or two, which a slow machine may need between two calls."""
        connection = await asyncpg.connect(self.database.superuser_url)
        try:
            await connection.execute("UPDATE login_failures SET blocked_until = blocked_until + interval '1 minute'")
        finally:
            await connection.close()

    async def call_members(self, name, request, *, token: str = ""):
        return await self.rpc.bearer(token).call(getattr(self.members, name), request)


@pytest.fixture
async def auth(postgres):
    database = postgres.fresh_database("auth")
    tenants, authority = Tenants(), Authority(["gateway"])
    db = await Database.connect(database.app_url, name="test")
    ring = KeyRing({"k": b"k" * 32})
    async with serve(tenants, translate=as_app_error, authority=authority) as tenants_rpc:
        channel = Channel(tenants_rpc.target, authority.identities["svc-auth"])
        parts = Parts(db, ring, Passwords(4), Workspaces(channel), timedelta(days=30))
        async with db.begin(SELF) as tx:
            await signing_keys.ensure(tx, ring)
        own = Authenticator(AccessTokenVerifier(KeySource(lambda: jwks(parts), retry_seconds=0)), authority.trust)
        servicers = (AuthServer(parts), MemberServer(parts), InvitationServer(parts), ErasureServer(db))
        async with serve(*servicers, translate=known_failure, authenticator=own) as rpc:
            yield Auth(rpc, parts, tenants, database, authority.identities)
        await channel.close()
    parts.passwords.close()
    await db.close()
    database.drop()
