"""The document says what the gateway serves: all of it, with its rules, its failures and its words."""

import re

import pytest
import schemathesis
from aerostic.messaging.v1.contact_pb2 import Contact
from aerostic.messaging.v1.message_pb2 import Message
from aerostic.messaging.v1.message_service_pb2 import SendMessageRequest, StartConversationRequest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema_rs import validator_for

from gateway.openapi import document
from gateway.openapi.rules import is_required
from gateway.problems import HttpError
from gateway.transcode.routes import bindings
from kit import access
from kit.proto_json import to_dict

DOCUMENT = document("1.2.3")
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [(path, verb, operation) for path, item in DOCUMENT["paths"].items() for verb, operation in item.items()]
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]


def operation(name: str) -> dict:
    return next(each for _, _, each in OPERATIONS if each["operationId"] == name)


def walk(value):
    yield value
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in below:
        yield from walk(each)


def schema_validator(name: str):
    return validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


def test_it_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_binding_of_every_public_method_is_in_it():
    found = list(bindings(access.all_methods()))
    assert len(found) > 30
    for binding in found:
        name = binding.method.descriptor.name
        documented = DOCUMENT["paths"][binding.template.text][binding.verb.lower()]
        assert documented["operationId"].startswith(name[0].lower() + name[1:])


def test_routes_written_by_hand_are_in_it():
    paths = DOCUMENT["paths"]
    assert {"/v1/stream", "/v1/media", "/v1/media/{media_id}/content", "/webhooks/meta"} <= paths.keys()
    assert {"/healthz", "/readyz", "/metrics"} <= paths.keys()
    assert set(paths["/webhooks/meta"]) == {"get", "post"}


def test_nothing_internal_is_in_it():
    internal = [method for method in access.all_methods() if method.callers is not None]
    assert internal
    for method in internal:
        name = method.descriptor.name
        assert name[0].lower() + name[1:] not in NAMES
        assert method.descriptor.input_type.name not in SCHEMAS


def test_every_reference_leads_somewhere():
    references = [each["$ref"] for each in walk(DOCUMENT) if isinstance(each, dict) and "$ref" in each]
    assert references
    for reference in references:
        place = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_component_is_used():
    used = {each["$ref"] for each in walk(DOCUMENT) if isinstance(each, dict) and "$ref" in each}
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= used


def test_operation_ids_are_unique():
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize(("path", "verb", "operation"), OPERATIONS, ids=NAMES)
def test_every_operation_tells_what_it_needs_and_how_it_fails(path, verb, operation):
    assert operation["summary"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    variables = set(re.findall(r"{(\w+)}", path))
    assert variables == {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
    if not path.startswith(("/healthz", "/readyz", "/metrics")):
        default = operation["responses"]["default"]["content"]
        assert default["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_reason_is_documented_with_its_words():
    registered = set().union(*access.registered_reasons().values())
    at_the_edge = {error.code for error in HttpError.__subclasses__()}
    documented = {code["code"]: code for code in DOCUMENT["x-error-codes"]}
    assert documented.keys() == registered | at_the_edge
    assert all(code["description"] and 400 <= code["status"] <= 599 for code in documented.values())


def test_a_problem_may_carry_every_documented_reason_and_no_other():
    validator = schema_validator("Problem")
    problem = {"type": "/docs#X", "title": "X", "status": 400, "detail": "", "errors": [], "requestId": "r"}
    for code in DOCUMENT["x-error-codes"]:
        assert validator.is_valid(problem | {"code": code["code"]})
    assert not validator.is_valid(problem | {"code": "MADE_UP"})


def test_reasons_that_a_method_names_are_among_its_failures():
    responses = operation("sendMessage")["responses"]
    assert "WINDOW_CLOSED" in responses["400"]["description"]
    assert "CONVERSATION_NOT_FOUND" in responses["404"]["description"]
    assert "SEND_QUEUE_FULL" in responses["429"]["description"]
    assert "TOKEN_EXPIRED" in responses["401"]["description"]


def test_public_methods_need_no_credentials_and_others_do():
    for binding in bindings(access.all_methods()):
        security = DOCUMENT["paths"][binding.template.text][binding.verb.lower()]["security"]
        if binding.method.permission == access.PUBLIC:
            assert security == []
        else:
            assert {"bearer": []} in security
    assert operation("sendMessage")["security"][1] == {"cookie": [], "csrfToken": []}
    assert operation("listContacts")["security"][1] == {"cookie": []}


def test_comments_of_the_contracts_are_its_words():
    assert operation("listContacts")["summary"] == "List contacts, newest first"
    assert SCHEMAS["Message"]["properties"]["wamid"]["description"].startswith("Meta's id of the message.")
    assert "`agent`, `admin`" in operation("sendMessage")["description"]


def test_rules_of_the_contracts_are_in_the_schemas():
    sent = SCHEMAS["SendMessageRequest"]
    assert sent["additionalProperties"] is False
    assert "conversationId" not in sent["properties"]
    assert sent["properties"]["requestId"]["maxLength"] == 64
    assert {"required": ["text"]} in sent["oneOf"]
    register = SCHEMAS["RegisterRequest"]
    assert set(register["required"]) == {"workspaceName", "name", "email", "password"}
    assert register["properties"]["email"]["format"] == "email"
    assert SCHEMAS["StartConversationRequest"]["properties"]["to"]["pattern"] == r"^\+[1-9][0-9]{6,14}$"
    [media_id] = operation("getMedia")["parameters"]
    assert media_id["schema"]["format"] == "uuid"
    state = next(each for each in operation("listConversations")["parameters"] if each["name"] == "state")
    assert state["schema"]["enum"] == ["", "open", "closed"]


def test_a_field_whose_absence_breaks_a_rule_is_required_and_no_other():
    fields = SendMessageRequest.DESCRIPTOR.fields_by_name
    assert is_required(fields["conversation_id"])
    assert not is_required(fields["request_id"])
    assert not is_required(fields["reply_to_message_id"])
    assert is_required(StartConversationRequest.DESCRIPTOR.fields_by_name["template"])


def test_a_browser_may_leave_out_the_refresh_token():
    assert "required" not in SCHEMAS["RefreshSessionRequest"]


def test_what_the_gateway_prints_fits_the_schema():
    message = ParseDict(
        {
            "id": "m",
            "media": {"mediaId": "x", "sizeBytes": "9007199254740993"},
            "content": {"any": [1, None, {"thing": True}]},
            "createTime": "2026-01-01T00:00:00.123Z",
            "statusHistory": [{"status": "sent", "time": "2026-01-01T00:00:00Z"}],
        },
        Message(),
    )
    validator = schema_validator("Message")
    assert validator.is_valid(to_dict(message))
    assert validator.is_valid(to_dict(Message()))
    assert not validator.is_valid(to_dict(message) | {"createTime": 5})
    assert schema_validator("Contact").is_valid(to_dict(Contact()))


def test_an_aliased_path_is_the_same_call():
    aliased, main = DOCUMENT["paths"]["/auth/login"]["post"], DOCUMENT["paths"]["/v1/auth/login"]["post"]
    assert aliased["requestBody"] == main["requestBody"]
    assert aliased["operationId"] != main["operationId"]


def test_bodies_made_from_the_document_pass_the_contracts_own_rules():
    import protovalidate

    api = schemathesis.openapi.from_dict(DOCUMENT)
    cases = api["/v1/messages"]["POST"].as_strategy()

    @given(case=cases)
    @settings(
        max_examples=50,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        protovalidate.validate(ParseDict(case.body, StartConversationRequest()))

    check()
