"""Files on their way out: whole or visibly broken, and harmless to the browser that gets them."""

import asyncio
import hashlib
import uuid

import aiohttp
import pytest
from gateway_rig import until

from kit.errors import AppError, InvalidRequest
from kit.testing.rpc import make_user

DATA = bytes(number * 7 % 256 for number in range(10_000))


def media_not_found() -> AppError:
    class MediaNotFound(AppError):
        code, reason = InvalidRequest.code.NOT_FOUND, "MEDIA_NOT_FOUND"

    return MediaNotFound("No such file.")


async def test_a_file_comes_as_it_is(api):
    answer = await api.get(api.files.hold(DATA, filename="a.png"))
    assert answer.status == 200
    assert answer.body == DATA
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == "10000"
    assert answer.headers["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("chunk", [1, 999, 10_000, 20_000])
async def test_the_size_of_the_services_pieces_does_not_matter(api, chunk):
    data = DATA[:1500] if chunk == 1 else DATA
    assert (await api.get(api.files.hold(data, chunk=chunk))).body == data


async def test_an_empty_file_is_empty(api):
    answer = await api.get(api.files.hold(b""))
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("mime_type", "kind", "shown"),
    [
        ("image/jpeg", "image/jpeg", "inline"),
        ("audio/ogg; codecs=opus", "audio/ogg", "inline"),
        ("video/mp4", "video/mp4", "inline"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("text/html", "text/html", "attachment"),
        ("application/pdf", "application/pdf", "attachment"),
        ("text/html\r\nSet-Cookie: a=b", "application/octet-stream", "attachment"),
        ("", "application/octet-stream", "attachment"),
    ],
)
async def test_only_pictures_and_sounds_are_shown_in_place_and_nothing_may_run(api, mime_type, kind, shown):
    answer = await api.get(api.files.hold(DATA, mime_type=mime_type))
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Disposition"].startswith(f"{shown}; ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers.getall("Content-Security-Policy") == [
        "sandbox; default-src 'none'; img-src 'self'; media-src 'self'"
    ]
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("filename", "told"),
    [
        ("a b.png", "filename=\"a b.png\"; filename*=UTF-8''a%20b.png"),
        ("Köln €.png", "filename=\"K_ln _.png\"; filename*=UTF-8''K%C3%B6ln%20%E2%82%AC.png"),
        (
            'x"; filename="evil.exe',
            "filename=\"x_; filename=_evil.exe\"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.exe",
        ),
        ("a\r\nSet-Cookie: b", "filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b"),
        ("100%\\.png", "filename=\"100__.png\"; filename*=UTF-8''100%25%5C.png"),
    ],
)
async def test_no_file_name_breaks_out_of_its_header(api, filename, told):
    answer = await api.get(api.files.hold(DATA, filename=filename))
    assert answer.headers["Content-Disposition"] == f"inline; {told}"


async def test_a_file_without_a_name_is_named_after_its_type(api):
    answer = await api.get(api.files.hold(DATA, mime_type="image/png"))
    assert f'filename="{api.files.media.id}.png"' in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_known_file_is_not_sent_again(api, form):
    path = api.files.hold(DATA)
    etag = (await api.get(path)).headers["ETag"]
    answer = await api.get(path, headers={"If-None-Match": form.format(etag)})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert "Content-Type" not in answer.headers


