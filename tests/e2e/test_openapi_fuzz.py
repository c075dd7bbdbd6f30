"""Whatever the OpenAPI document describes, and whatever it forbids, is sent to the running product by schemathesis.

Never a 5xx; every answer is one that the document promises for that call; refusals are problems whose code the document
names there; what breaks a rule of the document is refused, what breaks none is refused for a stated reason alone.
"""

import asyncio
import base64
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import schemathesis
from schemathesis.engine import StopReason, events, from_schema

from devstack.workspace import Workspace

# Thousands of requests: a minute on a machine that does something else as well.
pytestmark = pytest.mark.timeout(600)

SEED = 20260101
EXAMPLES = 6
FAILURES_SHOWN = 20
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Endless, signed, or bytes: test_bytes_fuzz.py sends these what schemathesis cannot.
BY_HAND = ["/v1/stream", "/webhooks/meta", "/v1/media/{media_id}/content"]
# Rules that JSON Schema has no words for; the document tells them in its descriptions.
BEYOND_SCHEMA = {
    "string.nul",
    "string.unicode",
    "string.max_bytes",
    "text.visible",
    "text.no_nul",
    "retry_parked_events.condition",
}
# Methods that a path does not have: no operation's own answers.
ANY_PATH = {"METHOD_NOT_ALLOWED", "ROUTE_NOT_FOUND"}


@dataclass
class Known:
    """Values that exist, put in the place of most of the invented ones, so that calls get further than a 404."""

    values: dict[str, str] = field(default_factory=dict)
    """By a field's name, or by an operation's and a field's."""
    calls: Counter[str] = field(default_factory=Counter)

    def put_into(self, case: schemathesis.Case) -> None:
        operation_id = case.operation.definition.raw["operationId"]
        image = case.body.get("image") if isinstance(case.body, dict) else None
        is_valid = case.meta is not None and case.meta.generation.mode.is_positive
        parts = [part for part in (case.path_parameters, case.query, case.body, image) if isinstance(part, dict)]
        self.calls[operation_id] += 1
        if self.calls[operation_id] % 4 == 0:
            return
        for members in parts:
            for name, value in members.items():
                known = self.values.get(f"{operation_id}.{name}") or self.values.get(name)
                # Of invalid requests, only what is valid in them: the rest is what is tried.
                if known and (is_uuid(value) or (is_valid and value)):
                    members[name] = known


