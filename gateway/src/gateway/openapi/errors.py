"""Every failure that a client may meet: the reasons of the services, and those that only HTTP has."""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import EnumDescriptor

from gateway.openapi.comments import comments
from gateway.openapi.rules import Schema
from gateway.openapi.schemas import Schemas
from gateway.problems import MEDIA_TYPE, STATUS, HttpError
from kit import access

PLATFORM = "options"
"""The package of reasons that every service may give."""
EDGE = "gateway"

_PREFIX = "ERROR_REASON_"
_CODE = re.compile(r"\s*\b([A-Z_]{4,})\.$")
_WORD = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")


@dataclass(frozen=True, slots=True)
class Code:
    """A reason as problems name it."""

    code: str
    owner: str
    """Service whose contract registers it."""
    status: int
    description: str


@functools.cache
def all_codes() -> tuple[Code, ...]:
    """In the order of owners: what any call may meet first."""
    enums = [enum for file in access.contract_files() if (enum := file.enum_types_by_name.get("ErrorReason"))]
    found = [code for enum in enums for code in _of_enum(enum)]
    found += [Code(error.code, EDGE, error.status, error.__doc__ or "") for error in HttpError.__subclasses__()]
    first = {PLATFORM: 0, EDGE: 1}
    return tuple(sorted(found, key=lambda code: (first.get(code.owner, 2), code.owner)))


def named_in(text: str, owner: str) -> list[Code]:
    """The reasons that a method's comment names, of its own service or of the platform."""
    words = set(_WORD.findall(text))
    return [code for code in all_codes() if code.code in words and code.owner in {owner, PLATFORM}]


def responses(codes: Iterable[Code], problem: Schema) -> dict[str, Schema]:
    """Answers by status, each saying which reasons it may have."""
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(code.status, []).append(code)
    return {
        str(status): problem_response("\n".join(_line(code) for code in by_status[status]), problem)
        for status in sorted(by_status)
    }


def problem_response(description: str, problem: Schema) -> Schema:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": problem}}}


def problem_schema(schemas: Schemas) -> Schema:
    """A reference to how every failure looks (RFC 9457)."""
    by_owner: dict[str, list[Code]] = {}
    for code in all_codes():
        by_owner.setdefault(code.owner, []).append(code)
    enums = [schemas.named(f"{_owner_name(owner)}ErrorCode", _enum(owner, by_owner[owner])) for owner in by_owner]
    any_code = schemas.named("ErrorCode", {"description": "Why the call failed, for programs.", "anyOf": enums})
    return schemas.named("Problem", _problem(any_code))


def _of_enum(enum: EnumDescriptor) -> Iterator[Code]:
    owner = enum.file.package.split(".")[1]
    for value in enum.values:
        if value.number:
            text = comments()[f"{enum.full_name}.{value.name}"]
            found = _CODE.search(text)
            assert found, f"the comment of {value.name} does not end in its gRPC code"
            status = STATUS.get(grpc.StatusCode[found[1]], 500)
            yield Code(value.name.removeprefix(_PREFIX), owner, status, text[: found.start()])


def _line(code: Code) -> str:
    return f"- `{code.code}`: {code.description}"


def _owner_name(owner: str) -> str:
    return {PLATFORM: "Platform"}.get(owner, owner.capitalize())


def _enum(owner: str, codes: list[Code]) -> Schema:
    return {
        "description": f"Reasons of {_owner_name(owner).lower()}.",
        "type": "string",
        "oneOf": [{"const": code.code, "description": code.description} for code in codes],
    }


def _problem(code: Schema) -> Schema:
    text = {"type": "string"}
    violation = {
        "type": "object",
        "description": "A rule that the request breaks.",
        "required": ["field", "rule", "message"],
        "properties": {
            "field": text | {"description": "JSON path of the field, or the name of a parameter or header."},
            "rule": text | {"description": 'The rule\'s id, such as "string.max_len".'},
            "message": text | {"description": "What must hold."},
        },
    }
    return {
        "type": "object",
        "description": "Why a call failed (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code", "errors", "requestId"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "Leads to the reason's explanation."},
            "title": text | {"description": "The reason, for people."},
            "status": {"type": "integer", "description": "The HTTP status.", "minimum": 400, "maximum": 599},
            "detail": text | {"description": "What happened this time, for people."},
            "code": code,
            "errors": {"type": "array", "items": violation, "description": "What is wrong with the request."},
            "requestId": text | {"description": "Names this call in logs; also in the header X-Request-Id."},
            "retryAfter": {"type": "number", "description": "Seconds before which the same call cannot succeed."},
            "metadata": {
                "type": "object",
                "additionalProperties": text,
                "description": "More about it, for programs; the reason's description says what.",
            },
        },
    }
