"""Bad input gets one clear answer that names the field and the rule, and changes nothing."""

import contextlib
import json
import uuid

import asyncpg
import pytest

from devstack.workspace import Refused, until

HASH = "X-Hub-Signature-256"


async def conversation_of(shop) -> dict:
    await shop.customer_writes("16505550300", "Hello")
    return await shop.conversation_with("16505550300")


async def raw(shop, method: str, path: str, **options):
    headers = {"Authorization": f"Bearer {shop.token}", **options.pop("headers", {})}
    async with shop.http.request(method, f"{shop.api}{path}", headers=headers, **options) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else {}


async def test_malformed_json(shop) -> None:
    status, problem = await raw(
        shop, "POST", "/v1/messages", data=b'{"to": ', headers={"Content-Type": "application/json"}
    )
    assert status == 400
    assert problem["title"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": {"body": "x"}, "txet": {}}, "txet"),
        ({"text": {"body": 5}}, "text.body"),
        ({"text": {"body": ""}}, "text.body"),
        ({"text": {"body": "x" * 4097}}, "text.body"),
        ({"text": {"body": "x"}, "requestId": "not allowed!"}, "requestId"),
        ({"text": {"body": "x"}, "replyToMessageId": "7"}, "replyToMessageId"),
        ({"template": {"name": "Upper", "language": "en_US"}}, "template.name"),
    ],
)
async def test_a_wrong_field_is_named(shop, body: dict, field: str) -> None:
    conversation = await conversation_of(shop)
    with pytest.raises(Refused) as refused:
        await shop.post(f"/v1/conversations/{conversation['id']}/messages", body)
    assert refused.value.status == 400
    assert field in [error["field"] for error in refused.value.problem["errors"]]
    assert all(error["message"] for error in refused.value.problem["errors"])
    assert len(await shop.messages(conversation["id"])) == 1


async def test_no_content_and_two_contents_are_refused(shop) -> None:
    conversation = await conversation_of(shop)
    for body in ({}, {"text": {"body": "x"}, "image": {"mediaId": str(uuid.uuid4())}}):
        with pytest.raises(Refused) as refused:
            await shop.post(f"/v1/conversations/{conversation['id']}/messages", body)
        assert refused.value.status == 400


async def test_unknown_ids_do_not_exist(shop) -> None:
    unknown = uuid.uuid4()
    for path in (f"/v1/conversations/{unknown}", f"/v1/messages/{unknown}", f"/v1/contacts/{unknown}"):
        with pytest.raises(Refused) as refused:
            await shop.get(path)
        assert refused.value.status == 404
    with pytest.raises(Refused) as refused:
        await shop.get("/v1/conversations/not-an-id")
    assert refused.value.status == 400


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
    path = f"/v1/conversations/{conversation['id']}/messages"
    sent = await shop.post(path, {"template": {"name": "hello_world", "language": "en_US"}})
    await shop.message_reaches(sent["id"], "read")


async def test_missing_forged_and_mangled_tokens(shop) -> None:
    good = shop.token
    header, payload, signature = good.split(".")
    for token, code in [
        ("", "TOKEN_MISSING"),
        ("rubbish", "TOKEN_INVALID"),
        (f"{header}.{payload}.{signature[::-1]}", "TOKEN_INVALID"),
        (f"{header}.{payload[:-4]}AAAA.{signature}", "TOKEN_INVALID"),
    ]:
        shop.token = token
        with pytest.raises(Refused) as refused:
            await shop.get("/v1/me")
        assert (refused.value.status, refused.value.code) == (401, code)
    shop.token = good
    assert (await shop.get("/v1/me"))["role"] == "admin"


async def test_webhooks_with_bad_signatures_are_refused_without_a_word(shop, product) -> None:
    body = b'{"object":"whatsapp_business_account","entry":[]}'
    for headers in ({}, {HASH: "sha256=" + "0" * 64}, {HASH: "rubbish"}):
        async with shop.http.post(f"{shop.api}/webhooks/meta", data=body, headers=headers) as response:
            assert response.status == 401
            assert await response.read() == b""


async def test_a_replayed_webhook_is_stored_once(shop) -> None:
    wamid = await shop.customer_writes("16505550301", "Once")
    conversation = await shop.conversation_with("16505550301")
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "1", "phone_number_id": shop.phone_number_id},
        "contacts": [{"profile": {"name": "Customer"}, "wa_id": "16505550301"}],
        "messages": [
            {"from": "16505550301", "id": wamid, "timestamp": "1790000000", "type": "text", "text": {"body": "Once"}}
        ],
    }
    entry = {"id": shop.number["wabaId"], "changes": [{"field": "messages", "value": value}]}
    body = {"object": "whatsapp_business_account", "entry": [entry]}
    for _ in range(3):
        async with shop.http.post(f"{shop.emulator}/_emulator/replay", json=body) as response:
            assert response.status == 200
    await shop.customer_writes("16505550301", "Twice")

    async def second_there() -> list | None:
        messages = await shop.messages(conversation["id"])
        return messages if messages[-1]["text"]["body"] == "Twice" else None

    assert len(await until(second_there, "the next message")) == 2


async def test_a_hundred_megabytes_are_refused_early(shop) -> None:
    async def endless():
        for _ in range(100):
            yield b"x" * 1024 * 1024

    for path in ("/webhooks/meta", "/v1/messages"):
        headers = {"Authorization": f"Bearer {shop.token}", "Content-Type": "application/json"}
        # The answer may be cut off together with the upload.
        with contextlib.suppress(ConnectionError, OSError):
            async with shop.http.post(f"{shop.api}{path}", data=endless(), headers=headers) as response:
                assert response.status == 413
        assert (await shop.get("/v1/me"))["role"] == "admin"
