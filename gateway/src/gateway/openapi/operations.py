"""One operation of the document for each binding of a public method."""

from collections.abc import Iterable, Iterator
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi import errors, rules
from gateway.openapi.comments import comments
from gateway.openapi.errors import Code
from gateway.openapi.rules import Schema
from gateway.openapi.schemas import Schemas
from gateway.sessions import CSRF_HEADER
from gateway.transcode import query
from gateway.transcode.routes import WHOLE_BODY, Binding
from kit import access
from kit.access import AUTHENTICATED, PUBLIC, Method

BEARER, COOKIE, CSRF = "bearer", "cookie", "csrfToken"
JSON = "application/json"

_ANYWHERE = ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED")
_SIGNED_IN = ("TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED")
_WITH_BODY = ("BODY_TIMEOUT", "BODY_TOO_LARGE", "CONTENT_TYPE_UNSUPPORTED")
_BY_COOKIE = ("CSRF_TOKEN_INVALID", "ORIGIN_NOT_ALLOWED")


def operation(binding: Binding, schemas: Schemas, problem: Schema) -> Schema:
    """What a client needs to make the call and to understand its answer."""
    method = binding.method
    built: Schema = {
        **naming(method),
        "parameters": [*_path_parameters(binding, schemas), *_query_parameters(binding, schemas)],
        "responses": {
            "200": {
                "description": "Done.",
                "content": {JSON: {"schema": schemas.answer(method.descriptor.output_type)}},
            },
            **failures(method, problem, has_body=bool(binding.body), is_safe=binding.verb == "GET"),
        },
        "security": security(method, is_safe=binding.verb == "GET"),
    }
    if binding.body:
        built["requestBody"] = _body(binding, schemas)
    if binding.is_additional and method.http is not None:
        built["operationId"] += f"_{'_'.join(binding.template.text.strip('/').split('/'))}"
        built["summary"] += " (second path)"
        built["description"] = f"The same call under a second path. {built.get('description', '')}".strip()
    return built


def naming(method: Method) -> Schema:
    """Id, tag, summary, description and who may call."""
    descriptor = method.descriptor
    text = comments().get(method.full_name, "")
    summary, _, _ = text.partition(". ")
    name = descriptor.name
    return {
        "operationId": name[0].lower() + name[1:],
        "tags": [descriptor.containing_service.name],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(filter(None, [text, _who(method)])),
        "x-permission": method.permission,
    }


def security(method: Method, *, is_safe: bool) -> list[Schema]:
    if method.permission == PUBLIC:
        return []
    return signed_in(is_safe=is_safe)


def signed_in(*, is_safe: bool) -> list[Schema]:
    """A token in a header, or in a cookie: then calls that change something prove which page sent them."""
    by_cookie: Schema = {COOKIE: []} if is_safe else {COOKIE: [], CSRF: []}
    return [{BEARER: []}, by_cookie]


def failures(method: Method, problem: Schema, *, has_body: bool, is_safe: bool) -> Schema:
    """Answers other than success."""
    owner = method.full_name.split(".")[1]
    wanted = [*_ANYWHERE, "INVALID_REQUEST"]
    if method.permission != PUBLIC:
        wanted += [*_SIGNED_IN, *(() if is_safe else _BY_COOKIE)]
        wanted += () if method.permission == AUTHENTICATED else ("PERMISSION_DENIED", "TENANT_REQUIRED")
    if "page_token" in method.descriptor.input_type.fields_by_name:
        wanted.append("PAGE_TOKEN_INVALID")
    if has_body:
        wanted += _WITH_BODY
    named = errors.named_in(comments().get(method.full_name, ""), owner)
    return failures_of([*named, *_codes(wanted)], problem)


def failures_of(codes: Iterable[Code], problem: Schema) -> Schema:
    unique = {code.code: code for code in codes}
    default = errors.problem_response("Any other failure.", problem)
    return {**errors.responses(unique.values(), problem), "default": default}


def codes(*names: str) -> list[Code]:
    """Reasons by their names, those of any call included."""
    return list(_codes([*names, *_ANYWHERE]))


def signed_in_codes() -> list[Code]:
    return list(_codes([*_SIGNED_IN, "TENANT_REQUIRED"]))


def _codes(names: Iterable[str]) -> Iterator[Code]:
    wanted = set(names)
    shared = {errors.PLATFORM, errors.EDGE}
    return (code for code in errors.all_codes() if code.code in wanted and code.owner in shared)


def _who(method: Method) -> str:
    match method.permission:
        case access.PUBLIC:
            return "Needs no credentials."
        case access.AUTHENTICATED:
            return "Open to everybody who is signed in."
        case permission:
            roles = [f"`{role}`" for role in access.role_grants() if access.granted(role, permission)]
            return f"Needs the permission `{permission}`; roles that have it: {', '.join(roles) or 'none'}."


def _path_parameters(binding: Binding, schemas: Schemas) -> Iterator[Schema]:
    request = binding.method.descriptor.input_type
    for variable in binding.template.variables:
        field = _field_at(request, variable)
        schema = dict(schemas.parameter(field))
        described = {"description": schema.pop("description")} if "description" in schema else {}
        yield {"name": variable, "in": "path", "required": True, **described, "schema": schema}


def _query_parameters(binding: Binding, schemas: Schemas) -> Iterator[Schema]:
    if binding.body == WHOLE_BODY:
        return
    request = binding.method.descriptor.input_type
    fields = [field for field in request.fields if field.name not in binding.unqueried_fields]
    yield from _parameters(fields, "", schemas)


def _parameters(fields: Iterable[FieldDescriptor], above: str, schemas: Schemas) -> Iterator[Schema]:
    for field in fields:
        name = f"{above}{field.json_name}"
        if query.is_parameter(field):
            schema = dict(schemas.parameter(field))
            described = {"description": schema.pop("description")} if "description" in schema else {}
            is_required = not above and rules.is_required(field)
            yield {"name": name, "in": "query", "required": is_required, **described, "schema": schema}
        elif field.message_type is not None and not field.is_repeated and not above.count("."):
            yield from _parameters(field.message_type.fields, f"{name}.", schemas)


def _body(binding: Binding, schemas: Schemas) -> Schema:
    request = binding.method.descriptor.input_type
    if binding.body == WHOLE_BODY:
        sent = schemas.request(request, without=binding.path_fields)
    else:
        sent = schemas.request(cast("Descriptor", request.fields_by_name[binding.body].message_type))
    component = schemas.components[sent["$ref"].rpartition("/")[2]]
    needs_some = bool(component.get("required") or component.get("oneOf"))
    return {"required": needs_some, "content": {JSON: {"schema": sent}}}


def _field_at(descriptor: Descriptor, path: str) -> FieldDescriptor:
    *above, last = path.split(".")
    for step in above:
        descriptor = cast("Descriptor", descriptor.fields_by_name[step].message_type)
    return descriptor.fields_by_name[last]


CSRF_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": CSRF_HEADER,
    "description": "Repeats the cookie csrf_token. Needed beside the cookie wherever a call may change something.",
}
