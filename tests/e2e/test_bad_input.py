"""Bad input gets one clear answer that names the field and the rule, and changes nothing."""

import asyncio
import contextlib
import hmac
import json
import uuid

import aiohttp
import asyncpg
import pytest
from yarl import URL

from devstack.workspace import Refused, Workspace, until

HASH = "X-Hub-Signature-256"
TEMPLATE = {"name": "hello_world", "language": "en_US"}


async def conversation_of(shop) -> dict:
    await shop.customer_writes("16505550300", "Hello")
    return await shop.conversation_with("16505550300")


async def raw(shop, method: str, path: str, **options):
    headers = {"Authorization": f"Bearer {shop.token}", **options.pop("headers", {})}
    url = URL(f"{shop.api}{path}", encoded=True)
    async with shop.http.request(method, url, headers=headers, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else {}


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (b'{"text": ', "", "json.syntax"),
        (b"text=hello", "", "json.syntax"),
        (b'{"text": {"body": "\xff"}}', "", "json.utf8"),
        (b'["text"]', "", "json.type"),
        (b'{"text": {"body": "a"}, "text": {"body": "b"}}', "text", "json.duplicate_key"),
        (b'{"text": {"body": "a"}, "text": NaN}', "", "json.number"),
        (b'{"text": {"body": "\\ud800"}}', "text.body", "string.unicode"),
        (b'{"text": {"body": "a\\u0000"}}', "text.body", "string.nul"),
        (b'{"text": ' * 100 + b"1" + b"}" * 100, "", "json.depth"),
    ],
)
async def test_malformed_json_is_told_what_is_wrong(shop, body: bytes, field: str, rule: str) -> None:
    conversation = await conversation_of(shop)
    path, headers = f"/v1/conversations/{conversation['id']}/messages", {"Content-Type": "application/json"}
    status, problem = await raw(shop, "POST", path, data=body, headers=headers)
    assert (status, problem["code"]) == (400, "INVALID_REQUEST")
    [error] = problem["errors"]
    assert error["rule"] == rule
    assert error["field"].startswith(field)
    assert error["message"]
    assert len(await shop.messages(conversation["id"])) == 1


async def test_a_body_of_another_type_is_refused(shop) -> None:
    conversation = await conversation_of(shop)
    path = f"/v1/conversations/{conversation['id']}/messages"
    status, problem = await raw(shop, "POST", path, data={"text": "hello"})
    assert (status, problem["code"]) == (415, "CONTENT_TYPE_UNSUPPORTED")
    assert problem["errors"][0]["field"] == "Content-Type"
    assert len(await shop.messages(conversation["id"])) == 1


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"text": {"body": "x"}, "txet": {}}, "txet", "json.unknown_field"),
        ({"text": {"body": "x", "bold": True}}, "text.bold", "json.unknown_field"),
        ({"text": {"body": "x"}, "tenantId": str(uuid.uuid4())}, "tenantId", "json.unknown_field"),
        ({"text": {"body": "x"}, "conversationId": str(uuid.uuid4())}, "conversationId", "json.path_field"),
        ({"text": {"body": 5}}, "text.body", "json.type"),
        ({"text": "x"}, "text", "json.type"),
        ({"text": {"body": "x", "previewUrl": "yes"}}, "text.previewUrl", "json.type"),
        ({"template": {"name": "a", "language": "en", "components": {}}}, "template.components", "json.type"),
        ({"text": {"body": ""}}, "text.body", "string.min_len"),
        ({"text": {"body": " \n\u200b"}}, "text.body", "text.visible"),
        ({"text": {"body": "x" * 4097}}, "text.body", "string.max_len"),
        ({"image": {"mediaId": str(uuid.uuid4()), "caption": "x" * 1025}}, "image.caption", "string.max_len"),
        ({"text": {"body": "x"}, "requestId": "x" * 65}, "requestId", "string.max_len"),
        ({"text": {"body": "x"}, "requestId": "not allowed!"}, "requestId", "string.pattern"),
        ({"text": {"body": "x"}, "replyToMessageId": "7"}, "replyToMessageId", "string.uuid"),
        ({"template": {"name": "Upper", "language": "en_US"}}, "template.name", "string.pattern"),
        ({"template": {"name": "a", "language": "english"}}, "template.language", "string.pattern"),
    ],
)
async def test_a_wrong_field_is_named_with_its_rule(shop, body: dict, field: str, rule: str) -> None:
    conversation = await conversation_of(shop)
    with pytest.raises(Refused) as refused:
        await shop.post(f"/v1/conversations/{conversation['id']}/messages", body)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")
    assert (field, rule) in [(error["field"], error["rule"]) for error in refused.value.problem["errors"]]
    assert all(error["message"] for error in refused.value.problem["errors"])
    assert len(await shop.messages(conversation["id"])) == 1


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("pageSize=ten", "pageSize", "query.type"),
        ("pageSize=-1", "pageSize", "int32.gte"),
        ("pageSize=99999999999", "pageSize", "query.range"),
        ("pageToken=rubbish", "pageToken", "page_token"),
        ("pageToken=" + "x" * 1025, "pageToken", "string.max_len"),
        ("state=ajar", "state", "string.in"),
        ("contactId=7", "contactId", "string.uuid"),
        ("state=open&state=closed", "state", "query.duplicate"),
        ("order=asc", "order", "query.unknown"),
        ("state=%ff", "", "query.syntax"),
    ],
)
async def test_a_wrong_parameter_is_named_with_its_rule(shop, query: str, field: str, rule: str) -> None:
    status, problem = await raw(shop, "GET", f"/v1/conversations?{query}")
    assert status == 400
    assert problem["code"] in {"INVALID_REQUEST", "PAGE_TOKEN_INVALID"}
    assert (field, rule) in [(error["field"], error["rule"]) for error in problem["errors"]]


