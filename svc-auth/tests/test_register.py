"""Registering gives a workspace and its first admin, both or neither, whoever dies in between."""

import asyncio
import uuid

import asyncpg
import pytest
from aerostic.auth.v1 import auth_service_pb2 as pb

from kit.errors import RemoteError
from svc_auth import registrations, signing_in
from svc_auth.signing_in import SELF

PASSWORD = "correct horse"


def request(email: str = "ana@example.com", **changes: str) -> pb.RegisterRequest:
    values = {"workspace_name": "Blue Shop", "name": "Ana", "email": email, "password": PASSWORD}
    return pb.RegisterRequest(**{**values, **changes})


async def test_registering_signs_the_first_admin_in(auth) -> None:
    tokens = await auth.call("Register", request())
    assert tokens.role == "admin"
    assert tokens.workspace.display_name == "Blue Shop"
    me = await auth.call("GetMe", pb.GetMeRequest(), token=tokens.access_token)
    assert (me.user.email, me.role, me.workspace.id) == ("ana@example.com", "admin", tokens.workspace.id)
    assert "messages.*" in me.permissions
    assert list(auth.tenants.created.values()) == ["Blue Shop"]


async def test_gaps_in_names_are_one_space(auth) -> None:
    tokens = await auth.call("Register", request(name="  Ana \t Souza\n", workspace_name="Blue\u00a0 Shop"))
    assert (tokens.user.name, tokens.workspace.display_name) == ("Ana Souza", "Blue Shop")


async def test_a_taken_email_is_refused_in_any_case(auth) -> None:
    await auth.call("Register", request())
    with pytest.raises(RemoteError) as refused:
        await auth.call("Register", request("ANA@example.com"))
    assert refused.value.reason == "EMAIL_TAKEN"
    assert refused.value.violations[0].field == "email"
    assert len(auth.tenants.created) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "no email"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "ü" * 37}, "password"),
        ({"workspace_name": ""}, "workspaceName"),
        ({"workspace_name": "x" * 81}, "workspaceName"),
        ({"workspace_name": " \t "}, "workspaceName"),
        ({"name": "\u200b"}, "name"),
        ({"name": "Ana\u202eazuoS"}, "name"),
        ({"name": "Ana\x00"}, "name"),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(auth, changes, field) -> None:
    with pytest.raises(RemoteError) as refused:
        await auth.call("Register", request(**changes))
    assert [violation.field for violation in refused.value.violations] == [field]
    assert auth.tenants.created == {}


async def test_while_svc_tenants_is_away_nothing_half_exists_and_the_same_call_completes_it(auth) -> None:
    auth.tenants.is_away = True
    with pytest.raises(RemoteError) as refused:
        await auth.call("Register", request())
    assert refused.value.reason == "REGISTRATION_PENDING"
    assert refused.value.retry_after
    auth.tenants.is_away = False
    tokens = await auth.call("Register", request())
    assert list(auth.tenants.created) == [uuid.UUID(tokens.workspace.id)]


async def test_a_tenant_created_before_its_answer_was_lost_gets_its_admin_by_the_login(auth) -> None:
    auth.tenants.dies_after_creating = True
    with pytest.raises(RemoteError):
        await auth.call("Register", request())
    auth.tenants.dies_after_creating = False
    tokens = await auth.call("Login", pb.LoginRequest(email="ana@example.com", password=PASSWORD))
    assert [uuid.UUID(tokens.workspace.id)] == list(auth.tenants.created)
    assert tokens.role == "admin"


async def test_the_background_task_finishes_what_nobody_repeats(auth) -> None:
    auth.tenants.is_away = True
    with pytest.raises(RemoteError):
        await auth.call("Register", request())
    auth.tenants.is_away = False
    async with auth.parts.db.begin(SELF) as tx:
        [unfinished] = await registrations.unfinished(tx, older_than_seconds=-1)
    await signing_in.finish_registration(auth.parts, unfinished)
    await signing_in.finish_registration(auth.parts, unfinished)  # a second replica at the same work
    tokens = await auth.call("Login", pb.LoginRequest(email="ana@example.com", password=PASSWORD))
    assert tokens.workspace.id == str(unfinished["id"])
    async with auth.parts.db.begin(SELF) as tx:
        assert await registrations.unfinished(tx, older_than_seconds=-1) == []


@pytest.mark.parametrize("step", ["begin", "complete"])
async def test_death_at_any_step_is_healed_by_repeating_the_call(auth, monkeypatch, step) -> None:
    real = getattr(registrations, step)

    async def die(*args, **kwargs):
        await real(*args, **kwargs)
        raise asyncpg.exceptions.ConnectionDoesNotExistError("the server is gone")

    monkeypatch.setattr(registrations, step, die)
    with pytest.raises(RemoteError) as refused:
        await auth.call("Register", request())
    assert refused.value.is_outage
    monkeypatch.undo()
    tokens = await auth.call("Register", request())
    assert tokens.workspace.id in {str(tenant) for tenant in auth.tenants.created}
    users = await superuser(auth, "SELECT count(*) FROM users")
    assert users == 1


async def test_a_stranger_cannot_take_over_a_pending_registration(auth) -> None:
    auth.tenants.is_away = True
    with pytest.raises(RemoteError):
        await auth.call("Register", request())
    auth.tenants.is_away = False
    with pytest.raises(RemoteError) as refused:
        await auth.call("Register", request(password="another password"))
    assert refused.value.reason == "EMAIL_TAKEN"


async def test_the_same_person_registering_twice_at_once_gets_one_workspace(auth) -> None:
    answers = await asyncio.gather(*(auth.call("Register", request()) for _ in range(4)), return_exceptions=True)
    workspaces = {answer.workspace.id for answer in answers if isinstance(answer, pb.SessionTokens)}
    assert len(workspaces) == 1
    assert {a.reason for a in answers if isinstance(a, RemoteError)} <= {"EMAIL_TAKEN"}
    assert await superuser(auth, "SELECT count(*) FROM users") == 1


async def test_passwords_are_kept_as_bcrypt_only(auth) -> None:
    await auth.call("Register", request())
    assert (await superuser(auth, "SELECT password_hash FROM users")).startswith("$2b$")
    dumped = await superuser(auth, "SELECT string_agg(r::text, '') FROM registrations r")
    assert PASSWORD not in dumped


async def superuser(auth, query: str):
    connection = await asyncpg.connect(auth.database.superuser_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
