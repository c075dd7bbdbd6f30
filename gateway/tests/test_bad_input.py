"""Bad input gets one clear answer that names the field and the rule, and reaches no service's code."""

import asyncio
import json

import aiohttp
import pytest

from gateway import intake

ID = "9cc7ee4b-6a0c-4c3f-a0c7-bd2a3c2d0a01"
MESSAGES = f"/v1/conversations/{ID}/messages"
TEXT = {"body": "Hello"}


def refused(api, answer) -> list[tuple[str, str]]:
    """Field and rule of what is wrong, and that nothing happened."""
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST"), answer.body
    assert not api.recorder.calls
    for error in answer.json["errors"]:
        assert set(error) == {"field", "rule", "message"}
        assert error["message"] in answer.json["detail"] or len(answer.json["errors"]) > 5
    return answer.wrong


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"text": ', ("", "json.syntax")),
        (b"{'text': 1}", ("", "json.syntax")),
        (b'{"text": {}} x', ("", "json.syntax")),
        (b'{"requestId": "\n"}', ("", "json.syntax")),
        (b'{"requestId": "\xff"}', ("", "json.utf8")),
        (b'\xef\xbb\xbf{"requestId": "x"}', ("", "json.syntax")),
        (b"[]", ("", "json.type")),
        (b"null", ("", "json.type")),
        (b'"text"', ("", "json.type")),
        (b"7", ("", "json.type")),
        (b'{"requestId": "a", "requestId": "b"}', ("requestId", "json.duplicate_key")),
        (b'{"text": {"body": "a", "body": "b"}}', ("body", "json.duplicate_key")),
        (b'{"x": NaN}', ("", "json.number")),
        (b'{"x": -Infinity}', ("", "json.number")),
        (b'{"x": 1e999}', ("x", "json.number")),
        (b'{"x": ' + b"9" * 5000 + b"}", ("", "json.number")),
        (b'{"x": ' + b"[" * 70 + b"]" * 70 + b"}", ("x" + "[0]" * 26 + "[", "json.depth")),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ("", "json.depth")),
        (b'{"requestId": "a\\u0000b"}', ("requestId", "string.nul")),
        (b'{"requestId": "\\ud800"}', ("requestId", "string.unicode")),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
async def test_a_body_has_one_meaning_or_none(api, body, wrong):
    assert refused(api, await api.post(MESSAGES, body)) == [wrong]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"text": TEXT, "txet": {}}, ("txet", "json.unknown_field")),
        ({"text": {"body": "x", "color": "red"}}, ("text.color", "json.unknown_field")),
        ({"text": TEXT, "conversationId": ID}, ("conversationId", "json.path_field")),
        ({"text": {"body": 5}}, ("text.body", "json.type")),
        ({"text": {"body": ["x"]}}, ("text.body", "json.type")),
        ({"text": {"body": True}}, ("text.body", "json.type")),
        ({"text": "x"}, ("text", "json.type")),
        ({"text": []}, ("text", "json.type")),
        ({"template": {"name": "a", "language": "en", "components": {}}}, ("template.components", "json.type")),
        ({"text": TEXT, "image": {"mediaId": ID}}, ("image", "json.oneof")),
        ({"text": TEXT, "requestId": "a", "request_id": "a"}, ("request_id", "json.oneof")),
        ({"text": TEXT, "requestId": "not allowed!"}, ("requestId", "string.pattern")),
        ({"text": TEXT, "replyToMessageId": "7"}, ("replyToMessageId", "string.uuid")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
async def test_a_wrong_field_is_named_with_its_rule(api, body, wrong):
    assert refused(api, await api.post(MESSAGES, body)) == [wrong]


async def test_a_rule_of_the_contract_is_named_beside_others_that_break(api):
    wrong = refused(api, await api.post(MESSAGES, {"text": {"body": ""}}))
    assert ("text.body", "string.min_len") in wrong


async def test_all_wrong_fields_are_named_at_once(api):
    wrong = refused(api, await api.post(MESSAGES, {"text": {"body": 5, "size": 1}, "requestId": 7, "more": 0}))
    assert wrong == [
        ("text.body", "json.type"),
        ("text.size", "json.unknown_field"),
        ("requestId", "json.type"),
        ("more", "json.unknown_field"),
    ]


async def test_of_very_many_mistakes_twenty_are_named(api):
    assert len(refused(api, await api.post(MESSAGES, {f"x{number}": 1 for number in range(1000)}))) == 20


async def test_a_very_long_name_is_shortened(api):
    [(field, _)] = refused(api, await api.post(MESSAGES, {"x" * 10_000: 1}))
    assert len(field) == 81


async def test_null_means_absent(api):
    assert (await api.post(MESSAGES, {"text": TEXT, "image": None, "requestId": None})).status == 200


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("colour=red", ("colour", "query.unknown")),
        ("pageSize=many", ("pageSize", "query.type")),
        ("pageSize=1.5", ("pageSize", "query.type")),
        ("pageSize=", ("pageSize", "query.type")),
        ("pageSize=3000000000", ("pageSize", "query.range")),
        ("pageSize=1&page_size=2", ("page_size", "query.duplicate")),
        ("pageSize=-1", ("pageSize", "int32.gte")),
        ("state=closed&state=open", ("state", "query.duplicate")),
        ("state=ajar", ("state", "string.in")),
        ("state=a%00b", ("state", "string.nul")),
        ("state=%ff", ("", "query.syntax")),
        ("&".join("x=1" for _ in range(101)), ("", "query.syntax")),
    ],
)
async def test_a_wrong_parameter_is_named_with_its_rule(api, query, wrong):
    assert refused(api, await api.get(f"/v1/conversations?{query}")) == [wrong]


