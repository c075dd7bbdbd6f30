"""Files: taken in whole or not at all, given out as they came, asked for once more when they failed."""

import asyncio
import hashlib
import uuid

import asyncpg
import pytest
from aerostic.messaging.v1 import media_service_pb2 as media_pb
from grpc import StatusCode
from messaging_factories import insert, make_media, make_message, moment
from messaging_rpc import refusal

from kit.ids import new_id
from kit.proto_json import to_dict
from svc_messaging import media as media_module
from svc_messaging import media_types

MIB = 1024 * 1024
JPEG = b"\xff\xd8\xff\xe0"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
PDF = b"%PDF-1.7\n"


def description(mime_type="image/jpeg", filename="shoe.jpg"):
    return media_pb.UploadMediaRequest(description={"mime_type": mime_type, "filename": filename})


def chunk(data):
    return media_pb.UploadMediaRequest(chunk=data)


async def one_by_one(*requests):
    for request in requests:
        yield request


def end(size):
    return media_pb.UploadMediaRequest(end={"size_bytes": size})


async def upload(service, tenant_id, *requests):
    """The requests and, where they do not say it, the end."""
    if requests and not requests[-1].HasField("end"):
        requests = (*requests, end(sum(len(request.chunk) for request in requests)))
    return await service.agent(tenant_id).upload(service.media.UploadMedia, one_by_one(*requests))


async def download(service, tenant_id, media_id):
    request = media_pb.DownloadMediaRequest(media_id=str(media_id))
    return [answer async for answer in service.agent(tenant_id).stream(service.media.DownloadMedia, request)]


@pytest.fixture
def taken_in(monkeypatch):
    """Tells when the server has begun to take a file in, and when it has let go of the bytes."""

    class Watched(media_module.Upload):
        begun, ended = asyncio.Event(), asyncio.Event()

        def __enter__(self):
            self.begun.set()
            return super().__enter__()

        def __exit__(self, *details):
            super().__exit__(*details)
            assert self._bytes.closed
            self.ended.set()

    monkeypatch.setattr("svc_messaging.server.media.Upload", Watched)
    return Watched


async def nothing_kept(service, tenant_id):
    assert await service.count("media", tenant_id) == 0
    assert await service.count("media_chunks", tenant_id) == 0


