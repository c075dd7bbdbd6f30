"""First admins of workspaces that nobody registered."""

import base64
import uuid

import asyncpg
import pytest
from aerostic.auth.v1 import auth_service_pb2 as auth_pb
from aerostic.auth.v1 import invitation_service_pb2 as pb
from grpc import StatusCode

from kit.errors import RemoteError
from svc_auth import throttle

PASSWORD = "correct horse"


class House:
    """A workspace that only svc-tenants knows, and what may be done to it."""

    def __init__(self, auth) -> None:
        self.auth = auth
        self.id = uuid.uuid4()
        auth.tenants.created[self.id] = "Acme"

    async def call(self, name, request, caller):
        return await caller.call(getattr(self.auth.invitations, name), request)

    async def invite(self, email="zoe@example.com"):
        request = pb.InviteFirstAdminRequest(tenant_id=str(self.id), email=email)
        return await self.call("InviteFirstAdmin", request, self.operator)

    async def accept(self, token, name="Zoe", password=PASSWORD):
        request = pb.AcceptInvitationRequest(token=token, name=name, password=password)
        return await self.call("AcceptInvitation", request, self.auth.rpc.anonymous())

    async def first_admin(self):
        request = pb.BatchGetFirstAdminsRequest(tenant_ids=[str(self.id), str(uuid.uuid4())])
        [*found] = (await self.call("BatchGetFirstAdmins", request, self.operator)).first_admins
        return found

    @property
    def operator(self):
        return self.auth.rpc.bearer(self.auth.identities["operator"].token())


@pytest.fixture
def house(auth):
    return House(auth)


async def refusal(call) -> str:
    with pytest.raises(RemoteError) as refused:
        await call
    return refused.value.reason


async def test_an_invited_person_becomes_admin_and_logs_in(auth, house) -> None:
    invited = await house.invite()
    assert [(a.email, a.state) for a in await house.first_admin()] == [("zoe@example.com", "invited")]
    member = await house.accept(invited.token)
    assert (member.email, member.name, member.role) == ("zoe@example.com", "Zoe", "admin")
    session = await auth.call("Login", auth_pb.LoginRequest(email="zoe@example.com", password=PASSWORD))
    assert (session.workspace.id, session.role) == (str(house.id), "admin")
    assert [(a.email, a.state) for a in await house.first_admin()] == [("zoe@example.com", "joined")]


async def test_a_token_works_once(house) -> None:
    token = (await house.invite()).token
    await house.accept(token)
    assert await refusal(house.accept(token)) == "INVITATION_INVALID"


async def test_a_newer_invitation_ends_the_older_one(house) -> None:
    older, newer = (await house.invite()).token, (await house.invite("yan@example.com")).token
    assert await refusal(house.accept(older)) == "INVITATION_INVALID"
    assert (await house.accept(newer)).email == "yan@example.com"


async def test_an_expired_token_is_refused(auth, house) -> None:
    token = (await house.invite()).token
    connection = await asyncpg.connect(auth.database.superuser_url)
    await connection.execute("UPDATE invitations SET expires_at = now()")
    await connection.close()
    assert await refusal(house.accept(token)) == "INVITATION_INVALID"


@pytest.mark.parametrize("token", ["x", "é", "a" * 64, "A" * 512])
async def test_what_is_no_token_is_refused(house, token) -> None:
    assert await refusal(house.accept(token)) == "INVITATION_INVALID"


async def test_no_password_is_hashed_for_who_proves_nothing(auth, house, monkeypatch) -> None:
    async def hash_anyway(password):
        raise AssertionError

    monkeypatch.setattr(auth.parts.passwords, "hash", hash_anyway)
    made_up = base64.urlsafe_b64encode(house.id.bytes + b"x" * 32).decode()
    assert await refusal(house.accept(made_up)) == "INVITATION_INVALID"


async def test_a_token_of_one_workspace_opens_no_other(auth, house) -> None:
    other = House(auth)
    await other.invite("yan@example.com")
    token = (await house.invite()).token
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    forged = base64.urlsafe_b64encode(other.id.bytes + raw[16:]).decode().rstrip("=")
    assert await refusal(house.accept(forged)) == "INVITATION_INVALID"


