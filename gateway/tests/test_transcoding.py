"""REST as the contracts state it: which call a path is, and how its request is filled."""

import json
import uuid

import pytest
from aerostic.auth.v1.auth_service_pb2 import Jwk, Jwks
from aerostic.messaging.v1.conversation_service_pb2 import ListConversationsResponse
from aerostic.messaging.v1.message_pb2 import Message

from gateway import media, openapi
from gateway.transcode.routes import bindings, table
from kit import access

ID = "9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01"
MESSAGES = f"/v1/conversations/{ID}/messages"
BY_HAND = {
    "/v1/stream",
    "/v1/media",
    "/v1/media/{media_id}/content",
    "/webhooks/meta",
    "/healthz",
    "/readyz",
    "/metrics",
}
SEND = {"requestId": "r-1", "text": {"body": "Hello"}}


def test_every_public_method_has_its_way_in():
    public = {method.full_name for method in access.all_methods() if method.http is not None}
    routes = table(bindings(access.all_methods())).routes
    assert {binding.method.full_name for route in routes for binding in route.bindings.values()} == public
    assert public > media.STREAMED


def test_no_path_is_answered_by_hand_and_by_contract():
    by_contract = table(each for each in bindings(access.all_methods()) if each.method.full_name not in media.STREAMED)
    by_hand = [name.replace("{media_id}", ID) for name in openapi.document("1")["paths"] if name in BY_HAND]
    assert len(by_hand) == len(BY_HAND)
    for path in by_hand:
        assert all(route.template.match(path) is None for route in by_contract.of(path)), path


def test_no_internal_method_has_a_way_in():
    internal = {method.full_name for method in access.all_methods() if method.callers is not None}
    assert internal
    assert not internal & {binding.method.full_name for binding in bindings(access.all_methods())}


async def test_every_derived_route_reaches_its_method(api):
    for binding in bindings(access.all_methods()):
        if binding.method.full_name in media.STREAMED:
            continue
        api.recorder.clear()
        path = binding.template.text
        for variable in binding.template.variables:
            path = path.replace(f"{{{variable}}}", str(uuid.uuid4()))
        answer = await api.call(binding.verb, path)
        reached = [call.name for call in api.recorder.calls] == [binding.method.descriptor.name]
        # A required field that is missing, or a permission that is, is told by the method's own server.
        refused = answer.status in {400, 403} and answer.code in {"INVALID_REQUEST", "PERMISSION_DENIED"}
        assert reached or refused, f"{binding.verb} {path}: {answer.status} {answer.body}"


async def test_path_and_body_fill_one_request(api):
    api.recorder.answers["SendMessage"] = Message(id="m-1", status="queued")
    answer = await api.post(MESSAGES, SEND)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.json["id"], answer.json["status"]) == ("m-1", "queued")
    request = api.recorder.call.request
    assert (request.conversation_id, request.request_id, request.text.body) == (ID, "r-1", "Hello")


async def test_names_may_be_those_of_the_proto(api):
    assert (await api.post(MESSAGES, {"request_id": "r-2", "text": {"body": "Hello"}})).status == 200
    assert api.recorder.call.request.request_id == "r-2"


async def test_query_parameters_fill_what_the_path_leaves(api):
    answer = await api.get(f"/v1/conversations?pageSize=7&state=open&contact_id={ID}")
    assert answer.status == 200, answer.body
    request = api.recorder.call.request
    assert (request.page_size, request.state, request.contact_id) == (7, "open", ID)


async def test_additional_bindings_are_ways_in_too(api):
    body = {"email": "ada@example.com", "password": "correct horse"}
    for path in ("/v1/auth/login", "/auth/login"):
        assert (await api.post(path, body, token="")).status == 200
    assert [call.name for call in api.recorder.calls] == ["Login", "Login"]


