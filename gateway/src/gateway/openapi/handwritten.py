"""Operations that no contract can say: bytes, streams, webhooks, and what machines ask."""

from gateway.backends import find_method
from gateway.media import DOWNLOAD, UPLOAD
from gateway.openapi.operations import JSON, codes, failures, failures_of, naming, signed_in, signed_in_codes
from gateway.openapi.rules import Schema
from gateway.openapi.schemas import Schemas
from gateway.stream import frames
from gateway.stream.hub import RESET
from gateway.stream.serving import END, ENDINGS

STREAM_TAG = {"name": "LiveStream", "description": "What happens in a workspace, as it happens."}
WEBHOOKS_TAG = {"name": "Webhooks", "description": "Where Meta tells what happened on WhatsApp."}
MACHINES_TAG = {"name": "Operations", "description": "For load balancers and monitoring."}
TAGS = [STREAM_TAG, WEBHOOKS_TAG, MACHINES_TAG]

_TEXT: Schema = {"text/plain": {"schema": {"type": "string"}}}
_BYTES: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
# What people send most; which types Meta takes is up to svc-messaging.
_FILES = "image/jpeg, image/png, image/webp, audio/mpeg, audio/ogg, video/mp4, application/pdf, text/plain"
_STREAM = """\
Server-Sent Events of the caller's workspace. Each event has an `id`, a kind as its `event`, and JSON as its `data`.

A reader that was away sends the id of the last event that it got as `Last-Event-ID`, as browsers do by themselves, and
gets what it missed, each event once and in order. Where that is too much, or no longer kept, it gets an event
`{reset}` instead: load what you show afresh. The stream ends with an event `{end}` whose `code` says why: {endings}.

Kinds: {kinds}."""


def paths(schemas: Schemas, problem: Schema) -> dict[str, Schema]:
    return {
        "/v1/stream": {"get": _stream(schemas, problem)},
        "/v1/media": {"post": _upload(schemas, problem)},
        "/v1/media/{media_id}/content": {"get": _download(schemas, problem)},
        "/webhooks/meta": {"get": _verify(problem), "post": _receive(problem)},
        "/healthz": {"get": _machine("getHealth", "Whether the process lives", {})},
        "/readyz": {"get": _machine("getReadiness", "Whether the process can work", {"503": "It cannot; says why."})},
        "/metrics": {"get": _machine("getMetrics", "Metrics in Prometheus' text format", {})},
    }


def _stream(schemas: Schemas, problem: Schema) -> Schema:
    description = _STREAM.format(
        reset=RESET,
        end=END,
        endings=", ".join(f"`{code}`" for code in ENDINGS),
        kinds=", ".join(f"`{resource}.*` (needs `{permission}`)" for resource, permission in frames.VISIBLE.items()),
    )
    position = {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,9})?$"}
    last = "The id of the last event that was received."
    event = schemas.named("StreamEvent", _event())
    return {
        "operationId": "openStream",
        "tags": [STREAM_TAG["name"]],
        "summary": "Follow what happens",
        "description": description,
        "parameters": [
            {"name": "Last-Event-ID", "in": "header", "required": False, "description": last, "schema": position},
            {
                "name": "lastEventId",
                "in": "query",
                "required": False,
                "description": f"{last} For readers that cannot set the header, which wins over this.",
                "schema": position,
            },
        ],
        "responses": {
            "200": {
                "description": "The stream. The data of each event is a StreamEvent.",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "x-event-schema": event}},
            },
            **failures_of([*signed_in_codes(), *codes("INVALID_REQUEST", "STREAM_LIMIT_REACHED")], problem),
        },
        "security": signed_in(is_safe=True),
    }


def _event() -> Schema:
    return {
        "type": "object",
        "description": "The data of an event of the live stream.",
        "required": ["id", "type", "time", "subject", "data"],
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "The event's own id, the same for all readers."},
            "type": {"type": "string", "description": 'What happened, such as "messaging.message.received".'},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string", "description": 'What it happened to, such as "messages/<id>".'},
            "data": {"type": "object", "additionalProperties": True, "description": "The resource as it is now."},
        },
    }


