"""Erasing a workspace's people: who belongs to it alone is forgotten, everybody else stays who he is."""

import asyncio
import uuid

import asyncpg
import pytest
from aerostic.auth.v1 import auth_service_pb2 as auth_pb
from aerostic.auth.v1 import erasure_service_pb2 as pb
from aerostic.auth.v1 import invitation_service_pb2 as invitations_pb
from aerostic.auth.v1 import member_service_pb2 as members_pb
from grpc import StatusCode

from kit.access import all_methods
from kit.errors import RemoteError
from svc_auth import erasures, users
from svc_auth.signing_in import SELF

PASSWORD = "correct horse"


async def register(auth, email="ana@example.com"):
    request = auth_pb.RegisterRequest(workspace_name="Shop", name="Ana", email=email, password=PASSWORD)
    return await auth.call("Register", request)


async def log_in(auth, email="ana@example.com", tenant_id=""):
    return await auth.call("Login", auth_pb.LoginRequest(email=email, password=PASSWORD, tenant_id=tenant_id))


async def add(auth, session, email):
    request = members_pb.CreateMemberRequest(email=email, name="Bo", password=PASSWORD, role="agent")
    return await auth.call_members("CreateMember", request, token=session.access_token)


async def erase(auth, tenant_id, caller="svc-tenants"):
    token = auth.identities[caller].token()
    request = pb.EraseTenantDataRequest(tenant_id=str(tenant_id))
    return await auth.rpc.bearer(token).call(auth.erasure.EraseTenantData, request)


async def refused(call) -> RemoteError:
    with pytest.raises(RemoteError) as error:
        await call
    return error.value


async def look(auth, query, *args):
    connection = await asyncpg.connect(auth.database.superuser_url)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()


async def left(auth, tenant_id) -> set[str]:
    """Where the catalog knows a tenant, and registrations, whose id is the tenant's."""
    tables = await look(
        auth,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace",
    )
    places = [(row["relname"], "tenant_id") for row in tables] + [("registrations", "id")]
    return {t for t, key in places if await look(auth, f"SELECT 1 FROM {t} WHERE {key} = $1", uuid.UUID(tenant_id))}


async def mails(auth) -> set[str]:
    rows = await look(auth, "SELECT email FROM users UNION SELECT email FROM registrations")
    return {row["email"] for row in rows}


async def test_people_who_belong_to_it_alone_are_forgotten(auth):
    session = await register(auth)
    await add(auth, session, "bo@example.com")
    await log_in(auth, "bo@example.com")
    other = await register(auth, "zoe@example.com")
    answer = await erase(auth, session.workspace.id)
    assert answer.done
    assert {table: answer.erased[table] for table in ("users", "memberships", "sessions", "registrations")} == {
        "users": 2,
        "memberships": 2,
        "sessions": 2,
        "registrations": 1,
    }
    assert await left(auth, session.workspace.id) == set()
    assert await mails(auth) == {"zoe@example.com"}
    assert await left(auth, other.workspace.id) == {"memberships", "sessions", "registrations"}
    assert (await refused(log_in(auth))).reason == "CREDENTIALS_WRONG"
    again = await erase(auth, session.workspace.id)
    assert (again.done, dict(again.erased)) == (True, {})


async def test_a_member_of_another_workspace_stays_there(auth):
    first, second = await register(auth), await register(auth, "zoe@example.com")
    await add(auth, second, "ana@example.com")
    await log_in(auth, tenant_id=first.workspace.id)
    elsewhere = await log_in(auth, tenant_id=second.workspace.id)
    await erase(auth, first.workspace.id)
    assert (await log_in(auth)).workspace.id == second.workspace.id
    carried_on = auth_pb.RefreshSessionRequest(refresh_token=elsewhere.refresh_token)
    assert (await auth.call("RefreshSession", carried_on)).workspace.id == second.workspace.id
    assert await left(auth, first.workspace.id) == set()


