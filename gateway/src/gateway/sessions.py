"""Who a request is from, and browser sessions: tokens in cookies that scripts cannot read.

A browser asks for cookies by the header `X-Aerostic-Session: cookie` when it signs in. What a cookie signs in must then
prove that our own page sent it: unsafe calls repeat the cookie csrf_token in a header. That token is derived from the
access token, so one that another subdomain planted is worth nothing, and the gateway keeps no state.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Literal, cast
from urllib.parse import urlsplit

from aerostic.auth.v1.auth_service_pb2 import LogoutRequest, RefreshSessionRequest, SessionTokens
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from gateway.backends import Caller
from gateway.client_ips import ClientIps
from gateway.problems import CsrfTokenInvalid, OriginNotAllowed
from kit.access import PUBLIC, Method
from kit.errors import AppError, InvalidRequest, TokenInvalid, TokenMissing, Violation
from kit.tokens import TOKEN_CHARACTERS_MAX

ACCESS_COOKIE = "auth_token"
REFRESH_COOKIE = "refresh_token"
CSRF_COOKIE = "csrf_token"
MODE_HEADER = "X-Aerostic-Session"
CSRF_HEADER = "X-CSRF-Token"
REFRESH_PATH = "/v1/auth"

_SERVICE = "aerostic.auth.v1.AuthService"
SIGN_INS = frozenset({f"{_SERVICE}.Register", f"{_SERVICE}.Login", f"{_SERVICE}.RefreshSession"})
"""Methods that answer tokens."""
_LOGOUT = f"{_SERVICE}.Logout"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_DAY_SECONDS = 24 * 3600


class Sessions:
    """The rules of cookies and credentials, as settings want them."""

    def __init__(
        self, *, client_ips: ClientIps, is_production: bool, cookie_days: float, allowed_origins: Iterable[str]
    ) -> None:
        self._client_ips = client_ips
        self._is_secure = is_production
        self._max_age = int(cookie_days * _DAY_SECONDS)
        self._allowed_origins = frozenset(origin.rstrip("/") for origin in allowed_origins)

    def caller(self, request: Request, method: Method) -> Caller:
        """On whose behalf to call. Raises TokenMissing, TokenInvalid, CsrfTokenInvalid or OriginNotAllowed."""
        is_public = method.permission == PUBLIC
        token = None if is_public and method.full_name != _LOGOUT else self.token(request)
        if token == "" and not is_public:
            raise TokenMissing
        return Caller(token, self._client_ips.of(request))

    def token(self, request: Request) -> str:
        """The access token of a request, empty where it has none; a bearer token wins over the cookie."""
        if authorization := request.headers.get("authorization"):
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token or not _is_sendable(token):
                raise TokenInvalid
            return token
        token = request.cookies.get(ACCESS_COOKIE, "")
        if token and request.method not in _SAFE:
            self._require_own_page(request)
        return token if _is_sendable(token) else ""

    def fill(self, request: Request, method: Method, message: Message) -> None:
        """Put the cookie's refresh token into a request that wants one and has none."""
        takes_one = isinstance(message, RefreshSessionRequest | LogoutRequest)
        if takes_one and (token := self._refresh_cookie(request)) and not _refresh_token(message):
            self._require_own_page(request)
            cast("RefreshSessionRequest", message).refresh_token = token
        if method.full_name in SIGN_INS and _wants_cookies(request):
            self._require_own_origin(request)

    def keep(self, request: Request, method: Method, message: Message, answer: Message) -> list[str]:
        """Move the tokens of a sign-in into cookies where the browser wants that; forget them after a log-out. Gives
        the values of Set-Cookie.
        """
        if method.full_name == _LOGOUT:
            return self.forget() if request.cookies.keys() & {ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE} else []
        if not isinstance(answer, SessionTokens):
            return []
        cookie = self._refresh_cookie(request)
        came_by_cookie = bool(cookie) and _refresh_token(message) == cookie
        if not came_by_cookie and not _wants_cookies(request):
            return []
        access, refresh = answer.access_token, answer.refresh_token
        answer.ClearField("access_token")
        answer.ClearField("refresh_token")
        return [
            self._cookie(ACCESS_COOKIE, access),
            self._cookie(REFRESH_COOKIE, refresh),
            self._cookie(CSRF_COOKIE, csrf_token(access)),
        ]

    def keep_after_failure(self, request: Request, method: Method, error: AppError) -> list[str]:
        """A refresh cookie that is no longer good is removed, so that the browser stops trying."""
        is_over = method.full_name in SIGN_INS and error.reason == "REFRESH_TOKEN_INVALID"
        return self.forget() if is_over and self._refresh_cookie(request) else []

    def forget(self) -> list[str]:
        return [self._cookie(name, "") for name in (ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE)]

    def _refresh_cookie(self, request: Request) -> str:
        return "" if "authorization" in request.headers else request.cookies.get(REFRESH_COOKIE, "")

    def _cookie(self, name: str, value: str) -> str:
        is_refresh = name == REFRESH_COOKIE
        same_site: Literal["strict", "lax"] = "strict" if is_refresh else "lax"
        response = Response()
        response.set_cookie(
            name,
            value,
            max_age=self._max_age if value else 0,
            path=REFRESH_PATH if is_refresh else "/",
            secure=self._is_secure,
            httponly=name != CSRF_COOKIE,
            samesite=same_site,
        )
        return response.headers["set-cookie"]

    def _require_own_page(self, request: Request) -> None:
        self._require_own_origin(request)
        expected = csrf_token(request.cookies.get(ACCESS_COOKIE, ""))
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise CsrfTokenInvalid

    def _require_own_origin(self, request: Request) -> None:
        """Browsers name the page that calls; other programs do not, and need no protection from pages."""
        origin = request.headers.get("origin")
        if origin is None:
            if request.headers.get("sec-fetch-site") == "cross-site":
                raise OriginNotAllowed
        elif origin not in self._allowed_origins and urlsplit(origin).netloc != self._host(request):
            raise OriginNotAllowed

    def _host(self, request: Request) -> str:
        host = request.headers.get("host", "")
        return request.headers.get("x-forwarded-host", host) if self._client_ips.is_proxied(request) else host


def csrf_token(access_token: str) -> str:
    """What a page must know to act for the session; nobody can make it up without the access token."""
    mac = hmac.digest(access_token.encode(), b"aerostic csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _is_sendable(token: str) -> bool:
    """What gRPC metadata can hold: printable ASCII, and not too much of it. No token of ours is anything else."""
    return len(token) <= TOKEN_CHARACTERS_MAX and token.isascii() and token.isprintable()


def _refresh_token(message: Message) -> str | None:
    is_one = isinstance(message, RefreshSessionRequest | LogoutRequest)
    return cast("RefreshSessionRequest", message).refresh_token if is_one else None


def _wants_cookies(request: Request) -> bool:
    mode = request.headers.get(MODE_HEADER)
    if mode not in {None, "cookie"}:
        raise InvalidRequest.of(Violation(MODE_HEADER, "header.in", "must be cookie, or absent"))
    return mode == "cookie"
