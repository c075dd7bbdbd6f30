"""Meta's Graph API, as far as connecting a number needs it: Meta's words, not what we make of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

import aiohttp

from kit import deadlines
from svc_tenants.facts import Facts

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
# What we keep of the caller's time, so that he learns from us that Meta was too slow.
_SPARE_SECONDS = 1.0
_ANSWER_BYTES_MAX = 1024 * 1024
_PAGES_MAX = 20

# Unknown or temporary failures: the same call may succeed later (Meta's error code reference).
_TRY_LATER = frozenset({1, 2, 130429, 131000, 131016})

# Limits of calls, which only time helps: for the whole app, and for one WABA.
_APP_LIMITS = frozenset({4, 17, 32, 341, 613})
_WABA_LIMITS = frozenset({80007, 80008})

_NUMBER_FIELDS = (
    "id,display_phone_number,verified_name,name_status,quality_rating,status,platform_type,is_on_biz_app,throughput"
)
# The messaging limit's names, newest first: since when a version of the Graph API knows the newer one is documented
# nowhere, and a field that it does not know is refused. Last: without it.
_LIMIT_FIELDS = ("whatsapp_business_manager_messaging_limit", "messaging_limit_tier", "")

Json = dict[str, Any]


class Refused(Exception):
    """Meta said no. Its words hold none of the secrets that we sent."""

    def __init__(self, code: int | None, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code
        """Meta's error code; None where Meta did not call it an error."""
        self.words = words


class Unreachable(Exception):
    """Meta did not answer, answered nonsense, or asks to come back later."""


class Limited(Unreachable):
    """Meta has had too many calls: of the "app", or of the "waba"."""

    def __init__(self, scope: str, detail: str) -> None:
        super().__init__(detail)
        self.scope = scope


