"""A browser's session through the real gateway: tokens in cookies that no script reads, and proof of who sends."""

import asyncio
import base64
import hashlib
import hmac
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie

import aiohttp
import asyncpg
import pytest
from yarl import URL

from devstack.workspace import LiveStream

ACCESS, REFRESH, CSRF = "auth_token", "refresh_token", "csrf_token"


class Browser:
    """Keeps cookies as a browser does, by path, and shows scripts only those that are not HttpOnly."""

    def __init__(self, http: aiohttp.ClientSession, api: str) -> None:
        self.http, self.api = http, api
        self.set: SimpleCookie = SimpleCookie()

    async def call(self, method: str, path: str, body: dict | None = None, **headers: str):
        """Status, body and the cookies that were set."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, f"{self.api}{path}", json=body, headers=named) as response:
            self.set = SimpleCookie()
            for header in response.headers.getall("Set-Cookie", []):
                self.set.load(header)
            return response.status, await response.json(content_type=None)

    async def changing(self, method: str, path: str, body: dict | None = None, **headers: str):
        """A call as the dashboard's scripts make it: with the token that they read from the cookie."""
        return await self.call(method, path, body, **{"X_CSRF_Token": self.cookie(CSRF), **headers})

    def cookie(self, name: str, path: str = "/v1/auth/refresh") -> str:
        found = self.http.cookie_jar.filter_cookies(URL(f"{self.api}{path}"))
        return found[name].value if name in found else ""

    def put(self, name: str, value: str, path: str = "/") -> None:
        """Plant a cookie, as somebody who once copied it would."""
        self.http.cookie_jar.update_cookies({name: value}, URL(f"{self.api}{path}"))


@asynccontextmanager
async def visitor(api: str):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Browser(http, api)


@pytest.fixture
async def browser(shop):
    """Signed in as the shop's admin."""
    async with visitor(shop.api) as signed_in:
        credentials = {"email": shop.email, "password": shop.password}
        status, session = await signed_in.call("POST", "/v1/auth/login", credentials, X_Aerostic_Session="cookie")
        assert (status, session["role"]) == (200, "admin")
        assert not {"accessToken", "refreshToken"} & session.keys(), "scripts shall not see them"
        yield signed_in


async def test_the_cookies_are_closed_to_scripts_and_other_sites(browser) -> None:
    assert set(browser.set) == {ACCESS, REFRESH, CSRF}
    for name, morsel in browser.set.items():
        assert bool(morsel["httponly"]) == (name != CSRF)
        assert morsel["samesite"] == ("strict" if name == REFRESH else "lax")
        assert morsel["path"] == ("/v1/auth" if name == REFRESH else "/")
        assert int(morsel["max-age"]) > 0
    assert browser.cookie(REFRESH, "/v1/conversations") == "", "the refresh token travels to the sign-in alone"
    mac = hmac.digest(browser.cookie(ACCESS).encode(), b"aerostic csrf", hashlib.sha256)
    assert browser.cookie(CSRF) == base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


async def test_reading_and_the_live_stream_need_the_cookie_alone(shop, browser) -> None:
    status, me = await browser.call("GET", "/v1/me")
    assert (status, me["user"]["email"]) == (200, shop.email)
    async with browser.http.get(f"{shop.api}/v1/stream") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        live = LiveStream(response)
        reading = asyncio.create_task(live.read())
        await shop.customer_writes("16505550600", "Hello, browser")
        await live.until(lambda s: s.of_kind("messaging.message.received"), "the message on the browser's stream")
        reading.cancel()
    [event] = live.of_kind("messaging.message.received")
    assert event["message"]["text"]["body"] == "Hello, browser"


async def test_a_call_that_changes_something_proves_which_page_sent_it(shop, browser) -> None:
    await shop.customer_writes("16505550601", "Hello")
    conversation = await shop.conversation_with("16505550601")
    path, answer = f"/v1/conversations/{conversation['id']}/messages", {"text": {"body": "From the dashboard"}}
    own = shop.api
    for headers, code in (
        ({}, "CSRF_TOKEN_INVALID"),
        ({"X_CSRF_Token": ""}, "CSRF_TOKEN_INVALID"),
        ({"X_CSRF_Token": "x" * 43}, "CSRF_TOKEN_INVALID"),
        ({"X_CSRF_Token": browser.cookie(CSRF), "Origin": "https://evil.example"}, "ORIGIN_NOT_ALLOWED"),
        ({"X_CSRF_Token": browser.cookie(CSRF), "Origin": "null"}, "ORIGIN_NOT_ALLOWED"),
        ({"X_CSRF_Token": browser.cookie(CSRF), "Sec_Fetch_Site": "cross-site"}, "ORIGIN_NOT_ALLOWED"),
    ):
        status, problem = await browser.call("POST", path, answer, **headers)
        assert (status, problem["code"]) == (403, code)
        assert problem["errors"][0]["field"] in {"X-CSRF-Token", "Origin"}
    assert len(await shop.messages(conversation["id"])) == 1
    status, sent = await browser.changing("POST", path, answer, Origin=own)
    assert (status, sent["status"]) == (200, "queued")
    await shop.message_reaches(sent["id"], "read")


async def test_a_csrf_token_that_somebody_planted_is_worth_nothing(shop, browser) -> None:
    browser.put(CSRF, "planted")
    status, problem = await browser.call("POST", "/v1/members", {"email": "x@example.com"}, X_CSRF_Token="planted")
    assert (status, problem["code"]) == (403, "CSRF_TOKEN_INVALID")


