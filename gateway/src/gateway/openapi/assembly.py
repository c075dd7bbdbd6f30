"""The document as a whole."""

import re
from typing import Any

from gateway.media import STREAMED
from gateway.openapi import errors, handwritten, operations
from gateway.openapi.comments import comments
from gateway.openapi.schemas import Schemas
from gateway.sessions import ACCESS_COOKIE
from gateway.transcode.routes import bindings
from kit import access

_PATTERN = re.compile(r"=[^{}]+(?=})")
_ABOUT = """\
The REST API of Aerostic, a multi-tenant WhatsApp Business platform.

JSON is the canonical JSON of proto3: names in lowerCamelCase, 64-bit integers as strings, times in RFC 3339. Answers
leave out empty strings and unset members. In requests `null` means absent, members that are not described here are
refused, and no text may hold U+0000 or half a surrogate pair.

Lists are read page by page: `nextPageToken` of one call is the `pageToken` of the next. Failures are problem+json
(RFC 9457); their `code` is for programs.

The workspace of every call is that of its access token."""


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of everything that the gateway serves."""
    schemas = Schemas()
    problem = errors.problem_schema(schemas)
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for binding in bindings(access.all_methods()):
        service = binding.method.descriptor.containing_service
        tags[service.name] = comments().get(service.full_name, "")
        if binding.method.full_name not in STREAMED:
            operation = operations.operation(binding, schemas, problem)
            paths.setdefault(_path(binding.template.text), {})[binding.verb.lower()] = operation
    for path, by_verb in handwritten.paths(schemas, problem).items():
        paths.setdefault(path, {}).update(by_verb)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Aerostic",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [*({"name": name, "description": text} for name, text in tags.items()), *handwritten.TAGS],
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _security_schemes()},
        "x-error-codes": [
            {"code": code.code, "owner": code.owner, "status": code.status, "description": code.description}
            for code in errors.all_codes()
        ],
    }


def _path(template: str) -> str:
    """OpenAPI knows variables by their names alone."""
    return _PATTERN.sub("", template)


def _security_schemes() -> dict[str, Any]:
    return {
        operations.BEARER: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The accessToken of a sign-in.",
        },
        operations.COOKIE: {
            "type": "apiKey",
            "in": "cookie",
            "name": ACCESS_COOKIE,
            "description": "How browsers sign in: the sign-in was called with the header X-Aerostic-Session: cookie.",
        },
        operations.CSRF: operations.CSRF_SCHEME,
    }