class GraphClient:
    """One pool of connections to Meta for the whole process."""

    def __init__(
        self,
        base_url: str,
        version: str,
        *,
        app_id: str = "",
        app_secret: str = "",
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        """`app_id`: the app whose tokens are taken; any when empty. Without `app_secret` a token inspects itself, which
        Meta allows only to some.
        """
        self._base = f"{base_url.rstrip('/')}/{version}"
        self.app_id = app_id
        self._app_token = f"{app_id}|{app_secret}" if app_secret else ""
        self.inspects_as_app = bool(app_secret)
        self._answer_seconds = answer_seconds
        self._limit_field = _LIMIT_FIELDS[0]
        # Tokens of different tenants travel here: no cookies are kept from one to the next.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=15, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
        )

    async def inspect_token(self, token: str) -> Json:
        """What a token is: is_valid, app_id, scopes, granular_scopes, expires_at, or an error where it is invalid."""
        answer = await self._call(
            "GET", "debug_token", token=self._app_token or token, params={"input_token": token}, secret=token
        )
        data = answer.get("data")
        if not isinstance(data, dict):
            raise Unreachable("Meta's answer to debug_token has no data.")
        return data

    async def waba(self, waba_id: str, *, token: str) -> Json:
        """A WhatsApp Business Account. The fields are such as no other kind of object has."""
        return await self._call("GET", waba_id, token=token, params={"fields": "id,name,message_template_namespace"})

    async def numbers(self, waba_id: str, wanted: Collection[str], *, token: str) -> dict[str, Facts]:
        """Those of the wanted phone numbers, by their ids, that the WABA has."""
        while True:
            limit_field = self._limit_field
            try:
                return await self._find(waba_id, set(wanted), token, limit_field)
            except Refused as refused:
                if refused.code != 100 or not limit_field or limit_field not in refused.words:
                    raise
                self._limit_field = _LIMIT_FIELDS[_LIMIT_FIELDS.index(limit_field) + 1]

    async def _find(self, waba_id: str, wanted: set[str], token: str, limit_field: str) -> dict[str, Facts]:
        found: dict[str, Facts] = {}
        async for number in self._numbers(waba_id, token, limit_field):
            if number.get("id") in wanted:
                found[number["id"]] = Facts.of(number, limit_field=limit_field)
            if found.keys() == wanted:
                break
        return found

    async def _numbers(self, waba_id: str, token: str, limit_field: str) -> AsyncIterator[Json]:
        """The phone numbers of a WABA, page after page."""
        params = {"fields": ",".join(filter(None, (_NUMBER_FIELDS, limit_field))), "limit": "100"}
        for _ in range(_PAGES_MAX):
            answer = await self._call("GET", f"{waba_id}/phone_numbers", token=token, params=params)
            for number in _list(answer.get("data")):
                yield number
            paging = _object(answer.get("paging"))
            after = _object(paging.get("cursors")).get("after")
            # Only the cursor is followed: `next` is a whole URL, and our token goes nowhere else.
            if "next" not in paging or not isinstance(after, str):
                return
            params["after"] = after
        raise Unreachable(f"Meta lists phone numbers of {waba_id} without an end.")

    async def subscribed_apps(self, waba_id: str, *, token: str) -> set[str]:
        """Ids of the apps that get the WABA's webhooks."""
        answer = await self._call("GET", f"{waba_id}/subscribed_apps", token=token)
        return {str(_object(app.get("whatsapp_business_api_data")).get("id")) for app in _list(answer.get("data"))}

    async def subscribe(self, waba_id: str, *, token: str) -> None:
        """Have the WABA's webhooks sent to our app. Repeating it changes nothing."""
        await self._expect_success("POST", f"{waba_id}/subscribed_apps", token=token)

    async def unsubscribe(self, waba_id: str, *, token: str) -> None:
        """End what `subscribe` began."""
        await self._expect_success("DELETE", f"{waba_id}/subscribed_apps", token=token)

    async def close(self) -> None:
        await self._http.close()

    async def _expect_success(self, method: str, path: str, *, token: str) -> None:
        answer = await self._call(method, path, token=token)
        if answer.get("success") is not True:
            raise Refused(None, "Meta did not confirm it.")

    async def _call(
        self, method: str, path: str, *, token: str, params: dict[str, str] | None = None, secret: str = ""
    ) -> Json:
        """The JSON of a successful answer. `secret`: a token among the parameters."""
        status, raw = await self._exchange(method, path, token, params or {})
        # Meta quotes malformed tokens, and puts ours into links to further pages.
        answer = _object(_without(_parse(raw), [token, secret, *token.split("|")[1:]]))
        error = answer.get("error")
        if isinstance(error, dict):
            raise _failure(status, error)
        if status != 200 or not answer:
            raise Unreachable(f"Meta answered HTTP {status} without saying why.")
        return answer

    async def _exchange(self, method: str, path: str, token: str, params: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with self._http.request(
                method,
                f"{self._base}/{path}",
                params=params,
                headers={"Authorization": f"Bearer {token}", "User-Agent": "aerostic"},
                timeout=self._timeout(),
                allow_redirects=False,  # the token must not follow to another host
            ) as response:
                return response.status, await response.content.read(_ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            # `from None`: aiohttp's errors may quote the URL, and with it the token in its query.
            raise Unreachable(f"Meta did not answer ({type(error).__name__}).") from None

    def _timeout(self) -> aiohttp.ClientTimeout:
        left = deadlines.remaining_seconds()
        most = self._answer_seconds if left is None else min(self._answer_seconds, left - _SPARE_SECONDS)
        if most <= 0:
            raise Unreachable("Meta's answers took up all the time of this call.")
        return aiohttp.ClientTimeout(total=most, sock_connect=_CONNECT_SECONDS)


def _failure(status: int, error: Json) -> Refused | Unreachable:
    code = error.get("code") if isinstance(error.get("code"), int) else None
    words = _words(error)
    if code in _WABA_LIMITS or code in _APP_LIMITS or status == 429:
        return Limited("waba" if code in _WABA_LIMITS else "app", f"Meta asks to try again later: {words}")
    if error.get("is_transient") is True or code in _TRY_LATER or status >= 500:
        return Unreachable(f"Meta asks to try again later: {words}")
    return Refused(code, words)


def _words(error: Json) -> str:
    """Meta's message, with the details that say what the message leaves out."""
    details = _object(error.get("error_data")).get("details")
    said = [word for word in (error.get("message"), error.get("error_user_msg"), details) if isinstance(word, str)]
    return " ".join(dict.fromkeys(word.strip() for word in said if word.strip()))[:400] or "Meta gave no reason."


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _without(value: Any, secrets: list[str]) -> Any:
    """The same JSON with secrets blotted out, wherever they stand."""
    if isinstance(value, dict):
        return {key: _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in filter(None, secrets):
            value = value.replace(secret, "…")
    return value


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