async def test_parameters_do_not_mix_with_a_body_that_is_the_request(api):
    assert refused(api, await api.post(f"{MESSAGES}?requestId=a", {"text": TEXT})) == [("requestId", "query.unknown")]


async def test_a_large_body_is_refused_by_its_head(api):
    async with api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 104857600\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.readuntil(b"}]"), 20)
    assert b" 413 " in raw.splitlines()[0]
    assert b"\r\nconnection: close\r\n" in raw
    assert b'"code":"BODY_TOO_LARGE"' in raw
    assert b"must have 1048576 bytes at most" in raw
    assert not api.recorder.calls


async def test_who_waits_to_be_asked_never_sends_a_large_body(api):
    async with api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nExpect: 100-continue\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 104857600\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), 20)
    assert b" 413 " in raw.splitlines()[0]
    assert b"100 Continue" not in raw


async def test_a_client_that_sends_too_much_still_reads_the_answer(api, monkeypatch):
    """Without concern for what the server says meanwhile, as simple clients do."""
    monkeypatch.setattr(intake, "_DISCARD_SECONDS_MAX", 20)
    body = b"x" * (2 * 1024 * 1024)
    async with api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 65536):
            writer.write(body[start : start + 65536])
            await asyncio.wait_for(writer.drain(), 20)
        raw = await asyncio.wait_for(reader.read(), 20)
    assert b" 413 " in raw.splitlines()[0]
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["code"] == "BODY_TOO_LARGE"


async def test_a_body_of_unknown_length_is_cut_at_the_limit(api):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    try:
        answer = await api.call("POST", MESSAGES, data=endless(), headers={"Content-Type": "application/json"})
        assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")
    except aiohttp.ClientError:
        pass  # the connection was closed while the client was still sending; it may never look at the answer
    assert sent < 40 * 1024 * 1024
    assert not api.recorder.calls


async def test_a_body_that_does_not_come_is_given_up(start):
    async with start(body_seconds=0.3) as api, api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode())
        raw = await asyncio.wait_for(reader.read(), 20)
    assert b" 408 " in raw.splitlines()[0]
    assert b'"code":"BODY_TIMEOUT"' in raw


async def test_a_body_that_drips_is_given_up_too(start):
    async with start(body_seconds=0.5) as api, api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())

        async def drip():
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        status = await asyncio.wait_for(reader.readline(), 20)
        dripping.cancel()
    assert status.split()[1] == b"408"


async def test_strangers_do_not_make_us_read(api):
    async with api.connection() as (reader, writer):
        head = f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 9\r\n\r\n".encode())
        status = await asyncio.wait_for(reader.readline(), 20)
    assert status.split()[1] == b"401"
