"""Files on their way in: streamed, limited, and whole or not at all."""

import asyncio
import io
import json

import aiohttp
import pytest
from gateway_rig import until

from kit.errors import AppError, InvalidRequest, Violation
from kit.testing.rpc import make_user

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
PATH = "/v1/media"


def form(*parts: tuple[str, bytes, dict]) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, content, options in parts:
        data.add_field(name, io.BytesIO(content), **options)
    return data


def raw_form(*parts: bytes, end: bytes = b"--B--\r\n") -> dict:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end
    return {"data": body, "headers": {"Content-Type": "multipart/form-data; boundary=B"}}


def image(**headers: str) -> dict:
    return {"Content-Type": "image/png", **headers}


async def test_a_form_uploads_its_file(api):
    part = ("file", PIXEL, {"filename": "Köln (1).png", "content_type": "image/png"})
    writer = form(part)
    writer._quote_fields = False  # browsers send names as UTF-8, unescaped
    answer = await api.call("POST", PATH, data=writer)
    assert answer.status == 200, answer.body
    assert answer.json["mimeType"] == "image/png"
    assert answer.json["sizeBytes"] == str(len(PIXEL))
    assert bytes(api.files.uploaded) == PIXEL
    assert (api.files.description.mime_type, api.files.description.filename) == ("image/png", "Köln (1).png")
    assert api.files.is_whole


async def test_a_bare_body_is_the_file(api):
    headers = image(**{"Content-Disposition": 'attachment; filename="a.png"'})
    answer = await api.call("POST", PATH, data=PIXEL, headers=headers)
    assert answer.status == 200, answer.body
    assert bytes(api.files.uploaded) == PIXEL
    assert (api.files.description.mime_type, api.files.description.filename) == ("image/png", "a.png")


async def test_parameters_of_the_type_are_left_out(api):
    await api.call("POST", PATH, data=PIXEL, headers={"Content-Type": "Audio/OGG; codecs=opus"})
    assert api.files.description.mime_type == "audio/ogg"


