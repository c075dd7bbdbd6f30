"""Who a request is from: bearer tokens, and cookies that only our own page can use."""

import http.cookies

import pytest
from aerostic.auth.v1.auth_service_pb2 import Me, SessionTokens
from gateway_rig import Rig

from gateway.sessions import csrf_token
from kit.errors import AppError, InvalidRequest
from kit.testing.rpc import make_user

LOGIN = {"email": "ada@example.com", "password": "correct horse"}
BROWSER = {"X-Aerostic-Session": "cookie"}
COOKIES = {"auth_token", "refresh_token", "csrf_token"}


def tokens(api: Rig, name: str = "Login") -> None:
    api.recorder.answers[name] = SessionTokens(access_token="access-1", refresh_token="refresh-1", role="admin")


def set_cookies(answer) -> dict[str, http.cookies.Morsel]:
    found: dict[str, http.cookies.Morsel] = {}
    for header in answer.headers.getall("Set-Cookie", []):
        found |= http.cookies.SimpleCookie(header)
    return found


def cookies(api: Rig, *, csrf: bool = True, **more: str) -> dict[str, str]:
    headers = {"Cookie": f"auth_token={api.token}; refresh_token=refresh-0"}
    return headers | ({"X-CSRF-Token": csrf_token(api.token)} if csrf else {}) | more


class RefreshTokenInvalid(AppError):
    code, reason = InvalidRequest.code.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"


async def test_a_bearer_token_is_passed_on(api):
    api.recorder.answers["GetMe"] = Me(role="admin")
    answer = await api.get("/v1/me")
    assert (answer.status, answer.json["role"]) == (200, "admin")
    assert api.recorder.call.principal.tenant_id == api.tenant_id


@pytest.mark.parametrize(
    ("authorization", "code", "challenge"),
    [
        (None, "TOKEN_MISSING", 'Bearer realm="aerostic"'),
        ("Basic YTpi", "TOKEN_INVALID", 'Bearer realm="aerostic", error="invalid_token"'),
        ("Bearer", "TOKEN_INVALID", 'Bearer realm="aerostic", error="invalid_token"'),
        ("Bearer rubbish", "TOKEN_INVALID", 'Bearer realm="aerostic", error="invalid_token"'),
        # More than the metadata of a call to a service can hold.
        (f"Bearer {'x.' * 10_000}", "TOKEN_INVALID", 'Bearer realm="aerostic", error="invalid_token"'),
    ],
)
async def test_requests_without_a_good_token_are_challenged(api, authorization, code, challenge):
    headers = {"Authorization": authorization} if authorization else {}
    answer = await api.get("/v1/me", token="", headers=headers)
    assert (answer.status, answer.code) == (401, code)
    assert answer.headers["WWW-Authenticate"] == challenge
    assert not api.recorder.calls


async def test_an_expired_token_says_so(api):
    token = api.authority.user_token(make_user(tenant_id=api.tenant_id), lifetime_seconds=-60)
    answer = await api.get("/v1/me", token=token)
    assert (answer.status, answer.code) == (401, "TOKEN_EXPIRED")


async def test_programs_get_their_tokens_in_the_answer(api):
    tokens(api)
    answer = await api.post("/v1/auth/login", LOGIN, token="")
    assert (answer.json["accessToken"], answer.json["refreshToken"]) == ("access-1", "refresh-1")
    assert not set_cookies(answer)


@pytest.mark.parametrize("path", ["/v1/auth/login", "/auth/login"])
async def test_browsers_get_their_tokens_in_cookies_that_scripts_cannot_read(api, path):
    tokens(api)
    answer = await api.post(path, LOGIN, token="", headers=BROWSER)
    assert "accessToken" not in answer.json
    assert "refreshToken" not in answer.json
    kept = set_cookies(answer)
    assert {name: cookie.value for name, cookie in kept.items()} == {
        "auth_token": "access-1",
        "refresh_token": "refresh-1",
        "csrf_token": csrf_token("access-1"),
    }
    assert {name: bool(cookie["httponly"]) for name, cookie in kept.items()} == {
        "auth_token": True,
        "refresh_token": True,
        "csrf_token": False,
    }
    assert {name: (cookie["path"], cookie["samesite"]) for name, cookie in kept.items()} == {
        "auth_token": ("/", "lax"),
        "refresh_token": ("/v1/auth", "strict"),
        "csrf_token": ("/", "lax"),
    }
    assert not any(cookie["secure"] for cookie in kept.values())


