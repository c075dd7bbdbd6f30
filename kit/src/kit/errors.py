"""Errors that callers are meant to see: a closed list of classes, each with a gRPC code and a registered reason.

A service raises subclasses of AppError; the server turns them into google.rpc.Status, the gateway into problem+json.
Anything else that is raised is a defect and reaches callers as INTERNAL without detail.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC libraries carry google.rpc.Status."""

_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]")
# The status travels twice in the trailers, as text and packed, and peers refuse trailers of more than 8 KiB.
_MESSAGE_CHARACTERS_MAX = 500
_STATUS_BYTES_MAX = 3 * 1024


class Violation(NamedTuple):
    """One rule that a request breaks."""

    field: str
    """JSON path, such as "text.body" or "items[2].name"; empty when it is about the request as a whole."""
    rule: str
    """Id of the rule, such as "string.max_len"."""
    message: str
    """What must hold, as the rest of a sentence that begins with the field: "must be at most 80 characters"."""


class AppError(Exception):
    """A failure that the caller may know of.

    Subclasses set `code` and `reason`. The message is public: one or two plain sentences, no secrets, no internals.
    Keyword arguments become metadata for programs, with lowerCamelCase keys.
    """

    code: grpc.StatusCode
    reason: str
    domain: str = ""
    """Who says so, such as "messaging.aerostic.io"; empty until an error has travelled."""

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        **metadata: str,
    ) -> None:
        """`retry_after`: seconds before which the same call cannot succeed."""
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = {_camel(key): value for key, value in metadata.items()}

    def __init_subclass__(cls) -> None:
        reason = cls.__dict__.get("reason")
        assert reason is None or _REASON.fullmatch(reason), f"{cls.__name__}.reason is no UPPER_SNAKE word"


class RemoteError(AppError):
    """What a called service answered, or that it did not answer. Code, reason and domain are those of the answer.

    Let through by a service it becomes UNAVAILABLE or INTERNAL: the caller asked this service and knows nothing of the
    one behind it. Catch it to give it a meaning.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, reason: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or code.name
        self.detail = detail
        """The transport's own words, for logs only."""

    @property
    def is_outage(self) -> bool:
        """Whether the same call may succeed shortly."""
        return self.code in _OUTAGES


_OUTAGES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)


class InvalidRequest(AppError):
    """Fields break rules that the contract cannot state, or that only this service knows."""

    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"

    @classmethod
    def of(cls, *violations: Violation) -> "InvalidRequest":
        """Word the message from the violations."""
        sentences = [f"{field} {message}".strip() for field, _, message in violations[:5]]
        if more := len(violations) - len(sentences):
            sentences.append(f"and {more} more")
        return cls(f"{'; '.join(sentences)}.", violations=violations)


class PageTokenInvalid(AppError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        must = "must be a token that this same list gave, with the same filter"
        super().__init__(f"pageToken {must}.", violations=[Violation("pageToken", "page_token", must)])


class TokenMissing(AppError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"

    def __init__(self) -> None:
        super().__init__("Sign in: this call needs an access token.")


class TokenInvalid(AppError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("The access token is not valid; sign in again.")


class TokenExpired(AppError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The access token has expired; refresh it or sign in again.")


class PermissionDenied(AppError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"


class TenantRequired(AppError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "TENANT_REQUIRED"

    def __init__(self) -> None:
        super().__init__("This call acts within a workspace, and the caller is in none.")


class Overloaded(AppError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"


class Unavailable(AppError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"


class DeadlineExceeded(AppError):
    code, reason = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("The answer was not ready in time; whether the call took effect is not known.")


class Cancelled(AppError):
    code, reason = grpc.StatusCode.CANCELLED, "CANCELLED"

    def __init__(self) -> None:
        super().__init__("The caller went away before the answer.")


class Unimplemented(AppError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"

    def __init__(self) -> None:
        super().__init__("This server does not offer this call.")


class Internal(AppError):
    """A defect, as callers see it. Never raised on purpose: raise what it is, or let it through."""

    code, reason = grpc.StatusCode.INTERNAL, "INTERNAL"

    def __init__(self) -> None:
        super().__init__("Something went wrong on our side; the request id finds it in the logs.")


def to_status(error: AppError, *, domain: str) -> status_pb2.Status:
    """The error as it travels: ErrorInfo always; BadRequest and RetryInfo where they have something to say.

    Of very many violations the first are kept, as trailers are small.
    """
    status = status_pb2.Status(code=error.code.value[0], message=error.message[:_MESSAGE_CHARACTERS_MAX])
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after * 1000)))
        _pack(status, retry)
    room = _STATUS_BYTES_MAX - status.ByteSize()
    named = error_details_pb2.BadRequest()
    for violation in error.violations:
        message = violation.message[:_MESSAGE_CHARACTERS_MAX]
        named.field_violations.add(field=violation.field, description=message, reason=violation.rule)
        if named.ByteSize() > room:
            del named.field_violations[-1]
            break
    if named.field_violations:
        _pack(status, named)
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """Read an answer of a peer back; one without google.rpc.Status comes from the transport."""
    status = _sent_status(error)
    if status is None:
        code = grpc.StatusCode.UNAVAILABLE if is_dropped(error) else error.code()
        return RemoteError(code, _transport_message(code), detail=error.details() or "")
    remote = RemoteError(error.code(), status.message)
    for detail in status.details:
        _unpack(detail, remote)
    return remote


def is_dropped(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call was lost on its way, or cut off by a server that stops, which says CANCELLED; what we cancel
    ourselves has no answer.
    """
    return error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED} and _sent_status(error) is None


def declared_reasons() -> dict[str, type[AppError]]:
    """Every reason with the class that gives it, of all modules imported so far."""
    return {error.reason: error for error in _subclasses(AppError) if "reason" in error.__dict__}


def _subclasses(error: type[AppError]) -> Iterator[type[AppError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _sent_status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    packed = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    return _parse(packed if isinstance(packed, bytes) else b"")


def _pack(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _parse(packed: bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(packed) if packed else None
    except DecodeError:
        return None


def _unpack(detail: AnyMessage, into: RemoteError) -> None:
    info, retry, named = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    try:
        if detail.Unpack(info):
            into.reason, into.domain, into.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Unpack(retry):
            into.retry_after = retry.retry_delay.ToMilliseconds() / 1000
        elif detail.Unpack(named):
            into.violations = tuple(Violation(v.field, v.reason, v.description) for v in named.field_violations)
    except DecodeError:
        return  # the code still says what happened


def _transport_message(code: grpc.StatusCode) -> str:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded().message
    if code in _OUTAGES:
        return "A part of the platform does not answer; try again shortly."
    return f"A part of the platform refused the call ({code.name})."


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