class TestUpload:
    async def test_a_file_comes_back_as_it_went_in(self, service, tenant_id):
        data = JPEG + bytes(range(256)) * 4000
        parts = [data[:10], data[10:700_000], b"", data[700_000:]]
        media = await upload(service, tenant_id, description(), *(chunk(part) for part in parts))
        assert (media.direction, media.state, media.mime_type) == ("outbound", "ready", "image/jpeg")
        assert (media.filename, media.size_bytes) == ("shoe.jpg", len(data))
        assert media.sha256 == hashlib.sha256(data).hexdigest()
        answers = await download(service, tenant_id, media.id)
        assert b"".join(answer.chunk for answer in answers) == data
        assert answers[0].media == media
        assert not any(answer.HasField("media") for answer in answers[1:])
        assert [len(answer.chunk) for answer in answers[:-1]] == [256 * 1024] * (len(answers) - 1)
        get = media_pb.GetMediaRequest(media_id=media.id)
        assert await service.agent(tenant_id).call(service.media.GetMedia, get) == media

    @pytest.mark.parametrize("size", [1, 256 * 1024, 256 * 1024 * 4, 256 * 1024 * 4 + 1])
    async def test_every_size_comes_back(self, service, tenant_id, size):
        data = b"x" * size
        parts = (chunk(data[start : start + MIB]) for start in range(0, size, MIB))
        media = await upload(service, tenant_id, description("text/plain", "notes.txt"), *parts)
        answers = await download(service, tenant_id, media.id)
        assert b"".join(answer.chunk for answer in answers) == data

    @pytest.mark.parametrize("name", ["IMAGE/JPEG", "image/jpeg; charset=binary", " image/jpeg "])
    async def test_case_and_parameters_of_the_type_do_not_matter(self, service, tenant_id, name):
        assert (await upload(service, tenant_id, description(name), chunk(JPEG))).mime_type == "image/jpeg"

    @pytest.mark.parametrize(
        "name", ["image/gif", "image/svg+xml", "text/html", "x", "image/jpeg\0", "application/zip"]
    )
    async def test_a_type_that_meta_does_not_take_is_refused_before_its_bytes(self, service, tenant_id, name):
        error = await refusal(upload(service, tenant_id, description(name)))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_UNSUPPORTED")
        assert [violation.field for violation in error.violations] == ["description.mimeType"]
        assert error.metadata["allowed"].split(", ") == list(media_types.TYPES)
        await nothing_kept(service, tenant_id)

    @pytest.mark.parametrize(
        ("said", "data"),
        [
            ("image/jpeg", PNG),
            ("image/png", JPEG),
            ("image/jpeg", b"<html>"),
            ("image/jpeg", JPEG[:2]),
            ("image/png", b"<script>" + b"x" * MIB),
            ("application/pdf", b"PK\x03\x04"),
            ("text/plain", b"\x00\x01\x02"),
        ],
    )
    async def test_bytes_of_another_type_are_refused(self, service, tenant_id, said, data):
        error = await refusal(upload(service, tenant_id, description(said), *(chunk(data[:MIB]),)))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_MISMATCH")
        assert [violation.field for violation in error.violations] == ["description.mimeType"]
        await nothing_kept(service, tenant_id)

    async def test_a_type_is_told_by_its_first_bytes_however_small_the_parts(self, service, tenant_id):
        parts = [chunk(PNG[place : place + 1]) for place in range(len(PNG))]
        assert (await upload(service, tenant_id, description("image/png"), *parts)).size_bytes == len(PNG)

    async def test_a_file_as_large_as_meta_takes_is_kept_and_one_byte_more_is_not(self, service, tenant_id):
        limit = 5 * MIB
        data = [chunk((JPEG if number == 0 else b"    ") + b"x" * (MIB - 4)) for number in range(5)]
        assert (await upload(service, tenant_id, description(), *data)).size_bytes == limit
        other = new_id()
        error = await refusal(upload(service, other, description(), *data, chunk(b"x")))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "MEDIA_TOO_LARGE")
        assert error.metadata == {"maxBytes": str(limit)}
        await nothing_kept(service, other)

    @pytest.mark.parametrize("said", [0, 1, len(JPEG) + 1])
    async def test_an_end_that_does_not_fit_the_bytes_is_incomplete(self, service, tenant_id, said):
        error = await refusal(upload(service, tenant_id, description(), chunk(JPEG), end(said)))
        assert error.reason == "MEDIA_INCOMPLETE"
        await nothing_kept(service, tenant_id)

    async def test_a_call_that_ends_without_saying_so_is_incomplete(self, service, tenant_id):
        requests = one_by_one(description(), chunk(JPEG))
        error = await refusal(service.agent(tenant_id).upload(service.media.UploadMedia, requests))
        assert error.reason == "MEDIA_INCOMPLETE"
        await nothing_kept(service, tenant_id)

    @pytest.mark.parametrize("parts", [[], [b""], [b"", b""]])
    async def test_an_upload_without_bytes_is_incomplete(self, service, tenant_id, parts):
        error = await refusal(upload(service, tenant_id, description(), *map(chunk, parts)))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "MEDIA_INCOMPLETE")
        await nothing_kept(service, tenant_id)

    async def test_an_upload_without_anything_is_incomplete(self, service, tenant_id):
        assert (await refusal(upload(service, tenant_id))).reason == "MEDIA_INCOMPLETE"

    @pytest.mark.parametrize(
        "requests",
        [
            [chunk(JPEG)],
            [description(), description(), chunk(JPEG)],
            [description(), chunk(JPEG), description()],
        ],
    )
    async def test_the_description_comes_once_and_first(self, service, tenant_id, requests):
        error = await refusal(upload(service, tenant_id, *requests))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert [violation.field for violation in error.violations] == ["description"]
        await nothing_kept(service, tenant_id)

    @pytest.mark.parametrize(
        ("field", "request_"),
        [
            ("description.mimeType", description("")),
            ("description.filename", description(filename="x" * 241)),
            ("description.filename", description(filename="../passwd")),
            ("description.filename", description(filename="a\nb")),
            ("chunk", chunk(b"x" * (MIB + 1))),
            ("part", media_pb.UploadMediaRequest()),
        ],
    )
    async def test_a_wrong_field_is_named(self, service, tenant_id, field, request_):
        error = await refusal(upload(service, tenant_id, request_))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert {violation.field for violation in error.violations} == {field}

    async def test_a_cancelled_upload_leaves_nothing(self, service, tenant_id, taken_in):
        sent = asyncio.Event()

        async def endless():
            yield description("application/pdf")
            yield chunk(PDF)
            for _ in range(4):
                yield chunk(b"x" * MIB)
            sent.set()
            await asyncio.Event().wait()

        calling = asyncio.create_task(service.agent(tenant_id).upload(service.media.UploadMedia, endless()))
        async with asyncio.timeout(60):
            await sent.wait()
            await taken_in.begun.wait()
            calling.cancel()
            await asyncio.wait([calling])
            await taken_in.ended.wait()
        await nothing_kept(service, tenant_id)

    async def test_bytes_that_cannot_be_stored_leave_no_description(self, service, tenant_id, monkeypatch):
        monkeypatch.setattr(
            media_module, "_ADD_CHUNKS", media_module._ADD_CHUNKS.replace("number, data FROM", "0, data FROM")
        )
        error = await refusal(upload(service, tenant_id, description(), chunk(JPEG + b"x" * (MIB - 4))))
        assert error.code is StatusCode.INTERNAL
        await nothing_kept(service, tenant_id)


