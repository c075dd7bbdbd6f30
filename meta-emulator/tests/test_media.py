import base64
import hashlib
import io

import aiohttp
import pytest
from aiohttp import web

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
USER = "491701234567"


def form(content=PNG, mime="image/png", *, product="whatsapp", filename="x.png", declare=True):
    data = aiohttp.FormData()
    if product:
        data.add_field("messaging_product", product)
    if declare:
        data.add_field("type", mime)
    if content is not None:
        data.add_field("file", io.BytesIO(content), content_type=mime, filename=filename)
    return data


async def upload(rig, number, **more):
    return await rig.call("POST", f"/v24.0/{number.id}/media", headers=number.auth, data=form(**more))


async def uploaded(rig, number, **more):
    status, answer = await upload(rig, number, **more)
    assert status == 200, answer
    return answer["id"]


async def test_upload_describe_download_delete(rig, number):
    media_id = await uploaded(rig, number)
    status, facts = await rig.call("GET", f"/v24.0/{media_id}?phone_number_id={number.id}", headers=number.auth)
    assert status == 200
    url = facts.pop("url")
    assert facts == {
        "messaging_product": "whatsapp",
        "mime_type": "image/png",
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "file_size": len(PNG),
        "id": media_id,
    }
    async with rig.http.get(url, headers=number.auth) as answer:
        assert (answer.status, answer.headers["Content-Type"], await answer.read()) == (200, "image/png", PNG)
    assert await rig.call("DELETE", f"/v24.0/{media_id}", headers=number.auth) == (200, {"success": True})
    status, answer = await rig.call("GET", f"/v24.0/{media_id}", headers=number.auth)
    assert (status, answer["error"]["error_subcode"]) == (400, 33)
    async with rig.http.get(url, headers=number.auth) as answer:
        assert answer.status == 404


async def test_the_url_needs_the_token_and_lasts_five_minutes(rig, number):
    media_id = await uploaded(rig, number)
    _, facts = await rig.call("GET", f"/v24.0/{media_id}", headers=number.auth)
    stranger = await rig.number()
    for headers, expected in [({}, 400), ({"Authorization": "Bearer x"}, 401), (stranger.auth, 404)]:
        async with rig.http.get(facts["url"], headers=headers) as answer:
            assert answer.status == expected
    forged = facts["url"][:-1] + ("1" if facts["url"][-1] == "0" else "0")
    async with rig.http.get(forged, headers=number.auth) as answer:
        assert answer.status == 404
    rig.clock.advance(299)
    async with rig.http.get(facts["url"], headers=number.auth) as answer:
        assert answer.status == 200
    rig.clock.advance(1)
    async with rig.http.get(facts["url"], headers=number.auth) as answer:
        assert answer.status == 404
    _, again = await rig.call("GET", f"/v24.0/{media_id}", headers=number.auth)
    async with rig.http.get(again["url"], headers=number.auth) as answer:
        assert answer.status == 200


async def test_uploads_live_thirty_days_and_received_media_seven(rig, number):
    own = await uploaded(rig, number)
    data = base64.b64encode(PNG).decode()
    await rig.hears(number, message={"type": "image", "image": {"data": data}})
    await rig.settle()
    received = rig.callback.messages()[0]["image"]["id"]
    rig.clock.advance(7 * 86400)
    assert (await rig.call("GET", f"/v24.0/{received}", headers=number.auth))[0] == 400
    assert (await rig.call("GET", f"/v24.0/{own}", headers=number.auth))[0] == 200
    rig.clock.advance(23 * 86400)
    assert (await rig.call("GET", f"/v24.0/{own}", headers=number.auth))[0] == 400


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"product": ""}, 100, "messaging_product is required"),
        ({"content": None}, 100, "file is required"),
        ({"mime": "image/gif"}, 100, "Param file must be a file with one of the following types"),
        ({"content": b""}, 131053, "empty"),
        ({"content": b"\x89PNG\r\n\x1a\n" + b"0" * 5 * 2**20}, 131053, "exceeds the limit of 5242880"),
        ({"mime": "image/webp", "content": b"0" * 500 * 1024 + b"1"}, 131053, "exceeds the limit of 512000"),
    ],
)
async def test_upload_refuses(rig, number, more, code, text):
    status, answer = await upload(rig, number, **more)
    assert (status, answer["error"]["code"]) == (400, code)
    assert text in answer["error"]["message"] + answer["error"].get("error_data", {}).get("details", "")
    assert rig.em.world.media == {}


async def test_the_type_may_come_with_the_file_part(rig, number):
    assert await uploaded(rig, number, declare=False)


async def test_a_body_that_is_no_form_is_refused(rig, number):
    path = f"/v24.0/{number.id}/media"
    status, answer = await rig.call("POST", path, headers=number.auth, json={"messaging_product": "whatsapp"})
    assert (status, answer["error"]["code"]) == (400, 100)
    headers = {**number.auth, "Content-Type": "multipart/form-data"}
    status, answer = await rig.call("POST", path, headers=headers, data=b"no boundary")
    assert (status, answer["error"]["code"]) == (400, 100)


