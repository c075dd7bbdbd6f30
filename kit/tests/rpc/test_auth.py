"""Who is let in: through a real server, as callers see it."""

import uuid

import echo_pb2 as pb
import grpc
import pytest

from kit.errors import RemoteError
from kit.testing.rpc import Authority, make_user

TENANT = uuid.UUID("0190a000-0000-7000-8000-000000000001")
ASK = pb.EchoRequest(short_text="hello")


async def refusal(caller, method, request=ASK):
    with pytest.raises(RemoteError) as refused:
        await caller.call(method, request)
    return refused.value


async def test_user_reaches_the_servicer_as_the_token_says(rpc, stub):
    user = make_user(tenant_id=TENANT, role="agent")
    answer = await rpc.as_user(user).call(stub.Send, ASK)
    assert answer.facts["kind"] == "user"
    assert answer.facts["tenant"] == str(TENANT)
    assert answer.facts["user"] == str(user.user_id)
    assert answer.facts["role"] == "agent"


async def test_public_method_needs_no_credentials(rpc, stub):
    answer = await rpc.anonymous().call(stub.Greet, ASK)
    assert answer.facts["kind"] == "anonymous"


@pytest.mark.parametrize("token", ["rubbish", "expired"])
async def test_public_method_ignores_a_stale_token(rpc, stub, token):
    if token == "expired":
        token = rpc.authority.user_token(make_user(), lifetime_seconds=-60)
    answer = await rpc.bearer(token).call(stub.Greet, ASK)
    assert answer.facts["kind"] == "anonymous"


@pytest.mark.parametrize("name", ["WhoAmI", "Send", "Manage", "Inside", "InsideAny"])
async def test_closed_method_asks_nobody_to_sign_in(rpc, stub, echo, name):
    refused = await refusal(rpc.anonymous(), getattr(stub, name))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert not echo.calls


@pytest.mark.parametrize(
    ("role", "name", "allowed"),
    [
        ("agent", "Send", True),
        ("agent", "Manage", False),
        ("admin", "Manage", True),
        ("super_admin", "Send", False),
        ("super_admin", "WhoAmI", True),
        ("unheard_of", "Send", False),
        ("unheard_of", "WhoAmI", True),
        ("", "Send", False),
    ],
)
async def test_role_decides(rpc, stub, echo, role, name, allowed):
    caller = rpc.user(tenant_id=TENANT, role=role)
    if allowed:
        assert (await caller.call(getattr(stub, name), ASK)).text == "hello"
        return
    refused = await refusal(caller, getattr(stub, name))
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert refused.metadata["permission"] in refused.message
    assert not echo.calls


@pytest.mark.parametrize("name", ["Unsaid", "Contradictory"])
async def test_method_without_one_clear_rule_is_closed_to_everybody(rpc, stub, echo, name):
    callers = [rpc.anonymous(), rpc.user(role="admin", tenant_id=TENANT), rpc.service("messaging-sender")]
    for caller in callers:
        refused = await refusal(caller, getattr(stub, name))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert not echo.calls


async def test_internal_method_admits_the_processes_it_names(rpc, stub):
    answer = await rpc.service("messaging-sender").call(stub.Inside, ASK)
    assert (answer.facts["kind"], answer.facts["name"]) == ("service", "messaging-sender")


async def test_internal_method_refuses_other_processes_and_users(rpc, stub, echo):
    for caller in (rpc.service("messaging-inbox"), rpc.user(tenant_id=TENANT, role="admin")):
        refused = await refusal(caller, stub.Inside)
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert not echo.calls


async def test_internal_method_without_names_admits_every_trusted_process_only(rpc, stub):
    assert (await rpc.service("messaging-inbox").call(stub.InsideAny, ASK)).text == "hello"
    assert (await refusal(rpc.user(tenant_id=TENANT), stub.InsideAny)).code is grpc.StatusCode.PERMISSION_DENIED
    stranger = Authority(names=["stranger"]).identities["stranger"].token()
    assert (await refusal(rpc.bearer(stranger), stub.InsideAny)).reason == "TOKEN_INVALID"


async def test_process_cannot_do_what_users_do(rpc, stub, echo):
    for name in ("WhoAmI", "Send"):
        refused = await refusal(rpc.service("messaging-sender"), getattr(stub, name))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert not echo.calls


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Basic dXNlcjpwYXNz")],
        [("authorization", "Bearer")],
        [("authorization", "")],
        [("authorization", "Bearer a.b.c")],
        [("authorization", "Bearer " + "x" * 5000)],
    ],
)
async def test_malformed_credentials_are_refused(rpc, stub, headers):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WhoAmI(ASK, metadata=headers, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_two_credentials_are_refused(rpc, stub):
    caller = rpc.user(tenant_id=TENANT)
    headers = [("authorization", f"Bearer {caller.token}"), ("authorization", f"Bearer {caller.token}")]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WhoAmI(ASK, metadata=headers, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_user_is_admitted_before_the_request_is_read(rpc, stub):
    invalid = pb.EchoRequest(short_text="far too long a text")
    assert (await refusal(rpc.anonymous(), stub.Send, invalid)).reason == "TOKEN_MISSING"


async def test_callers_do_not_mix_when_they_call_at_once(rpc, stub):
    import asyncio

    users = [make_user(tenant_id=uuid.uuid4(), role="agent") for _ in range(20)]
    answers = await asyncio.gather(*(rpc.as_user(user).call(stub.Send, ASK) for user in users))
    assert [answer.facts["user"] for answer in answers] == [str(user.user_id) for user in users]
    assert [answer.facts["tenant"] for answer in answers] == [str(user.tenant_id) for user in users]