@dataclass
class Outcome:
    """What a run has brought."""

    wrong: list[str] = field(default_factory=list)
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Seen statuses by operation, such as "GET /v1/me"."""

    def succeeded(self) -> set[str]:
        return {label for label, statuses in self.statuses.items() if min(statuses) < 300}

    def in_words(self) -> str:
        return "\n".join([f"{len(self.wrong)} failures", *self.wrong[:FAILURES_SHOWN]])


@schemathesis.check
def refusals_are_documented_problems(context: Any, response: Any, case: schemathesis.Case) -> None:
    """Beside the schema of problems, which schemathesis itself checks."""
    if response.status_code < 400 or is_probe(case):
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert [problem["requestId"]] == response.headers["x-request-id"]
    documented = case.operation.definition.raw["responses"].get(str(response.status_code), {}).get("description", "")
    assert problem["code"] in ANY_PATH or f"`{problem['code']}`" in documented, f"undocumented: {problem}"
    if problem["code"] == "INVALID_REQUEST":
        assert problem["errors"], f"names no field: {problem}"
        assert all(error["rule"] and error["message"] for error in problem["errors"])


@schemathesis.check
def what_breaks_no_rule_is_refused_for_a_reason(context: Any, response: Any, case: schemathesis.Case) -> None:
    """A valid request may still be wrong: the window is closed, the page token is not ours. It is never malformed."""
    if response.status_code != 400 or case.meta is None or case.meta.generation.mode.is_negative:
        return
    problem = response.json()
    if problem["code"] == "INVALID_REQUEST":
        rules = {error["rule"] for error in problem["errors"]}
        assert rules <= BEYOND_SCHEMA or is_refresh_without_cookie(case, problem), f"the document allows it: {problem}"


@schemathesis.check
def unknown_members_are_refused(context: Any, response: Any, case: schemathesis.Case) -> None:
    if response.status_code < 400 and isinstance(case.body, dict):
        unknown = set(case.body) - members_of(case)
        assert not unknown, f"accepted {unknown}"


@pytest.fixture(autouse=True)
async def forgiven(product):
    """Log-ins that fail by the dozen make their address wait; other tests come from the same one."""
    yield
    database = await asyncpg.connect(product.database("auth").superuser_url)
    await database.execute("DELETE FROM login_failures")
    await database.close()


async def test_an_admin_meets_only_what_the_document_promises(shop: Workspace) -> None:
    known = await known_in(shop)
    outcome = await asyncio.to_thread(fuzz, shop.api, await shop.get("/openapi.json"), shop.token, known)
    assert not outcome.wrong, outcome.in_words()
    for_super_admins = {label for label in outcome.statuses if "/v1/admin/" in label}
    # Only a file that failed can be fetched again, and only whom the operator invited can accept: neither is here.
    for_nobody = {"POST /v1/media/{media_id}:retry", "POST /v1/auth/accept-invitation"}
    assert set(outcome.statuses) - outcome.succeeded() == for_super_admins | for_nobody
    assert all(outcome.statuses[label] <= {400, 403, 405, 415} for label in for_super_admins)
    assert (await shop.get("/v1/me"))["role"] == "admin"


async def test_a_stranger_gets_nowhere(shop: Workspace) -> None:
    document = await shop.get("/openapi.json")
    outcome = await asyncio.to_thread(fuzz, shop.api, document, "", await known_in(shop))
    assert not outcome.wrong, outcome.in_words()
    closed = {
        f"{verb.upper()} {path}"
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
        if operation["security"]
    }
    assert len(closed) > 20
    assert not closed & outcome.succeeded()


async def test_a_super_admin_meets_only_what_the_document_promises(super_admin: Workspace, shop: Workspace) -> None:
    known = Known({"tenant_id": shop.tenant_id})
    document = await shop.get("/openapi.json")
    outcome = await asyncio.to_thread(fuzz, shop.api, document, super_admin.token, known, path_regex="^/v1/admin/")
    assert not outcome.wrong, outcome.in_words()
    assert {"GET /v1/admin/tenants/{tenant_id}", "POST /v1/admin/tenants/{tenant_id}:suspend"} <= outcome.succeeded()


def fuzz(api: str, document: dict[str, Any], token: str, known: Known, **only: Any) -> Outcome:
    """The same requests in every run: those on the borders of each rule, and some by chance."""
    config = schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "base-url": api,
            "continue-on-failure": True,
            "request-timeout": 30,
            "auth": {"auto-signup": False},
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True, "database": "none"},
            "phases": {"examples": {"enabled": False}, "stateful": {"enabled": False}},
            # The stricter check above stands in for it.
            "checks": {"positive_data_acceptance": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config).exclude(path=BY_HAND)
    if only:
        schema = schema.include(**only)

    @schema.hook
    def map_case(context: Any, case: schemathesis.Case) -> schemathesis.Case:
        known.put_into(case)
        return case

    @schema.hook
    def filter_failure(context: Any, failure: Any, case: schemathesis.Case, response: Any) -> bool:
        # Null means absent in proto3 JSON. The document does not offer it, to keep the types of clients simple.
        return type(failure).__name__ != "AcceptedNegativeData" or not holds_null(case.body)

    outcome = Outcome()
    for event in from_schema(schema).execute():
        note(event, outcome)
    return outcome


def note(event: events.EngineEvent, outcome: Outcome) -> None:
    match event:
        case events.NonFatalError():
            outcome.wrong.append(f"{event.label}: {event.value!r}")
        case events.EngineFinished():
            assert event.stop_reason is StopReason.COMPLETED
        case events.ScenarioFinished():
            recorder = event.recorder
            answers = [each.response for each in recorder.interactions.values()]
            assert all(answers), f"{event.label} got no answer"
            outcome.statuses[event.label] |= {answer.status_code for answer in answers}
            for check in (check for checks in recorder.checks.values() for check in checks):
                if found := check.failure_info:
                    told = f"{check.name}: {found.failure.title}: {found.failure.message}"
                    outcome.wrong.append(f"{event.label} {told[:1000]}\n    {found.code_sample[:1000]}")


async def known_in(shop: Workspace) -> Known:
    """One of everything, and a second where a call would use it up."""
    await shop.customer_writes("16505550400", "Hello")
    await shop.customer_writes("16505550401", "Goodbye")
    talk, ended = [await shop.conversation_with(wa_id) for wa_id in ("16505550400", "16505550401")]
    [message] = await shop.messages(talk["id"])
    headers = {"Authorization": f"Bearer {shop.token}", "Content-Type": "image/png"}
    async with shop.http.post(f"{shop.api}/v1/media", data=PIXEL, headers=headers) as response:
        media = await response.json()
    account, spare = shop.account, await shop.connect()
    fresh = await shop.control("POST", "/_emulator/numbers", {})
    to_connect = {f"createWhatsAppAccount.{name}": fresh[name] for name in ("wabaId", "phoneNumberId", "accessToken")}
    person = {"email": shop.email, "password": shop.password}
    another = await shop.post("/v1/auth/login", person)
    return Known(
        {
            **to_connect,
            **{f"login.{name}": value for name, value in person.items()},
            **{f"login_auth_login.{name}": value for name, value in person.items()},
            "refreshSession.refreshToken": another["refreshToken"],
            "register.email": f"new-{shop.email}",
            "conversation_id": talk["id"],
            "closeConversation.conversation_id": ended["id"],
            "contact_id": talk["contact"]["id"],
            "contactId": talk["contact"]["id"],
            "message_id": message["id"],
            "replyToMessageId": message["id"],
            "media_id": media["id"],
            "mediaId": media["id"],
            "whatsapp_account_id": account["id"],
            "whatsappAccountId": account["id"],
            "deleteWhatsAppAccount.whatsapp_account_id": spare["id"],
            "tenantId": shop.tenant_id,
        }
    )


def is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def is_probe(case: schemathesis.Case) -> bool:
    """HEAD has no body, whatever the answer is."""
    return case.method == "HEAD"


def is_refresh_without_cookie(case: schemathesis.Case, problem: dict[str, Any]) -> bool:
    """The document cannot say "in the body, unless in a cookie"."""
    return case.operation.path == "/v1/auth/refresh" and [e["field"] for e in problem["errors"]] == ["refreshToken"]


def holds_null(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(holds_null, value.values() if isinstance(value, dict) else value))
    return value is None


def members_of(case: schemathesis.Case) -> set[str]:
    [content] = case.operation.definition.raw["requestBody"]["content"].values()
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    schema = case.operation.schema.raw_schema["components"]["schemas"][name] if name else content["schema"]
    return set(schema["properties"])