@pytest.mark.parametrize("size", [1, 65535, 65536, 262144, 262145, 5_000_000])
async def test_every_byte_arrives_in_order_however_it_is_cut(api, size):
    content = bytes(number * 31 % 251 for number in range(997)) * (size // 997 + 1)
    part = ("file", content[:size], {"filename": "x", "content_type": "image/jpeg"})
    answer = await api.call("POST", PATH, data=form(part))
    assert answer.status == 200, answer.body
    assert bytes(api.files.uploaded) == content[:size]


async def test_a_file_may_contain_what_looks_like_a_boundary(api):
    content = b"\r\n--\r\n--A\r\n--BB\r\n-\r\n--B-\n"
    head = b'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: image/png\r\n\r\n'
    answer = await api.call("POST", PATH, **raw_form(head + content.replace(b"--B", b"--C")))
    assert answer.status == 200, answer.body
    assert bytes(api.files.uploaded) == content.replace(b"--B", b"--C")


async def test_a_file_that_arrives_byte_by_byte_is_the_same(api):
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: image/png\r\n\r\n'
    body = head + b"tiny\r\n--not it\r\n--B--\r\n"

    async def drops():
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(0)

    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = await api.call("POST", PATH, data=drops(), headers=headers)
    assert answer.status == 200, answer.body
    assert bytes(api.files.uploaded) == b"tiny\r\n--not it"


FILE = b'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: image/png\r\n\r\nbytes'
NOTE = b'Content-Disposition: form-data; name="note"\r\n\r\nhello'


@pytest.mark.parametrize(
    ("parts", "end", "wrong"),
    [
        ([NOTE], b"--B--\r\n", ("note", "form.unknown_part")),
        ([FILE, NOTE], b"--B--\r\n", ("note", "form.unknown_part")),
        ([FILE, FILE], b"--B--\r\n", ("file", "form.duplicate_part")),
        ([FILE.replace(b"Content-Type: image/png\r\n", b"")], b"--B--\r\n", ("file", "form.content_type")),
        ([FILE.replace(b"image/png", b"image")], b"--B--\r\n", ("file", "form.content_type")),
        ([FILE.replace(b'"x"', b'"\xff"')], b"--B--\r\n", ("file.filename", "form.utf8")),
        ([FILE], b"", ("", "form.syntax")),
        ([], b"nothing of a form", ("", "form.syntax")),
        ([], b"", ("", "form.syntax")),
    ],
    ids=["other", "also other", "two", "no type", "half a type", "name", "cut", "no form", "empty"],
)
async def test_a_form_with_anything_but_one_file_is_refused(api, parts, end, wrong):
    answer = await api.call("POST", PATH, **raw_form(*parts, end=end))
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert answer.wrong == [wrong]
    assert not api.files.is_whole


async def test_the_services_own_rules_reach_the_caller(api):
    answer = await api.call("POST", PATH, **raw_form(FILE.replace(b'"x"', b'"a/b.png"')))
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert answer.wrong == [("description.filename", "filename.plain")]


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Content-Type": "multipart/form-data"}, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary=" + "b" * 300}, "Content-Type"),
        ({"Content-Type": "rubbish"}, "Content-Type"),
        ({"Content-Type": "image/png", "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
async def test_unusable_types_are_refused(api, headers, field):
    answer = await api.call("POST", PATH, data=PIXEL, headers=headers)
    assert (answer.status, answer.code) == (415, "CONTENT_TYPE_UNSUPPORTED")
    assert answer.wrong == [(field, "header.content_type")]


async def test_a_refusal_of_the_service_comes_before_the_file_has_arrived(api):
    class Unsupported(AppError):
        code, reason = InvalidRequest.code, "MEDIA_TYPE_UNSUPPORTED"

    api.files.refusal = Unsupported("Files of this type cannot be sent.", violations=[Violation("file", "x", "y")])
    async with api.connection() as (reader, writer):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Type: a/b\r\n"
        writer.write(f"{head}Content-Length: 10000000\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.readuntil(b"}"), 20)
    assert b" 400 " in raw.splitlines()[0]
    assert b"MEDIA_TYPE_UNSUPPORTED" in raw


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=B"])
async def test_a_hundred_megabytes_are_refused_by_their_head(api, content_type):
    async with api.connection() as (reader, writer):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Type: {content_type}\r\nContent-Length: 104857600\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.readuntil(b"}]"), 20)
    assert b" 413 " in raw.splitlines()[0]
    assert b"must have 16777216 bytes at most" in raw
    assert api.files.description is None or not api.files.is_whole


@pytest.mark.parametrize("is_form", [True, False])
async def test_a_file_of_unknown_length_is_cut_at_the_limit(start, is_form):
    async with start(media_bytes_max=100_000) as api:

        async def endless():
            if is_form:
                yield b"--B\r\n" + FILE
            while True:
                yield b"x" * 65536

        kind = "multipart/form-data; boundary=B" if is_form else "image/png"
        try:
            answer = await api.call("POST", PATH, data=endless(), headers={"Content-Type": kind})
            assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")
            assert "100000 bytes" in answer.json["detail"]
        except aiohttp.ClientError:
            pass  # the connection was closed while the client was still sending
        assert not api.files.is_whole


async def test_the_largest_file_fits_with_its_form_around_it(start):
    async with start(media_bytes_max=100_000) as api:
        part = ("file", b"x" * 100_000, {"filename": "x", "content_type": "image/png"})
        assert (await api.call("POST", PATH, data=form(part))).status == 200
        part = ("file", b"x" * 100_001, {"filename": "x", "content_type": "image/png"})
        assert (await api.call("POST", PATH, data=form(part))).status == 413


async def test_a_stalled_upload_is_given_up_and_nothing_of_it_kept(start):
    async with start(body_seconds=0.3) as api, api.connection() as (reader, writer):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Type: image/png\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        status = await asyncio.wait_for(reader.readline(), 20)
        assert status.split()[1] == b"408"
        assert not api.files.is_whole


async def test_a_dripping_upload_has_an_end_too(start):
    async with start(media_seconds=2) as api, api.connection() as (reader, writer):
        # The way to the service is open: what takes long is the upload alone.
        assert (await api.get("/v1/conversations")).status == 200
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Type: image/png\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\n".encode())

        async def drip():
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        status = await asyncio.wait_for(reader.readline(), 20)
        dripping.cancel()
        assert status.split()[1] == b"408"


async def test_a_client_that_goes_away_leaves_nothing(api):
    async with api.connection() as (_, writer):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Type: image/png\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        await until(lambda: api.files.description is not None)
    assert (await api.get("/healthz")).status == 200
    assert not api.files.is_whole


async def test_uploads_need_a_sign_in_before_anything_is_read(api):
    async with api.connection() as (reader, writer):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.readuntil(b"}"), 20)
    assert b" 401 " in raw.splitlines()[0]
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["code"] == "TOKEN_MISSING"


async def test_uploads_need_the_permission(api):
    super_admin = api.authority.user_token(make_user(role="super_admin"))
    answer = await api.call("POST", PATH, token=super_admin, data=PIXEL, headers=image())
    assert (answer.status, answer.code) == (403, "PERMISSION_DENIED")


async def test_a_cookie_uploads_only_with_its_csrf_token(api):
    cookie = {"Cookie": f"auth_token={api.token}"}
    answer = await api.call("POST", PATH, token="", data=PIXEL, headers=image(**cookie))
    assert (answer.status, answer.code) == (403, "CSRF_TOKEN_INVALID")


async def test_without_the_service_the_caller_is_told_to_come_back(start):
    async with start(targets={"messaging": "127.0.0.1:1"}) as api:
        answer = await api.call("POST", PATH, data=PIXEL, headers=image())
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"


async def test_the_path_takes_nothing_else(api):
    answer = await api.get(PATH)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "POST"