async def test_refreshing_turns_the_cookies_over(shop, browser) -> None:
    before = {name: browser.cookie(name) for name in (ACCESS, REFRESH, CSRF)}
    status, problem = await browser.call("POST", "/v1/auth/refresh", {})
    assert (status, problem["code"]) == (403, "CSRF_TOKEN_INVALID")
    status, session = await browser.changing("POST", "/v1/auth/refresh", {})
    assert (status, session["workspace"]["id"]) == (200, shop.tenant_id)
    assert not {"accessToken", "refreshToken"} & session.keys()
    after = {name: browser.cookie(name) for name in before}
    assert all(after.values())
    assert after[REFRESH] != before[REFRESH]
    assert (await browser.call("GET", "/v1/me"))[0] == 200
    status, _ = await browser.changing("POST", "/v1/auth/refresh", {})
    assert status == 200, "the new one works once more"


async def test_a_refresh_token_used_twice_ends_the_session(shop, browser, product) -> None:
    stolen = browser.cookie(REFRESH)
    for _ in range(2):
        assert (await browser.changing("POST", "/v1/auth/refresh", {}))[0] == 200
    # Within seconds it would be taken for a race between two tabs.
    database = await asyncpg.connect(product.database("auth").superuser_url)
    await database.execute("UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'")
    await database.close()
    async with visitor(shop.api) as thief:
        status, problem = await thief.call("POST", "/v1/auth/refresh", {"refreshToken": stolen})
        assert (status, problem["code"]) == (401, "REFRESH_TOKEN_INVALID")
    status, problem = await browser.changing("POST", "/v1/auth/refresh", {})
    assert (status, problem["code"]) == (401, "REFRESH_TOKEN_INVALID")
    assert all(browser.cookie(name) == "" for name in (ACCESS, REFRESH, CSRF)), "the browser stops trying"


async def test_logging_out_forgets_everything(shop, browser) -> None:
    refresh = browser.cookie(REFRESH)
    status, problem = await browser.call("POST", "/v1/auth/logout", {})
    assert (status, problem["code"]) == (403, "CSRF_TOKEN_INVALID")
    status, _ = await browser.changing("POST", "/v1/auth/logout", {})
    assert status == 200
    assert all(int(morsel["max-age"]) == 0 for morsel in browser.set.values())
    assert all(browser.cookie(name) == "" for name in (ACCESS, REFRESH, CSRF))
    status, problem = await browser.call("GET", "/v1/me")
    assert (status, problem["code"]) == (401, "TOKEN_MISSING")
    status, problem = await browser.call("POST", "/v1/auth/refresh", {"refreshToken": refresh})
    assert (status, problem["code"]) == (401, "REFRESH_TOKEN_INVALID")


async def test_logging_out_ends_the_streams_of_the_session_and_no_others(shop, browser) -> None:
    async with shop.stream() as other, browser.http.get(f"{shop.api}/v1/stream") as response:
        live = LiveStream(response)
        reading = asyncio.create_task(live.read())
        await browser.changing("POST", "/v1/auth/logout", {})
        await asyncio.wait_for(reading, 60)
        assert live.events[-1][2]["code"] == "SESSION_REVOKED"
        await shop.customer_writes("16505550602", "Anybody there?")
        await other.until(lambda s: s.of_kind("messaging.message.received"), "the message on another stream")


async def test_a_bearer_token_needs_no_csrf_token_and_wins_over_the_cookie(shop, other_shop, browser) -> None:
    status, me = await browser.call("GET", "/v1/me", Authorization=f"Bearer {other_shop.token}")
    assert (status, me["workspace"]["id"]) == (200, other_shop.tenant_id)
    person = {"email": f"b-{shop.email}", "name": "B", "password": shop.password, "role": "agent"}
    status, _ = await browser.call("POST", "/v1/members", person, Authorization=f"Bearer {shop.token}")
    assert status == 200


async def test_registering_by_browser_sets_the_same_cookies(shop) -> None:
    body = {"workspaceName": "New", "name": "New", "email": f"new-{shop.email}", "password": shop.password}
    async with visitor(shop.api) as newcomer:
        status, problem = await newcomer.call("POST", "/v1/auth/register", body, X_Aerostic_Session="token")
        assert (status, problem["errors"][0]["field"]) == (400, "X-Aerostic-Session")
        status, session = await newcomer.call("POST", "/v1/auth/register", body, X_Aerostic_Session="cookie")
        assert (status, session["role"]) == (200, "admin")
        assert set(newcomer.set) == {ACCESS, REFRESH, CSRF}
        assert (await newcomer.call("GET", "/v1/me"))[0] == 200


@pytest.mark.parametrize("prefix", ["/v1/auth", "/auth"])
async def test_both_paths_of_signing_in_answer_an_access_token(shop, prefix: str) -> None:
    person = {"email": f"{len(prefix)}-{shop.email}", "password": shop.password}
    async with visitor(shop.api) as program:
        body = {"workspaceName": "New", "name": "New", **person}
        status, session = await program.call("POST", f"{prefix}/register", body)
        assert (status, session["role"]) == (200, "admin")
        status, again = await program.call("POST", f"{prefix}/login", person)
        assert (status, again["workspace"]) == (200, session["workspace"])
        assert program.set == {}, "programs get no cookies"
        for tokens in (session, again):
            status, me = await program.call("GET", "/v1/me", Authorization=f"Bearer {tokens['accessToken']}")
            assert (status, me["user"]["email"]) == (200, person["email"])
        status, problem = await program.call("POST", f"{prefix}/login", {**person, "password": "wrong password"})
        assert (status, problem["code"]) == (401, "CREDENTIALS_WRONG")
        status, problem = await program.call("POST", f"{prefix}/register", {**body, "unknown": 1})
        assert (status, problem["errors"][0]["field"]) == (400, "unknown")