async def test_another_file_is_sent(api):
    assert (await api.get(api.files.hold(DATA), headers={"If-None-Match": '"other"'})).body == DATA


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 9999),
        ("bytes=2500-7499", 2500, 7499),
        ("bytes=999-1000", 999, 1000),
        ("bytes=9000-99999", 9000, 9999),
        ("bytes=-1", 9999, 9999),
        ("bytes=-20000", 0, 9999),
    ],
)
async def test_a_range_is_cut_out(api, asked, first, last):
    answer = await api.get(api.files.hold(DATA), headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == DATA[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/10000"
    assert answer.headers["Content-Length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=7-5", "bytes=-", "lines=1-2", "rubbish"])
async def test_ranges_that_make_no_sense_are_ignored(api, asked):
    answer = await api.get(api.files.hold(DATA), headers={"Range": asked})
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=10000-", "bytes=20000-30000", "bytes=-0"])
async def test_a_range_outside_of_the_file_is_refused(api, asked):
    answer = await api.get(api.files.hold(DATA), headers={"Range": asked})
    assert (answer.status, answer.code) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["Content-Range"] == "bytes */10000"
    assert answer.wrong == [("Range", "header.range")]


async def test_a_range_of_another_version_is_the_whole_file(api):
    path = api.files.hold(DATA)
    answer = await api.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (answer.status, answer.body) == (200, DATA)
    answer = await api.get(path, headers={"Range": "bytes=0-9", "If-Range": answer.headers["ETag"]})
    assert (answer.status, answer.body) == (206, DATA[:10])


async def test_only_as_much_as_the_range_needs_is_asked_of_the_service(api):
    path = api.files.hold(DATA)
    api.files.waits_after = 3
    answer = await api.get(path, headers={"Range": "bytes=1500-2500"})
    assert answer.body == DATA[1500:2501]
    await until(lambda: api.files.downloads_ended == 1)


async def test_head_tells_the_length_and_sends_nothing(api):
    path = api.files.hold(DATA)
    api.files.waits_after = 1
    answer = await api.call("HEAD", path)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "10000")


async def test_a_refusal_is_a_problem_and_no_file(api):
    path = api.files.hold(DATA)
    api.files.refusal = media_not_found()
    answer = await api.get(path)
    assert (answer.status, answer.code) == (404, "MEDIA_NOT_FOUND")


async def test_an_id_that_is_none_is_named(api):
    answer = await api.get("/v1/media/not-an-id/content")
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert answer.wrong == [("mediaId", "string.uuid")]


async def test_half_a_file_does_not_look_like_a_whole_one(api):
    path = api.files.hold(DATA)
    api.files.fails_after = 5
    with pytest.raises(aiohttp.ClientPayloadError):
        await api.get(path)
    assert (await api.get("/healthz")).status == 200


async def test_a_file_that_ends_too_early_is_cut_too(api):
    path = api.files.hold(DATA)
    del api.files.chunks[-1]
    with pytest.raises(aiohttp.ClientPayloadError):
        await api.get(path)


async def test_a_failure_before_the_first_byte_is_a_problem(api):
    path = api.files.hold(DATA)
    api.files.fails_after = 0
    answer = await api.get(path)
    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert "disk" not in answer.body.decode()


async def test_a_download_ends_with_its_reader(api):
    path = api.files.hold(DATA)
    api.files.waits_after = 5
    async with api.connection() as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        await asyncio.wait_for(reader.readexactly(5000), 20)
        assert api.files.downloads_ended == 0
    await until(lambda: api.files.downloads_ended == 1)


async def test_a_page_may_show_files_by_cookie_alone(api):
    path = api.files.hold(DATA)
    answer = await api.get(path, token="", headers={"Cookie": f"auth_token={api.token}"})
    assert (answer.status, answer.body) == (200, DATA)


async def test_files_need_a_sign_in_and_the_permission(api):
    path = f"/v1/media/{uuid.uuid4()}/content"
    assert (await api.get(path, token="")).code == "TOKEN_MISSING"
    super_admin = api.authority.user_token(make_user(role="super_admin"))
    assert (await api.get(path, token=super_admin)).code == "PERMISSION_DENIED"


async def test_without_the_service_the_caller_is_told_to_come_back(start):
    async with start(targets={"messaging": "127.0.0.1:1"}) as api:
        answer = await api.get(f"/v1/media/{uuid.uuid4()}/content")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")


async def test_the_path_takes_nothing_else(api):
    answer = await api.call("DELETE", f"/v1/media/{uuid.uuid4()}/content")
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", "GET")