async def test_whoever_is_a_member_of_two_workspaces_that_are_erased_at_once_is_forgotten(auth):
    first, second = await register(auth), await register(auth, "zoe@example.com")
    await add(auth, second, "ana@example.com")
    await add(auth, first, "zoe@example.com")
    await asyncio.gather(erase(auth, first.workspace.id), erase(auth, second.workspace.id))
    assert await mails(auth) == set()


async def test_a_super_admin_is_never_forgotten(auth):
    session = await register(auth)
    async with auth.parts.db.begin(SELF) as tx:
        await users.make_super_admin(tx, email="ana@example.com", name="Ana", password_hash="x")
    await erase(auth, session.workspace.id)
    assert await mails(auth) == {"ana@example.com"}


async def test_sessions_end_at_once_and_say_so(auth):
    session = await register(auth)
    await erase(auth, session.workspace.id)
    rows = await look(auth, "SELECT subject FROM outbox")
    assert [row["subject"] for row in rows] == [f"events.auth.session.revoked.{session.workspace.id}"]
    request = auth_pb.RefreshSessionRequest(refresh_token=session.refresh_token)
    assert (await refused(auth.call("RefreshSession", request))).reason == "REFRESH_TOKEN_INVALID"


async def test_an_open_invitation_opens_nothing_any_more(auth):
    tenant_id = uuid.uuid4()
    auth.tenants.created[tenant_id] = "Acme"
    operator = auth.rpc.bearer(auth.identities["operator"].token())
    invite = invitations_pb.InviteFirstAdminRequest(tenant_id=str(tenant_id), email="zoe@example.com")
    token = (await operator.call(auth.invitations.InviteFirstAdmin, invite)).token
    assert (await erase(auth, tenant_id)).erased["invitations"] == 1
    accept = invitations_pb.AcceptInvitationRequest(token=token, name="Zoe", password=PASSWORD)
    error = await refused(auth.rpc.anonymous().call(auth.invitations.AcceptInvitation, accept))
    assert error.reason == "INVITATION_INVALID"
    error = await refused(operator.call(auth.invitations.InviteFirstAdmin, invite))
    assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "TENANT_DELETING")


async def test_an_access_token_that_outlives_the_workspace_adds_nobody(auth):
    session = await register(auth)
    await erase(auth, session.workspace.id)
    error = await refused(add(auth, session, "bo@example.com"))
    assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "TENANT_DELETING")
    assert await mails(auth) == set()


async def test_nobody_signs_in_to_a_workspace_that_is_deleting(auth):
    session = await register(auth)
    auth.tenants.deleting.add(uuid.UUID(session.workspace.id))
    auth.parts.workspaces._known.clear()
    assert (await refused(log_in(auth))).reason == "TENANT_DELETING"


async def test_a_call_ends_when_its_time_is_over_and_the_next_goes_on(auth):
    session = await register(auth)
    principal = SELF.on_behalf_of(uuid.UUID(session.workspace.id))
    erased = await erasures.erase(auth.parts.db, principal, seconds=-1)
    assert (erased.done, erased.counts) == (False, {})
    assert (await erase(auth, session.workspace.id)).done


@pytest.mark.parametrize("table", ["memberships", "sessions"])
async def test_rows_of_a_workspace_that_is_not_marked_cannot_be_deleted(auth, table):
    session = await register(auth)
    async with auth.parts.db.begin(SELF.on_behalf_of(uuid.UUID(session.workspace.id))) as tx:
        assert await tx.execute(f"DELETE FROM {table}") == "DELETE 0"
        await tx.fetchval("SELECT erase_registration($1)", uuid.UUID(session.workspace.id))
        await tx.fetchval("SELECT erase_users(ARRAY(SELECT id FROM users))")
    assert await mails(auth) == {"ana@example.com"}
    assert "registrations" in await left(auth, session.workspace.id)


async def test_only_svc_tenants_may_erase(auth):
    [method] = [m for m in all_methods() if m.full_name == "aerostic.auth.v1.ErasureService.EraseTenantData"]
    assert method.callers == {"svc-tenants"}
    for caller in ("operator", "gateway", "messaging-server"):
        assert (await refused(erase(auth, uuid.uuid4(), caller))).reason == "PERMISSION_DENIED"