async def test_no_content_and_two_contents_are_refused(shop) -> None:
    conversation = await conversation_of(shop)
    for body in ({}, {"text": {"body": "x"}, "image": {"mediaId": str(uuid.uuid4())}}):
        with pytest.raises(Refused) as refused:
            await shop.post(f"/v1/conversations/{conversation['id']}/messages", body)
        assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")
        assert {error["field"] for error in refused.value.problem["errors"]} <= {"content", "text", "image"}
    assert len(await shop.messages(conversation["id"])) == 1


async def test_unknown_ids_do_not_exist(shop) -> None:
    unknown = uuid.uuid4()
    for path, code in (
        (f"/v1/conversations/{unknown}", "CONVERSATION_NOT_FOUND"),
        (f"/v1/conversations/{unknown}/messages", "CONVERSATION_NOT_FOUND"),
        (f"/v1/messages/{unknown}", "MESSAGE_NOT_FOUND"),
        (f"/v1/contacts/{unknown}", "CONTACT_NOT_FOUND"),
        (f"/v1/media/{unknown}", "MEDIA_NOT_FOUND"),
        (f"/v1/whatsapp-accounts/{unknown}", "WHATSAPP_ACCOUNT_NOT_FOUND"),
        ("/v1/nothing-here", "ROUTE_NOT_FOUND"),
    ):
        with pytest.raises(Refused) as refused:
            await shop.get(path)
        assert (refused.value.status, refused.value.code) == (404, code)
    with pytest.raises(Refused) as refused:
        await shop.get("/v1/conversations/not-an-id")
    assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")
    [error] = refused.value.problem["errors"]
    assert (error["field"], error["rule"]) == ("conversationId", "string.uuid")
    with pytest.raises(Refused) as refused:
        await shop.answer(str(unknown), "To nobody")
    assert (refused.value.status, refused.value.code) == (404, "CONVERSATION_NOT_FOUND")
    assert await shop.conversations() == []


@pytest.mark.parametrize(
    "to", ["16505550310", "+0650555031", "+1650", "+1650555031012345", "+1 650 555 0310", "call me"]
)
async def test_a_number_that_cannot_be_is_refused(shop, to: str) -> None:
    with pytest.raises(Refused) as refused:
        await shop.post("/v1/messages", {"to": to, "template": TEMPLATE})
    assert (refused.value.status, refused.value.code) == (400, "INVALID_REQUEST")
    [error] = refused.value.problem["errors"]
    assert (error["field"], error["rule"]) == ("to", "string.pattern")
    assert (await shop.get("/v1/contacts"))["contacts"] == []


async def test_a_number_that_is_not_connected_sends_nothing(shop) -> None:
    body = {"to": "+16505550311", "template": TEMPLATE}
    unknown = {**body, "whatsappAccountId": str(uuid.uuid4())}
    conversation = await conversation_of(shop)
    with pytest.raises(Refused) as refused:
        await shop.post("/v1/messages", unknown)
    assert (refused.value.status, refused.value.code) == (400, "NUMBER_NOT_CONNECTED")
    await shop.call("DELETE", f"/v1/whatsapp-accounts/{shop.account['id']}")

    async def refuses(call) -> bool:
        try:
            await call
        except Refused as problem:
            return (problem.status, problem.code) == (400, "NUMBER_NOT_CONNECTED")
        return False

    async def noticed() -> bool | None:
        return await refuses(shop.answer(conversation["id"], "Are you there?")) or None

    await until(noticed, "the refusal of a send from the disconnected number", seconds=20)
    assert await refuses(shop.post("/v1/messages", body))
    assert [contact["waId"] for contact in (await shop.get("/v1/contacts"))["contacts"]] == ["16505550300"]


async def test_a_workspace_without_a_number_sends_nothing(product) -> None:
    async with Workspace.registered(product.url("gateway"), product.url("meta-emulator")) as newcomer:
        with pytest.raises(Refused) as refused:
            await newcomer.post("/v1/messages", {"to": "+16505550312", "template": TEMPLATE})
        assert (refused.value.status, refused.value.code) == (400, "NUMBER_NOT_CONNECTED")
        assert await newcomer.conversations() == []


