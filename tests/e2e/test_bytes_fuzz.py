"""What schemathesis cannot speak: signed webhooks with every shape wrong, the endless stream, and bytes of files."""

import asyncio
import copy
import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from devstack.workspace import Json, until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + bytes(range(256)) * 8
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
PART = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
STRANGE = [None, True, -1, 1e300, "", "\x00\ud800", "9" * 5000, [], {}, [[{}]], {"": {"id": []}}]


def webhook(shop, wa_id: str, wamid: str) -> Json:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "16505550000", "phone_number_id": shop.phone_number_id},
        "contacts": [{"profile": {"name": "Customer"}, "wa_id": wa_id}],
        "messages": [{"from": wa_id, "id": wamid, "timestamp": "1790000000", "type": "text", "text": {"body": "?"}}],
        "statuses": [{"id": wamid, "status": "sent", "timestamp": "1790000000", "recipient_id": wa_id}],
    }
    change = {"field": "messages", "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": shop.number["wabaId"], "changes": [change]}]}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside, containers included."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def spoilt(body: Json) -> Iterator[Json]:
    """The body with one value replaced by something strange, for every value and everything strange; and with one
    value left out."""
    for path in places(body):
        for strange in [*STRANGE, ...]:
            changed = copy.deepcopy(body)
            *above, last = path
            owner = changed
            for key in above:
                owner = owner[key]
            if strange is ...:
                del owner[last]
            else:
                owner[last] = strange
            yield changed


async def test_no_webhook_of_a_wrong_shape_holds_up_the_next(shop) -> None:
    whole = webhook(shop, "16505550410", "wamid.FUZZ")
    text = json.dumps(whole).encode()
    bodies = [json.dumps(body).encode() for body in spoilt(whole)]
    bodies += [text[:cut] for cut in range(0, len(text), 60)]
    bodies += [b"", b"\xff\xfe", b"null", b"[" * 100_000, b'{"entry":' * 5_000, text.replace(b"?", b"\xc3("), text * 2]
    waiting = asyncio.Semaphore(20)

    async def deliver(body: bytes) -> int:
        async with waiting, shop.http.post(f"{shop.emulator}/_emulator/replay", data=body) as response:
            return response.status

    answers = await asyncio.gather(*(deliver(body) for body in bodies))
    assert set(answers) == {200}, "a signed webhook is kept, whatever is in it"
    # The same contact has the same partition: what is behind the rubbish has passed it.
    await shop.customer_writes("16505550410", "Still there?")
    conversation = await shop.conversation_with("16505550410")

    async def passed() -> Json | None:
        messages = await shop.messages(conversation["id"])
        return next((each for each in messages if each.get("text", {}).get("body") == "Still there?"), None)

    await until(passed, "the message behind the rubbish")
    assert (await shop.get("/v1/contacts"))["contacts"]


async def test_what_could_not_be_read_waits_with_its_reason(shop, super_admin) -> None:
    body = webhook(shop, "16505550411", "wamid.PARKED")
    body["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "404404404404"
    async with shop.http.post(f"{shop.emulator}/_emulator/replay", json=body) as response:
        assert response.status == 200

    async def parked() -> Json | None:
        events = (await super_admin.get("/v1/admin/parked-events?reason=unknown_number&pageSize=200"))["parkedEvents"]
        return next((event for event in events if event.get("phoneNumberId") == "404404404404"), None)

    event = await until(parked, "the parked webhook")
    assert "wamid.PARKED" in event["body"]
    assert event["detail"]


@pytest.mark.parametrize("query", ["", "hub.mode=subscribe", "hub.mode=subscribe&hub.verify_token=x&hub.challenge=y"])
async def test_whoever_does_not_know_the_verify_token_gets_no_challenge(shop, query: str) -> None:
    async with shop.http.get(f"{shop.api}/webhooks/meta?{query}") as response:
        assert (response.status, await response.read()) == (403, b"")


@pytest.mark.parametrize("position", ["x", "-1", "1-", "1-2-3", "9" * 19, "9" * 400, "1e3", "٣", "'; --", "0x10", " "])
async def test_a_position_that_no_event_has_is_named(shop, position: str) -> None:
    headers = {"Authorization": f"Bearer {shop.token}"}
    for name, sent in (
        ("lastEventId", {"params": {"lastEventId": position}}),
        ("Last-Event-ID", {"headers": {"Last-Event-ID": position}}),
    ):
        if name == "Last-Event-ID" and not position.isascii():
            continue
        options = {**sent, "headers": {**headers, **sent.get("headers", {})}}
        async with shop.http.get(f"{shop.api}/v1/stream", **options) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["code"]) == (400, "INVALID_REQUEST")
            assert problem["errors"][0]["field"] == name