async def test_custom_verbs_are_told_from_ids(api):
    assert (await api.post(f"/v1/conversations/{ID}:close", {})).status == 200
    assert (await api.get(f"/v1/conversations/{ID}")).status == 200
    assert [call.name for call in api.recorder.calls] == ["CloseConversation", "GetConversation"]
    assert {call.request.conversation_id for call in api.recorder.calls} == {ID}


async def test_a_value_of_the_path_is_decoded_once(api):
    answer = await api.get("/v1/conversations/a%252Fb%3Ac")
    assert answer.wrong == [("conversationId", "string.uuid")]
    answer = await api.get("/v1/conversations/a%2Fb")
    assert answer.wrong == [("conversationId", "string.uuid")], "an escaped slash is part of the value"


@pytest.mark.parametrize(
    "path", ["/v1/conversations/%ff", "/v1/conversations/", "/v1//conversations", "/v1/Conversations"]
)
async def test_paths_that_only_look_alike_are_not_found(api, path):
    answer = await api.get(path)
    assert (answer.status, answer.code) == (404, "ROUTE_NOT_FOUND")


async def test_a_nul_in_the_path_is_refused(api):
    answer = await api.get("/v1/conversations/a%00b")
    assert (answer.status, answer.wrong) == (400, [("conversationId", "string.nul")])


async def test_an_empty_body_is_an_empty_object(api):
    assert (await api.call("POST", f"/v1/conversations/{ID}:close")).status == 200
    assert (await api.post(f"/v1/conversations/{ID}:close", b"")).status == 200


async def test_empty_lists_and_zeros_are_told_in_answers(api):
    api.recorder.answers["ListConversations"] = ListConversationsResponse(next_page_token="")
    assert (await api.get("/v1/conversations")).json == {"conversations": []}
    api.recorder.answers["GetJwks"] = Jwks(keys=[Jwk(kid="k")])
    assert (await api.get("/.well-known/jwks.json", token="")).json == {"keys": [{"kid": "k"}]}


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'])
async def test_json_is_json_however_it_is_written(api, content_type):
    assert (await api.post(MESSAGES, SEND, headers={"Content-Type": content_type})).status == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "multipart/form-data; boundary=b"),
        ("Content-Type", "application/json; charset=latin-1"),
        ("Content-Encoding", "gzip"),
    ],
)
async def test_other_types_of_body_are_refused(api, header, value):
    answer = await api.post(MESSAGES, SEND, headers={header: value})
    assert (answer.status, answer.code) == (415, "CONTENT_TYPE_UNSUPPORTED")
    assert answer.wrong == [(header, "header.content_type")]
    assert not api.recorder.calls


async def test_a_body_without_a_type_is_refused(api):
    answer = await api.call("POST", MESSAGES, data=json.dumps(SEND).encode(), skip_auto_headers=["Content-Type"])
    assert (answer.status, answer.code) == (415, "CONTENT_TYPE_UNSUPPORTED")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", MESSAGES, "GET, POST"),
        ("PUT", "/v1/me", "GET"),
        ("GET", "/v1/auth/login", "POST"),
        ("OPTIONS", "/v1/conversations", "GET"),
        ("POST", "/healthz", "GET"),
        ("BREW", "/v1/me", "GET"),
    ],
)
async def test_other_methods_are_told_which_there_are(api, method, path, allow):
    if method == "BREW":
        async with api.connection() as (reader, writer):
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 400 " in await reader.readline(), "no method of HTTP"
        return
    answer = await api.call(method, path)
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", allow)


async def test_head_is_get_without_the_body(api):
    answer = await api.call("HEAD", f"/v1/conversations/{ID}")
    assert (answer.status, answer.body) == (200, b"")
    assert api.recorder.call.name == "GetConversation"


async def test_what_a_service_has_printed_is_passed_on_as_it_is(api):
    api.recorder.printed["GetConversation"] = {"id": ID, "unansweredCount": 0}
    answer = await api.get(f"/v1/conversations/{ID}")
    assert (answer.status, answer.json) == (200, {"id": ID, "unansweredCount": 0})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