async def register(auth, *, password=PASSWORD) -> None:
    request = auth_pb.RegisterRequest(workspace_name="Own", name="Zoe", email="zoe@example.com", password=password)
    await auth.call("Register", request)


async def log_in(auth, house, *, password=PASSWORD):
    request = auth_pb.LoginRequest(email="zoe@example.com", password=password, tenant_id=str(house.id))
    return await auth.call("Login", request)


async def test_an_account_with_the_invited_email_does_not_join_by_itself(auth, house) -> None:
    await register(auth, password="a stranger's choice")
    invited = await house.invite("Zoe@Example.com")
    assert invited.first_admin.state == "invited"
    assert invited.token
    assert await refusal(log_in(auth, house, password="a stranger's choice")) == "NOT_A_MEMBER"


async def test_who_has_an_account_joins_with_token_and_password(auth, house) -> None:
    await register(auth)
    token = (await house.invite("Zoe@Example.com")).token
    member = await house.accept(token, name="Another Name")
    assert (member.email, member.name, member.role) == ("zoe@example.com", "Zoe", "admin")
    assert (await log_in(auth, house)).role == "admin"
    assert [(a.email, a.state) for a in await house.first_admin()] == [("zoe@example.com", "joined")]
    assert await refusal(house.accept(token)) == "INVITATION_INVALID"


async def test_a_token_without_the_accounts_password_takes_nobody_in(auth, house) -> None:
    await register(auth, password="a stranger's choice")
    token = (await house.invite()).token
    assert await refusal(house.accept(token)) == "CREDENTIALS_WRONG"
    assert await refusal(log_in(auth, house, password=PASSWORD)) == "CREDENTIALS_WRONG"
    assert [a.state for a in await house.first_admin()] == ["invited"]
    # The way out: invited again by another e-mail.
    assert (await house.accept((await house.invite("yan@example.com")).token)).email == "yan@example.com"


async def test_guessing_an_accounts_password_by_a_token_is_slowed_down(auth, house) -> None:
    await register(auth)
    token = (await house.invite()).token
    for _ in range(throttle.FREE_FAILURES["email"]):
        assert await refusal(house.accept(token, password="a wrong guess")) == "CREDENTIALS_WRONG"
    await auth.prolong_blocks()
    assert await refusal(house.accept(token, password="a wrong guess")) == "LOGIN_THROTTLED"


async def test_a_workspace_with_an_admin_gets_no_second_one(house) -> None:
    await house.accept((await house.invite()).token)
    again = await house.invite("yan@example.com")
    assert (again.first_admin.email, again.first_admin.state, again.token) == ("zoe@example.com", "joined", "")


async def test_an_account_made_meanwhile_is_not_given_another_password(auth, house) -> None:
    token = (await house.invite()).token
    await register(auth, password="a stranger's choice")
    assert await refusal(house.accept(token)) == "CREDENTIALS_WRONG"
    own = auth_pb.LoginRequest(email="zoe@example.com", password="a stranger's choice")
    assert (await auth.call("Login", own)).user.email == "zoe@example.com"


async def test_a_suspended_workspace_takes_nobody_in(auth, house) -> None:
    token = (await house.invite()).token
    auth.tenants.suspended.add(house.id)
    assert await refusal(house.accept(token)) == "TENANT_SUSPENDED"


async def test_the_token_is_kept_nowhere(auth, house) -> None:
    token = (await house.invite()).token
    connection = await asyncpg.connect(auth.database.superuser_url)
    rows = await connection.fetch("SELECT token_hash FROM invitations WHERE tenant_id = $1", house.id)
    await connection.close()
    assert len(rows) == 1
    assert token.encode() not in rows[0]["token_hash"]


@pytest.mark.parametrize("name", ["InviteFirstAdmin", "BatchGetFirstAdmins"])
async def test_only_the_operator_may_invite_and_ask(auth, house, name) -> None:
    request = getattr(pb, f"{name}Request")()
    for caller in ("gateway", "svc-auth"):
        with pytest.raises(RemoteError) as refused:
            await house.call(name, request, auth.rpc.bearer(auth.identities[caller].token()))
        assert refused.value.code is StatusCode.PERMISSION_DENIED