class TestDownload:
    @pytest.mark.parametrize("state", ["pending", "failed"])
    async def test_a_file_that_is_not_here_is_not_given_out(self, service, tenant_id, state):
        media = await make_media(service.sql, tenant_id, direction="inbound", state=state)
        error = await refusal(download(service, tenant_id, media["id"]))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_READY")
        assert error.metadata == {"state": state}

    async def test_an_unknown_file_is_not_found(self, service, tenant_id):
        get = media_pb.GetMediaRequest(media_id=str(new_id()))
        for call in (
            download(service, tenant_id, new_id()),
            service.agent(tenant_id).call(service.media.GetMedia, get),
        ):
            error = await refusal(call)
            assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")

    async def test_an_empty_file_is_described(self, service, tenant_id):
        columns = {"direction": "inbound", "state": "ready", "mime_type": "text/plain"}
        media = await insert(service.sql, "media", tenant_id=tenant_id, **columns)
        [answer] = await download(service, tenant_id, media["id"])
        assert (answer.media.id, answer.chunk) == (str(media["id"]), b"")


class TestRetry:
    async def retry(self, service, tenant_id, media_id):
        request = media_pb.RetryMediaRequest(media_id=str(media_id))
        return await service.agent(tenant_id).call(service.media.RetryMedia, request)

    async def failed(self, service, tenant_id, **columns):
        given = {"direction": "inbound", "state": "failed", "failure": "Meta: gone", "attempts": 12, **columns}
        return await make_media(service.sql, tenant_id, **given)

    async def test_a_failed_file_is_asked_for_at_once_and_its_message_says_so(self, service, database, tenant_id):
        media = await self.failed(service, tenant_id)
        message = await make_message(service.sql, tenant_id, type="image", media_id=media["id"])
        await service.sql.execute("UPDATE media SET message_id = $2 WHERE id = $1", media["id"], message["id"])
        woken = asyncio.Event()
        fetcher = await asyncpg.connect(database.worker_url)
        try:
            await fetcher.add_listener("media", lambda *_: woken.set())
            answer = await self.retry(service, tenant_id, media["id"])
            await asyncio.wait_for(woken.wait(), 60)
        finally:
            await fetcher.close()
        assert (answer.state, answer.failure) == ("pending", "")
        row = await service.sql.fetchrow("SELECT * FROM media WHERE id = $1", media["id"])
        assert (row["attempts"], row["next_attempt_at"] <= moment()) == (0, True)
        [(kind, data)] = await service.events(tenant_id)
        assert kind == "messaging.message.updated"
        assert data["message"]["id"] == str(message["id"])
        assert data["message"]["media"]["state"] == "pending"

    @pytest.mark.parametrize("state", ["pending", "ready"])
    async def test_only_failed_ones_can_be_retried(self, service, tenant_id, state):
        media = await make_media(service.sql, tenant_id, direction="inbound", state=state)
        error = await refusal(self.retry(service, tenant_id, media["id"]))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_FAILED")
        assert await service.events(tenant_id) == []

    async def test_after_seven_days_meta_has_it_no_more(self, service, tenant_id):
        week = 7 * 24 * 3600
        gone = await self.failed(service, tenant_id, created_at=moment(-week - 1))
        error = await refusal(self.retry(service, tenant_id, gone["id"]))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "MEDIA_EXPIRED")
        there = await self.failed(service, tenant_id, created_at=moment(60 - week))
        assert (await self.retry(service, tenant_id, there["id"])).state == "pending"

    async def test_an_unknown_file_is_not_found(self, service, tenant_id):
        error = await refusal(self.retry(service, tenant_id, uuid.uuid4()))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")

    async def test_of_two_at_once_one_does_it(self, service, tenant_id):
        media = await self.failed(service, tenant_id)
        calls = [self.retry(service, tenant_id, media["id"]) for _ in range(2)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        reasons = [answer.reason for answer in answers if isinstance(answer, Exception)]
        assert reasons == ["MEDIA_NOT_FAILED"]
        [given] = [answer for answer in answers if not isinstance(answer, Exception)]
        assert to_dict(given)["state"] == "pending"


async def test_more_uploads_than_there_is_space_for_are_told_to_come_back(service, tenant_id, taken_in, monkeypatch):
    monkeypatch.setattr("svc_messaging.server.media._UPLOADS_MAX", 1)
    release = asyncio.Event()

    async def slow():
        yield description()
        await release.wait()
        yield chunk(JPEG)
        yield end(len(JPEG))

    agent = service.agent(tenant_id)
    first = asyncio.create_task(agent.upload(service.media.UploadMedia, slow()))
    async with asyncio.timeout(60):
        await taken_in.begun.wait()
        error = await refusal(upload(service, tenant_id, description(), chunk(JPEG)))
        release.set()
        assert (await first).size_bytes == len(JPEG)
    assert (error.code, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry_after == 2