async def test_in_production_cookies_travel_encrypted_only(start):
    async with start(AEROSTIC_ENVIRONMENT="production") as api:
        tokens(api)
        answer = await api.post("/v1/auth/login", LOGIN, token="", headers=BROWSER)
        assert all(cookie["secure"] for cookie in set_cookies(answer).values())


async def test_an_unknown_session_mode_is_refused(api):
    answer = await api.post("/v1/auth/login", LOGIN, token="", headers={"X-Aerostic-Session": "cookies"})
    assert (answer.status, answer.wrong) == (400, [("X-Aerostic-Session", "header.in")])
    assert not api.recorder.calls


async def test_a_page_of_another_site_cannot_sign_its_visitor_in(api):
    tokens(api)
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await api.post("/v1/auth/login", LOGIN, token="", headers=BROWSER | foreign)
        assert (answer.status, answer.code) == (403, "ORIGIN_NOT_ALLOWED")
    assert not api.recorder.calls


async def test_a_cookie_signs_reads_in(api):
    assert (await api.get("/v1/me", token="", headers=cookies(api, csrf=False))).status == 200
    assert api.recorder.call.principal.tenant_id == api.tenant_id


async def test_a_cookie_signs_writes_in_with_the_csrf_token_only(api):
    path = "/v1/conversations/9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01:close"
    refused = [{}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "rubbish"}, {"X-CSRF-Token": csrf_token("another")}]
    for headers in refused:
        answer = await api.post(path, {}, token="", headers=cookies(api, csrf=False) | headers)
        assert (answer.status, answer.code) == (403, "CSRF_TOKEN_INVALID")
        assert answer.wrong == [("X-CSRF-Token", "header.csrf_token")]
    assert not api.recorder.calls
    assert (await api.post(path, {}, token="", headers=cookies(api))).status == 200