async def test_a_closed_window_lets_only_templates_through(shop, product) -> None:
    conversation = await conversation_of(shop)
    database = await asyncpg.connect(product.database("messaging").superuser_url)
    await database.execute(
        "UPDATE conversations SET customer_wrote_at = now() - interval '24 hours 1 second' WHERE id = $1",
        uuid.UUID(conversation["id"]),
    )
    await database.close()
    with pytest.raises(Refused) as refused:
        await shop.answer(conversation["id"], "Too late")
    assert (refused.value.status, refused.value.code) == (400, "WINDOW_CLOSED")
    assert {"windowExpireTime", "lastCustomerMessageTime"} <= refused.value.problem["metadata"].keys()
    assert len(await shop.messages(conversation["id"])) == 1
    path = f"/v1/conversations/{conversation['id']}/messages"
    sent = await shop.post(path, {"template": {"name": "hello_world", "language": "en_US"}})
    await shop.message_reaches(sent["id"], "read")


async def test_webhooks_with_bad_signatures_are_refused_without_a_word_and_forgotten(shop, product) -> None:
    secret = product.settings["AEROSTIC_META_APP_SECRET"].encode()
    conversation = await conversation_of(shop)
    body = json.dumps(webhook(shop, "16505550300", "wamid.FORGED", "Forged")).encode()
    good = hmac.digest(secret, body, "sha256").hex()
    for headers in (
        {},
        {HASH: f"sha256={'0' * 64}"},
        {HASH: f"sha256={hmac.digest(b'guessed', body, 'sha256').hex()}"},
        {HASH: f"sha256={hmac.digest(secret, body + b' ', 'sha256').hex()}"},
        {HASH: f"sha1={hmac.digest(secret, body, 'sha1').hex()}"},
        {HASH: good},  # without the name of the algorithm
        {HASH: f"SHA256={good}"},
        {HASH: "rubbish"},
        {HASH: "sha256=" + "é" * 64},
    ):
        async with shop.http.post(f"{shop.api}/webhooks/meta", data=body, headers=headers) as response:
            assert response.status == 401
            assert await response.read() == b""
    await shop.customer_writes("16505550300", "Genuine")

    async def genuine_there() -> list | None:
        texts = [message["text"]["body"] for message in await shop.messages(conversation["id"])]
        return texts if "Genuine" in texts else None

    assert await until(genuine_there, "the genuine message") == ["Hello", "Genuine"]


async def test_a_replayed_webhook_is_stored_once(shop) -> None:
    wamid = await shop.customer_writes("16505550301", "Once")
    conversation = await shop.conversation_with("16505550301")
    body = webhook(shop, "16505550301", wamid, "Once")
    for _ in range(3):
        async with shop.http.post(f"{shop.emulator}/_emulator/replay", json=body) as response:
            assert response.status == 200
    await shop.customer_writes("16505550301", "Twice")

    async def second_there() -> list | None:
        messages = await shop.messages(conversation["id"])
        return messages if messages[-1]["text"]["body"] == "Twice" else None

    assert len(await until(second_there, "the next message")) == 2


@pytest.mark.parametrize("path", ["/webhooks/meta", "/v1/messages", "/v1/auth/login", "/v1/media"])
async def test_a_hundred_megabytes_are_refused_by_their_head(shop, path: str) -> None:
    host, _, port = shop.api.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    kind = "image/png" if path == "/v1/media" else "application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.token}\r\nContent-Type: {kind}\r\n"
    writer.write(f"{head}Content-Length: 104857600\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    problem = json.loads(await reader.readexactly(length))
    writer.close()
    assert (problem["status"], problem["code"]) == (413, "BODY_TOO_LARGE")
    assert problem["errors"][0]["rule"] == "body.max_bytes"


async def test_a_hundred_megabytes_of_unknown_length_are_cut_off(shop) -> None:
    async def endless():
        for _ in range(100):
            yield b"x" * 1024 * 1024

    for path in ("/webhooks/meta", "/v1/messages"):
        headers = {"Authorization": f"Bearer {shop.token}", "Content-Type": "application/json"}
        # The answer may be cut off together with the upload.
        with contextlib.suppress(aiohttp.ClientConnectionError, OSError):
            async with shop.http.post(f"{shop.api}{path}", data=endless(), headers=headers) as response:
                assert response.status == 413
        assert (await shop.get("/v1/me"))["role"] == "admin"


def webhook(shop, wa_id: str, wamid: str, text: str) -> dict:
    """As Meta says that a customer wrote."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "1", "phone_number_id": shop.phone_number_id},
        "contacts": [{"profile": {"name": "Customer"}, "wa_id": wa_id}],
        "messages": [{"from": wa_id, "id": wamid, "timestamp": "1790000000", "type": "text", "text": {"body": text}}],
    }
    entry = {"id": shop.number["wabaId"], "changes": [{"field": "messages", "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}
