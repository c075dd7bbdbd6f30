"""Serves the derived routes: reads the request into its message, calls the service, prints the answer."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from gateway import body, problems
from gateway.backends import Backends, Unary
from gateway.problems import ContentTypeUnsupported, MethodNotAllowed
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.transcode import query, syntax, values
from gateway.transcode.routes import WHOLE_BODY, Binding, Route, table
from kit.errors import AppError, InvalidRequest, Violation
from kit.proto_json import to_json

_MATCHED = "aerostic.matched"
_NO_STORE = {"Cache-Control": "no-store"}


class Transcoder(BaseRoute):
    """All derived routes, as one route of the app: the first that matches the path answers, or says 405."""

    def __init__(
        self, bound: Iterable[Binding], backends: Backends, sessions: Sessions, settings: GatewaySettings
    ) -> None:
        self._table = table(bound)
        self._sessions = sessions
        self._settings = settings
        self._calls: dict[str, Unary] = {
            binding.method.full_name: backends.unary(binding.method, seconds=settings.request_seconds)
            for route in self._table.routes
            for binding in route.bindings.values()
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        raw_path = scope["raw_path"].decode("ascii")
        for route in self._table.of(raw_path):
            if (variables := self._match(route, raw_path)) is not None:
                return Match.FULL, {_MATCHED: (route, variables)}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, variables = scope[_MATCHED]
        scope["route"] = _Named(route.template.text)
        # HEAD is GET without the body, which the server leaves out.
        verb = "GET" if scope["method"] == "HEAD" else scope["method"]
        if verb not in route.bindings:
            raise MethodNotAllowed(route.allow)
        request = Request(scope, receive, send)
        response = await self._answer(request, route.bindings[verb], variables)
        await response(scope, receive, send)

    async def _answer(self, request: Request, binding: Binding, variables: dict[str, str]) -> Response:
        method = binding.method
        # Before the body is read: strangers shall not make us read.
        caller = self._sessions.caller(request, method)
        message = await self._message(request, binding, variables)
        self._sessions.fill(request, method, message)
        try:
            answer = await self._calls[method.full_name].transcode(message, caller)
        except AppError as error:
            if not (cookies := self._sessions.keep_after_failure(request, method, error)):
                raise
            return _with_cookies(problems.response(problems.of_error(error), request), cookies)
        if isinstance(answer, bytes):
            return Response(answer, 200, _NO_STORE, "application/json")
        cookies = self._sessions.keep(request, method, message, answer)
        return _with_cookies(Response(to_json(answer), 200, _NO_STORE, "application/json"), cookies)

    async def _message(self, request: Request, binding: Binding, variables: dict[str, str]) -> Message:
        message = binding.request_class()
        parameters = query.parse(request.scope["query_string"])
        members = await self._members(request) if binding.body else {}
        violations: list[Violation] = []
        for name, text in variables.items():
            violations += query.set_field(message, name, text)
        if binding.body == WHOLE_BODY:
            violations += [Violation(name, "query.unknown", "is no parameter of this call") for name, _ in parameters]
            violations += values.fill(message, members, taken=binding.path_fields)
        else:
            if binding.body:
                violations += values.fill(getattr(message, binding.body), members)
            violations += query.fill(message, parameters, taken=binding.unqueried_fields)
        if violations:
            raise InvalidRequest.of(*violations)
        return message

    async def _members(self, request: Request) -> dict[str, Any]:
        limits = self._settings
        if not body.is_expected(request):
            return {}  # clients name a type for nothing, too
        body.refuse_early(request, bytes_max=limits.body_bytes_max)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise ContentTypeUnsupported("Content-Encoding", "must be absent: bodies are taken uncompressed")
        content_type = request.headers.get("content-type")
        if content_type is not None:
            _require_json(content_type)
        raw = await body.read(request, bytes_max=limits.body_bytes_max, seconds_max=limits.body_seconds)
        if raw and content_type is None:
            _require_json("")
        return syntax.parse_object(raw)

    @staticmethod
    def _match(route: Route, raw_path: str) -> dict[str, str] | None:
        try:
            return route.template.match(raw_path)
        except UnicodeDecodeError:
            return None  # no id of ours looks like this


class _Named:
    """What the access log and metrics read of a route."""

    def __init__(self, path: str) -> None:
        self.path = path


def _require_json(content_type: str) -> None:
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "").removesuffix(";")
    if media_type.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise ContentTypeUnsupported("Content-Type", "must be application/json")


def _with_cookies(response: Response, cookies: list[str]) -> Response:
    for cookie in cookies:
        response.headers.append("Set-Cookie", cookie)
    return response
