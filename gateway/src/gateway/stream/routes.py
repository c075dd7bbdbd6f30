"""GET /v1/stream: the events of the caller's workspace as they happen, as Server-Sent Events."""

from aerostic.auth.v1.auth_service_pb2 import GetJwksRequest, Jwks
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway import edge
from gateway.backends import Backends, Caller, find_method
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.stream import positions
from gateway.stream.connections import Connection
from gateway.stream.hub import Hub
from gateway.stream.positions import Position
from gateway.stream.serving import HEADERS, Serving
from kit import tokens
from kit.errors import TokenMissing
from kit.keys import JwkSet, KeySource
from kit.tokens import AccessTokenVerifier

PATH = "/v1/stream"

_KEYS_SECONDS = 5.0


def make_verifier(backends: Backends) -> AccessTokenVerifier:
    """Verifies users' tokens with the keys that svc-auth publishes."""
    get_jwks = backends.unary(find_method("aerostic.auth.v1.AuthService.GetJwks"), seconds=_KEYS_SECONDS)

    async def fetch() -> JwkSet:
        answer = await get_jwks(GetJwksRequest(), Caller("", ""))
        assert isinstance(answer, Jwks)
        return answer

    return AccessTokenVerifier(KeySource(fetch))


def routes(hub: Hub, sessions: Sessions, verifier: AccessTokenVerifier, settings: GatewaySettings) -> list[BaseRoute]:
    return [Route(PATH, _Endpoint(hub, sessions, verifier, settings), methods=["GET"])]


class _Endpoint:
    """An ASGI application, since a stream's life is not that of a response."""

    def __init__(self, hub: Hub, sessions: Sessions, verifier: AccessTokenVerifier, settings: GatewaySettings) -> None:
        self._hub = hub
        self._sessions = sessions
        self._verifier = verifier
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        connection = await self._connection(request)
        since = positions.asked(request)
        if request.method == "HEAD":
            await Response(headers=HEADERS)(scope, receive, send)
            return
        connection.seen = since or Position(0)
        joined = self._hub.join(connection)
        try:
            serving = Serving(self._hub, connection, self._settings, scope, send)
            await serving.run(receive, since=since, joined=joined)
        finally:
            self._hub.leave(connection)

    async def _connection(self, request: Request) -> Connection:
        """Raises TokenMissing, TokenInvalid, TokenExpired, TenantRequired, or Unavailable."""
        token = self._sessions.token(request)
        if not token:
            raise TokenMissing
        principal = await self._verifier.verify(token)
        return Connection(
            principal,
            expires_at=tokens.unverified_claims(token)["exp"],  # verified just now
            bytes_max=self._settings.stream_buffer_bytes_max,
            cut=lambda: edge.abort(request.scope),
        )