async def test_a_planted_csrf_cookie_is_worth_nothing(api):
    headers = {"Cookie": f"auth_token={api.token}; csrf_token=planted", "X-CSRF-Token": "planted"}
    answer = await api.post(
        "/v1/conversations/9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01:close", {}, token="", headers=headers
    )
    assert answer.code == "CSRF_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("https://app.example.com", 200),
        ("https://app.example.com.evil.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_writes_by_cookie_come_from_our_own_pages(start, origin, status):
    async with start(allowed_origins=["https://app.example.com/"]) as api:
        headers = cookies(api, Origin=origin.format(port=api.port))
        path = "/v1/conversations/9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01:close"
        assert (await api.post(path, {}, token="", headers=headers)).status == status


async def test_pages_of_allowed_origins_may_ask_and_read_and_others_may_not(start):
    ours, foreign = "https://app.example.com", "https://evil.example"
    question = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-csrf-token"}
    async with start(allowed_origins=[f"{ours}/"]) as api:
        answer = await api.call("OPTIONS", "/v1/messages", token="", headers=question | {"Origin": ours})
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ours
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "X-CSRF-Token" in answer.headers["Access-Control-Allow-Headers"]
        read = await api.get("/v1/me", headers={"Origin": ours})
        assert read.headers["Access-Control-Allow-Origin"] == ours
        refused = await api.get("/nothing", headers={"Origin": ours})
        assert (refused.code, refused.headers["Access-Control-Allow-Origin"]) == ("ROUTE_NOT_FOUND", ours)
        answer = await api.call("OPTIONS", "/v1/messages", token="", headers=question | {"Origin": foreign})
        assert answer.status == 400
        read = await api.get("/v1/me", headers={"Origin": foreign})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Origin" not in read.headers


async def test_without_allowed_origins_no_other_page_reads_anything(api):
    answer = await api.get("/v1/me", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_behind_our_proxy_the_outer_host_is_our_own(start):
    path = "/v1/conversations/9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01:close"
    outer = {"Origin": "https://aerostic.example", "X-Forwarded-Host": "aerostic.example"}
    async with start(trusted_proxies=["127.0.0.0/8"]) as api:
        assert (await api.post(path, {}, token="", headers=cookies(api) | outer)).status == 200
    async with start() as api:
        assert (await api.post(path, {}, token="", headers=cookies(api) | outer)).code == "ORIGIN_NOT_ALLOWED"


async def test_a_bearer_token_needs_no_csrf_token_and_wins_over_cookies(api):
    path = "/v1/conversations/9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01:close"
    other = {"Cookie": "auth_token=rubbish", "Origin": "https://evil.example"}
    assert (await api.post(path, {}, headers=other)).status == 200


async def test_a_refresh_uses_the_cookie_and_renews_all(api):
    tokens(api, "RefreshSession")
    answer = await api.post("/v1/auth/refresh", {}, token="", headers=cookies(api))
    assert answer.status == 200, answer.body
    assert api.recorder.call.request.refresh_token == "refresh-0"
    assert "refreshToken" not in answer.json
    assert set(set_cookies(answer)) == COOKIES
    assert set_cookies(answer)["refresh_token"].value == "refresh-1"


async def test_a_refresh_by_cookie_needs_the_csrf_token(api):
    answer = await api.post("/v1/auth/refresh", {}, token="", headers=cookies(api, csrf=False))
    assert (answer.status, answer.code) == (403, "CSRF_TOKEN_INVALID")
    assert not api.recorder.calls


async def test_a_refresh_by_body_answers_in_the_body(api):
    tokens(api, "RefreshSession")
    answer = await api.post("/v1/auth/refresh", {"refreshToken": "refresh-9"}, token="")
    assert api.recorder.call.request.refresh_token == "refresh-9"
    assert answer.json["refreshToken"] == "refresh-1"
    assert not set_cookies(answer)


async def test_a_refresh_token_that_is_over_leaves_no_cookies_behind(api):
    api.recorder.answers["RefreshSession"] = RefreshTokenInvalid("Sign in again.")
    answer = await api.post("/v1/auth/refresh", {}, token="", headers=cookies(api))
    assert (answer.status, answer.code) == (401, "REFRESH_TOKEN_INVALID")
    assert {name: (cookie.value, cookie["max-age"]) for name, cookie in set_cookies(answer).items()} == dict.fromkeys(
        COOKIES, ("", "0")
    )


async def test_logging_out_ends_the_session_and_clears_the_cookies(api):
    answer = await api.post("/v1/auth/logout", {}, token="", headers=cookies(api))
    assert answer.status == 200, answer.body
    assert api.recorder.call.request.refresh_token == "refresh-0"
    assert {name: cookie["max-age"] for name, cookie in set_cookies(answer).items()} == dict.fromkeys(COOKIES, "0")
    assert set_cookies(answer)["refresh_token"]["path"] == "/v1/auth"


async def test_another_site_cannot_log_a_user_out(api):
    answer = await api.post("/v1/auth/logout", {}, token="", headers=cookies(api, csrf=False))
    assert answer.code == "CSRF_TOKEN_INVALID"
    assert not api.recorder.calls


@pytest.mark.parametrize(
    ("forwarded", "proxies", "seen"),
    [
        (None, [], "127.0.0.1"),
        ("203.0.113.9", [], "127.0.0.1"),
        ("203.0.113.9", ["127.0.0.1"], "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", ["127.0.0.1"], "203.0.113.9"),
        ("198.51.100.1, 10.1.2.3", ["127.0.0.1", "10.0.0.0/8"], "198.51.100.1"),
        ("rubbish", ["127.0.0.1"], "127.0.0.1"),
        ("::ffff:203.0.113.9", ["127.0.0.1"], "203.0.113.9"),
    ],
)
async def test_services_learn_the_clients_address_as_far_as_our_proxies_vouch_for_it(start, forwarded, proxies, seen):
    async with start(trusted_proxies=proxies) as api:
        tokens(api)
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        await api.post("/v1/auth/login", LOGIN, token="", headers=headers)
        assert api.recorder.call.metadata["aerostic-client-ip"] == seen
        assert api.recorder.call.principal.name == "gateway"


async def test_public_calls_are_made_in_the_gateways_own_name_whatever_the_caller_sends(api):
    tokens(api)
    await api.post("/v1/auth/login", LOGIN, headers={"Aerostic-Client-Ip": "1.2.3.4"})
    call = api.recorder.call
    assert (call.principal.kind, call.principal.name) == ("service", "gateway")
    assert call.metadata["aerostic-client-ip"] == "127.0.0.1"
