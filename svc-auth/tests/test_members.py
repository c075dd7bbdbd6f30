"""Members and their roles; workspaces see only their own people."""

import asyncpg
import pytest
from aerostic.auth.v1 import auth_service_pb2 as pb
from aerostic.auth.v1 import member_service_pb2 as members_pb

from kit.errors import RemoteError

PASSWORD = "correct horse"


async def register(auth, email: str) -> pb.SessionTokens:
    return await auth.call(
        "Register", pb.RegisterRequest(workspace_name="Shop", name="Zoe", email=email, password=PASSWORD)
    )


def member(email: str, *, name: str = "Ben", role: str = "agent") -> members_pb.CreateMemberRequest:
    return members_pb.CreateMemberRequest(email=email, name=name, password=PASSWORD, role=role)


async def test_an_agent_logs_in_and_may_not_manage_members(auth) -> None:
    admin = await register(auth, "zoe@example.com")
    await auth.call_members("CreateMember", member("ben@example.com"), token=admin.access_token)
    agent = await auth.call("Login", pb.LoginRequest(email="ben@example.com", password=PASSWORD))
    assert (agent.role, agent.workspace.id) == ("agent", admin.workspace.id)
    listed = await auth.call_members("ListMembers", members_pb.ListMembersRequest(), token=agent.access_token)
    assert [each.name for each in listed.members] == ["Ben", "Zoe"]
    with pytest.raises(RemoteError) as refused:
        await auth.call_members("CreateMember", member("eve@example.com"), token=agent.access_token)
    assert refused.value.reason == "PERMISSION_DENIED"


async def test_a_person_may_be_in_two_workspaces_and_choose(auth) -> None:
    first, second = await register(auth, "zoe@example.com"), await register(auth, "yan@example.com")
    for admin in (first, second):
        await auth.call_members("CreateMember", member("ben@example.com"), token=admin.access_token)
    login = pb.LoginRequest(email="ben@example.com", password=PASSWORD, tenant_id=first.workspace.id)
    assert (await auth.call("Login", login)).workspace.id == first.workspace.id
    login.tenant_id = ""
    assert (await auth.call("Login", login)).workspace.id == first.workspace.id, "the one entered last"
    login.tenant_id = second.workspace.id
    assert (await auth.call("Login", login)).workspace.id == second.workspace.id


async def test_a_workspace_one_is_no_member_of_is_refused(auth) -> None:
    await register(auth, "zoe@example.com")
    other = await register(auth, "yan@example.com")
    login = pb.LoginRequest(email="zoe@example.com", password=PASSWORD, tenant_id=other.workspace.id)
    with pytest.raises(RemoteError) as refused:
        await auth.call("Login", login)
    assert refused.value.reason == "NOT_A_MEMBER"


async def test_adding_a_member_twice_is_refused(auth) -> None:
    admin = await register(auth, "zoe@example.com")
    await auth.call_members("CreateMember", member("ben@example.com"), token=admin.access_token)
    with pytest.raises(RemoteError) as refused:
        await auth.call_members("CreateMember", member("BEN@example.com"), token=admin.access_token)
    assert refused.value.reason == "MEMBER_EXISTS"


@pytest.mark.parametrize("field", ["email", "role", "password", "name"])
async def test_bad_members_name_the_field(auth, field) -> None:
    admin = await register(auth, "zoe@example.com")
    request = member("ben@example.com")
    setattr(request, field, "x" * 300 if field == "name" else "bad")
    with pytest.raises(RemoteError) as refused:
        await auth.call_members("CreateMember", request, token=admin.access_token)
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_members_are_paged_by_name_and_a_page_token_is_of_its_workspace(auth) -> None:
    admin, other = await register(auth, "zoe@example.com"), await register(auth, "yan@example.com")
    for name in ("Ana", "Ben", "Cem"):
        await auth.call_members("CreateMember", member(f"{name}@example.com", name=name), token=admin.access_token)
    found, token = [], ""
    while True:
        request = members_pb.ListMembersRequest(page_size=2, page_token=token)
        page = await auth.call_members("ListMembers", request, token=admin.access_token)
        found += [each.name for each in page.members]
        token = page.next_page_token
        if not token:
            break
        with pytest.raises(RemoteError) as refused:
            await auth.call_members(
                "ListMembers", members_pb.ListMembersRequest(page_token=token), token=other.access_token
            )
        assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert found == ["Ana", "Ben", "Cem", "Zoe"]


TENANT_TABLES = ["memberships", "sessions", "refresh_tokens"]


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_rows_of_another_workspace_are_out_of_reach(auth, table) -> None:
    await register(auth, "zoe@example.com")
    other = await register(auth, "yan@example.com")
    connection = await asyncpg.connect(auth.database.app_url)
    owner = await asyncpg.connect(auth.database.superuser_url)
    total = await owner.fetchval(f"SELECT count(*) FROM {table}")
    assert total == 2
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('app.tenant_id', $1, true), set_config('app.user_id', $2, true)",
            other.workspace.id,
            other.user.id,
        )
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 1
        assert await connection.execute(f"UPDATE {table} SET user_id = user_id") == "UPDATE 1"
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', '', true), set_config('app.user_id', '', true)")
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, "nobody sees nothing"
    await owner.close()
    await connection.close()


async def test_every_table_with_a_tenant_or_session_forces_row_level_security(auth) -> None:
    connection = await asyncpg.connect(auth.database.superuser_url)
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE a.attname IN ('tenant_id', 'session_id') AND c.relkind = 'r'"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    await connection.close()
    assert [row["relname"] for row in rows] == []