def _upload(schemas: Schemas, problem: Schema) -> Schema:
    method = find_method(UPLOAD)
    file = _BYTES | {"description": "The file, with its type and name."}
    form = {"type": "object", "required": ["file"], "properties": {"file": file}, "additionalProperties": False}
    return {
        **naming(method),
        "requestBody": {
            "required": True,
            "description": "A form with one part `file`; or the file alone as the body, with its own Content-Type and, "
            "where its name matters, a Content-Disposition.",
            "content": {"multipart/form-data": {"schema": form, "encoding": {"file": {"contentType": _FILES}}}},
        },
        "responses": {"200": _media(schemas), **failures(method, problem, has_body=True, is_safe=False)},
        "security": signed_in(is_safe=False),
    }


def _download(schemas: Schemas, problem: Schema) -> Schema:
    method = find_method(DOWNLOAD)
    [field] = method.descriptor.input_type.fields
    schema = schemas.parameter(field)
    content = {"*/*": {"schema": _BYTES}}
    return {
        **naming(method),
        "parameters": [
            {"name": "media_id", "in": "path", "required": True, "schema": schema},
            {
                "name": "Range",
                "in": "header",
                "required": False,
                "description": "The part of the file that is wanted (RFC 9110).",
                "schema": {"type": "string", "pattern": "^bytes=[0-9]{1,9}-$"},
            },
        ],
        "responses": {
            "200": {"description": "The file.", "content": content},
            "206": {"description": "The part that was asked for.", "content": content},
            "304": {"description": "The file is the one that If-None-Match names."},
            **failures(method, problem, has_body=False, is_safe=True),
            **failures_of(codes("RANGE_NOT_SATISFIABLE"), problem),
        },
        "security": signed_in(is_safe=True),
    }


def _media(schemas: Schemas) -> Schema:
    answer = find_method(UPLOAD).descriptor.output_type
    return {"description": "The file is stored.", "content": {JSON: {"schema": schemas.answer(answer)}}}


def _verify(problem: Schema) -> Schema:
    names = {
        "hub.mode": "Always `subscribe`.",
        "hub.verify_token": "The token that was agreed with Meta.",
        "hub.challenge": "Answered as it is.",
    }
    return {
        "operationId": "verifyWebhook",
        "tags": [WEBHOOKS_TAG["name"]],
        "summary": "Prove to Meta that this address is ours",
        "parameters": [
            {"name": name, "in": "query", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in names.items()
        ],
        "responses": {
            "200": {"description": "The challenge.", "content": _TEXT},
            "403": {"description": "The token is not the agreed one."},
            **failures_of(codes(), problem),
        },
        "security": [],
    }


def _receive(problem: Schema) -> Schema:
    return {
        "operationId": "receiveWebhook",
        "tags": [WEBHOOKS_TAG["name"]],
        "summary": "Take a webhook of Meta",
        "description": "The answer 200 means that the webhook is on disk. Meta sends again what got another answer.",
        "parameters": [
            {
                "name": "X-Hub-Signature-256",
                "in": "header",
                "required": True,
                "description": "HMAC of the body with the app's secret.",
                "schema": {"type": "string", "pattern": "^sha256=[0-9a-f]{64}$"},
            }
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"type": "object"}}}},
        "responses": {
            "200": {"description": "Stored."},
            "401": {"description": "The signature is not the body's."},
            "503": {"description": "Not stored; send it again."},
            **failures_of(codes("BODY_TIMEOUT", "BODY_TOO_LARGE"), problem),
        },
        "security": [],
    }


def _machine(operation_id: str, summary: str, others: dict[str, str]) -> Schema:
    return {
        "operationId": operation_id,
        "tags": [MACHINES_TAG["name"]],
        "summary": summary,
        "responses": {
            "200": {"description": "Yes." if others or "Health" in operation_id else "The metrics.", "content": _TEXT},
            **{status: {"description": text, "content": _TEXT} for status, text in others.items()},
        },
        "security": [],
    }