async def test_media_of_another_business_is_out_of_reach(rig, number):
    media_id = await uploaded(rig, number)
    other = await rig.number()
    assert (await rig.call("GET", f"/v24.0/{media_id}", headers=other.auth))[0] == 400
    assert (await rig.call("DELETE", f"/v24.0/{media_id}", headers=other.auth))[0] == 400
    _, answer = await rig.post_message(other, to=USER, type="image", image={"id": media_id})
    assert "is not a valid WhatsApp business account media" in answer["error"]["error_data"]["details"]
    status, _ = await rig.call("GET", f"/v24.0/{media_id}?phone_number_id={other.id}", headers=number.auth)
    assert status == 400


async def test_an_uploaded_image_is_sent_and_shown(rig, number):
    await rig.hears(number)
    media_id = await uploaded(rig, number)
    status, _ = await rig.post_message(number, to=USER, type="image", image={"id": media_id, "caption": "New"})
    assert status == 200
    (sent,) = await rig.sent(number)
    async with rig.http.get(rig.base + sent["mediaUrl"]) as answer:
        assert await answer.read() == PNG
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    await rig.pass_time()
    assert rig.callback.statuses()[0]["status"] == "sent"


@pytest.mark.parametrize(
    ("content", "mime", "kind", "details"),
    [
        (b"not a picture at all", "image/png", "image", "could not be read as image/png"),
        (PNG, "image/jpeg", "image", "of type image/png was uploaded as image/jpeg"),
        (b"%PDF-1.7", "application/pdf", "image", "Unsupported image mime type application/pdf"),
    ],
)
async def test_media_that_does_not_fit_its_type_fails_later(rig, number, content, mime, kind, details):
    await rig.hears(number)
    media_id = await uploaded(rig, number, content=content, mime=mime)
    status, _ = await rig.post_message(number, to=USER, type=kind, **{kind: {"id": media_id}})
    assert status == 200
    await rig.pass_time()
    (failed,) = rig.callback.statuses()
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131053)
    assert details in failed["errors"][0]["error_data"]["details"]


async def test_received_media_are_stored_and_described_as_webhooks_do(rig, number):
    data = base64.b64encode(PNG).decode()
    heard = await rig.hears(number, message={"type": "image", "image": {"data": data, "caption": "This one"}})
    await rig.settle()
    (message,) = rig.callback.messages()
    image = message["image"]
    assert (message["id"], message["type"]) == (heard["wamid"], "image")
    assert (image["mime_type"], image["caption"]) == ("image/png", "This one")
    assert image["sha256"] == base64.b64encode(hashlib.sha256(PNG).digest()).decode()
    assert "data" not in image
    async with rig.http.get(image["url"], headers=number.auth) as answer:
        assert await answer.read() == PNG
    audio = {"type": "audio", "audio": {"data": base64.b64encode(b"OggS...").decode()}}
    await rig.hears(number, message=audio)
    await rig.settle()
    assert rig.callback.messages()[1]["audio"]["voice"] is True
    again = {"type": "image", "image": {"id": image["id"]}}
    assert (await rig.hears(number, message=again))["wamid"]


async def test_a_broken_download_can_be_injected(rig, number):
    media_id = await uploaded(rig, number)
    await rig.control("POST", "/faults", {"kind": "media_download", "times": 1, "httpStatus": 500})
    _, facts = await rig.call("GET", f"/v24.0/{media_id}", headers=number.auth)
    statuses = []
    for _ in range(2):
        async with rig.http.get(facts["url"], headers=number.auth) as answer:
            statuses.append(answer.status)
    assert statuses == [500, 200]


@pytest.fixture
async def website():
    """A site with a picture; counts how often it was asked."""
    asked = []

    async def picture(request):
        asked.append(str(request.rel_url))
        if request.path == "/gone.png":
            return web.Response(status=404)
        return web.Response(body=PNG, content_type="text/html" if request.path == "/page.png" else "image/png")

    application = web.Application()
    application.router.add_get("/{name}", picture)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def send_link(rig, number, link):
    status, _ = await rig.post_message(number, to=USER, type="image", image={"link": link})
    assert status == 200
    (message,) = [m for m in rig.em.world.messages.values() if m.outbound and not m.steps]
    await rig.until(lambda: bool(message.media_id) or message.failure is not None)
    await rig.pass_time()


async def test_a_link_is_fetched_before_it_is_sent_and_cached_ten_minutes(rig, number, website):
    base, asked = website
    await rig.hears(number)
    for _ in range(2):
        await send_link(rig, number, f"{base}/a.png")
    assert asked == ["/a.png"]
    await send_link(rig, number, f"{base}/a.png?fresh=1")
    rig.clock.advance(600)
    await send_link(rig, number, f"{base}/a.png")
    assert asked == ["/a.png", "/a.png?fresh=1", "/a.png"]
    (sent, *_) = await rig.sent(number)
    async with rig.http.get(rig.base + sent["mediaUrl"]) as answer:
        assert await answer.read() == PNG


@pytest.mark.parametrize(
    ("path", "details"),
    [
        ("/gone.png", "Downloading media from weblink failed with http code 404, status message Not Found"),
        ("/page.png", "Unsupported image mime type text/html"),
    ],
)
async def test_a_link_that_cannot_be_fetched_fails_with_131053(rig, number, website, path, details):
    await rig.hears(number)
    await send_link(rig, number, website[0] + path)
    (failed,) = rig.callback.statuses()
    assert failed["errors"][0]["code"] == 131053
    assert details in failed["errors"][0]["error_data"]["details"]
