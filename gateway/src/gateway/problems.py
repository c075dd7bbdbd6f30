"""Failures as clients see them: problem+json (RFC 9457) with our code, the fields at fault and the request id."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import grpc
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kit import request_ids
from kit.errors import AppError, Internal, Violation

MEDIA_TYPE = "application/problem+json"
CODE_IN_SCOPE = "aerostic.problem_code"

_VIOLATIONS_MAX = 20
_RETRY_SECONDS = 1.0
STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Tokens that were sent and do not count; RFC 6750 wants them told from missing ones.
_REFUSED_TOKENS = ("TOKEN_INVALID", "TOKEN_EXPIRED")


class HttpError(Exception):
    """A failure that only HTTP has: it never comes from a service. A closed list, like the services' own reasons."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(
        self, detail: str, *, violations: Sequence[Violation] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = tuple(violations)
        self.headers = dict(headers or {})


class RouteNotFound(HttpError):
    """Nothing lives under this path."""

    status, code = 404, "ROUTE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("Nothing lives under this path; /docs lists what there is.")


class MethodNotAllowed(HttpError):
    """The path has other methods; the header Allow lists them."""

    status, code = 405, "METHOD_NOT_ALLOWED"

    def __init__(self, allow: str) -> None:
        super().__init__(f"This path takes {allow} only.", headers={"Allow": allow})


class BodyTimeout(HttpError):
    """The request's body did not arrive in time."""

    status, code = 408, "BODY_TIMEOUT"

    def __init__(self) -> None:
        super().__init__("The request's body did not arrive in time.", headers={"Connection": "close"})


class BodyTooLarge(HttpError):
    """The request's body is larger than this path takes."""

    status, code = 413, "BODY_TOO_LARGE"

    def __init__(self, bytes_max: int) -> None:
        must = f"must have {bytes_max} bytes at most"
        super().__init__(f"The body {must}.", violations=[Violation("", "body.max_bytes", must)])


class ContentTypeUnsupported(HttpError):
    """The body is of a type or encoding that this path does not take."""

    status, code = 415, "CONTENT_TYPE_UNSUPPORTED"

    def __init__(self, header: str, must: str) -> None:
        super().__init__(f"{header} {must}.", violations=[Violation(header, "header.content_type", must)])


class RangeNotSatisfiable(HttpError):
    """The requested range lies outside of the file."""

    status, code = 416, "RANGE_NOT_SATISFIABLE"

    def __init__(self, size_bytes: int) -> None:
        must = f"must lie within the file's {size_bytes} bytes"
        super().__init__(
            f"Range {must}.",
            violations=[Violation("Range", "header.range", must)],
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )


class CsrfTokenInvalid(HttpError):
    """A call that a cookie signs in needs the header X-CSRF-Token with the value of the cookie csrf_token."""

    status, code = 403, "CSRF_TOKEN_INVALID"

    def __init__(self) -> None:
        must = "must repeat the cookie csrf_token, since a cookie signs this call in"
        super().__init__(f"X-CSRF-Token {must}.", violations=[Violation("X-CSRF-Token", "header.csrf_token", must)])


class OriginNotAllowed(HttpError):
    """A page of another site made this call with the user's cookies."""

    status, code = 403, "ORIGIN_NOT_ALLOWED"

    def __init__(self) -> None:
        must = "must be this site or an allowed one, since a cookie signs this call in"
        super().__init__(f"Origin {must}.", violations=[Violation("Origin", "header.origin", must)])


class StreamLimitReached(HttpError):
    """The workspace has as many live streams open as one may have."""

    status, code = 429, "STREAM_LIMIT_REACHED"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"A workspace may have {most} live streams open; close one first.", headers={"Retry-After": "10"}
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """What becomes the body."""

    status: int
    code: str
    detail: str
    violations: Sequence[Violation] = ()
    retry_after: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def of_error(error: AppError) -> Problem:
    """The problem of a failure that a service told, or that kit raised here."""
    status = STATUS.get(error.code, 500)
    retry_after = error.retry_after
    if retry_after is None and status == 503:
        retry_after = _RETRY_SECONDS
    # A defect of the transport has no reason of ours, and is ours all the same.
    code = Internal.reason if status == 500 else error.reason
    headers = {"WWW-Authenticate": _challenge(code)} if status == 401 else {}
    return Problem(status, code, error.message, error.violations, retry_after, error.metadata, headers)


def of_http_error(error: HttpError) -> Problem:
    retry = error.headers.get("Retry-After")
    return Problem(
        error.status,
        error.code,
        error.detail,
        error.violations,
        retry_after=float(retry) if retry else None,
        headers=error.headers,
    )


def response(problem: Problem, request: Request) -> Response:
    """The answer that tells the problem. The access log learns its code."""
    request.scope[CODE_IN_SCOPE] = problem.code
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    return Response(msgspec.json.encode(_body(problem)), problem.status, headers, MEDIA_TYPE)


def _body(problem: Problem) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"/docs#{problem.code}",
        "title": problem.code.replace("_", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "errors": [one._asdict() for one in problem.violations[:_VIOLATIONS_MAX]],
        "requestId": request_ids.current(),
    }
    if problem.retry_after is not None:
        body["retryAfter"] = problem.retry_after
    if problem.metadata:
        body["metadata"] = dict(problem.metadata)
    return body


def _challenge(code: str) -> str:
    challenge = 'Bearer realm="aerostic"'
    return f'{challenge}, error="invalid_token"' if code in _REFUSED_TOKENS else challenge


async def handle_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return response(of_error(error), request)


async def handle_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return response(of_http_error(error), request)


async def handle_framework_error(request: Request, error: Exception) -> Response:
    """What the router raises: no such path, or not this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        # HEAD comes with GET; naming it would only confuse.
        allow = ", ".join(
            sorted({verb.strip() for verb in (error.headers or {}).get("Allow", "").split(",")} - {"HEAD"})
        )
        return response(of_http_error(MethodNotAllowed(allow)), request)
    return response(of_http_error(RouteNotFound()), request)


HANDLERS = {
    AppError: handle_app_error,
    HttpError: handle_http_error,
    HTTPException: handle_framework_error,
}