async def test_a_stream_takes_no_other_parameter_and_no_stranger(shop) -> None:
    headers = {"Authorization": f"Bearer {shop.token}"}
    for method, path, sent, expected in (
        ("GET", "/v1/stream?tenantId=1", headers, (400, "INVALID_REQUEST")),
        ("GET", "/v1/stream", {}, (401, "TOKEN_MISSING")),
        ("GET", "/v1/stream", {"Authorization": "Bearer x.y.z"}, (401, "TOKEN_INVALID")),
        ("GET", "/v1/stream", {"Authorization": "Basic eA=="}, (401, "TOKEN_INVALID")),
        ("POST", "/v1/stream", headers, (405, "METHOD_NOT_ALLOWED")),
    ):
        async with shop.http.request(method, f"{shop.api}{path}", headers=sent) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["code"]) == expected


async def test_a_position_of_the_future_waits_for_what_comes(shop) -> None:
    async with shop.stream(last_event_id="999999999999") as live:
        await shop.customer_writes("16505550412", "Hello")
        await shop.conversation_with("16505550412")
        await live.until(lambda stream: bool(stream.events), "any event, or the word that the position is none")


@pytest.mark.parametrize(
    ("range_", "status", "content"),
    [
        ("bytes=0-3", 206, PNG[:4]),
        ("bytes=-3", 206, PNG[-3:]),
        ("bytes=2060-", 206, PNG[2060:]),
        ("bytes=5-999999", 206, PNG[5:]),
        ("bytes=3-1", 200, PNG),
        ("bytes=-", 200, PNG),
        ("bytes=0-1,3-4", 200, PNG),
        ("lines=1-2", 200, PNG),
        ("bytes=" + "9" * 30 + "-", 200, PNG),
        ("bytes=999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
async def test_ranges_of_a_file(shop, range_: str, status: int, content: bytes | None) -> None:
    headers = {"Authorization": f"Bearer {shop.token}"}
    async with shop.http.post(
        f"{shop.api}/v1/media", data=PNG, headers={**headers, "Content-Type": "image/png"}
    ) as response:
        media = await response.json()
    url = f"{shop.api}/v1/media/{media['id']}/content"
    async with shop.http.get(url, headers={**headers, "Range": range_}) as response:
        assert response.status == status
        if content is not None:
            assert await response.read() == content
        else:
            assert (await response.json(content_type=None))["code"] == "RANGE_NOT_SATISFIABLE"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {"Content-Type": "image/png"}, "MEDIA_INCOMPLETE"),
        (PNG, {"Content-Type": "image/jpeg"}, "MEDIA_TYPE_MISMATCH"),
        (PNG, {"Content-Type": "application/x-msdownload"}, "MEDIA_TYPE_UNSUPPORTED"),
        (PNG, {"Content-Type": "image"}, "CONTENT_TYPE_UNSUPPORTED"),
        (PNG, {"Content-Type": "image/png", "Content-Encoding": "gzip"}, "CONTENT_TYPE_UNSUPPORTED"),
        (PNG, {"Content-Type": "image/png", "Content-Disposition": 'x; filename="../a"'}, "INVALID_REQUEST"),
        (b"x" * (5 * 1024 * 1024 + 1), {"Content-Type": "image/png"}, "MEDIA_TYPE_MISMATCH"),
        (PNG + bytes(5 * 1024 * 1024), {"Content-Type": "image/png"}, "MEDIA_TOO_LARGE"),
        (bytes(17 * 1024 * 1024), {"Content-Type": "image/png"}, "BODY_TOO_LARGE"),
        (PART + PNG, FORM, "INVALID_REQUEST"),
        (PART + PNG + b"\r\n" + PART + PNG + b"\r\n--B--\r\n", FORM, "INVALID_REQUEST"),
        (PART.replace(b'"file"', b'"elif"') + PNG + b"\r\n--B--\r\n", FORM, "INVALID_REQUEST"),
        (PART.replace(b"a.png", b"\xff.png") + PNG + b"\r\n--B--\r\n", FORM, "INVALID_REQUEST"),
        (b"--B--\r\n", FORM, "INVALID_REQUEST"),
        (b"\x00" * 1000, FORM, "INVALID_REQUEST"),
        (PART + PNG, {"Content-Type": "multipart/form-data"}, "CONTENT_TYPE_UNSUPPORTED"),
    ],
)
async def test_a_file_that_is_refused_leaves_nothing(shop, product, body: bytes, headers: dict, code: str) -> None:
    headers = {"Authorization": f"Bearer {shop.token}", **headers}
    async with shop.http.post(f"{shop.api}/v1/media", data=io.BytesIO(body), headers=headers) as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status >= 400, problem["code"]) == (True, code)
        assert problem["detail"]
    assert await stored(product, shop.tenant_id) == []


async def stored(product, tenant_id: str) -> list:
    database = await asyncpg.connect(product.database("messaging").superuser_url)
    try:
        return await database.fetch("SELECT id FROM media WHERE tenant_id = $1", uuid.UUID(tenant_id))
    finally:
        await database.close()
