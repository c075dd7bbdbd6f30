"""The ingest over real HTTP and real NATS: what it answers, and what is on disk when it does."""

import asyncio
import json
import time

import pytest
from ingest_harness import SECONDS, eventually
from webhook_factories import (
    NUMBER,
    OLD_SECRET,
    VERIFY_TOKEN,
    make_body,
    make_change,
    make_message,
    make_status,
    make_texts,
    signature,
)

from devstack.ports import LOOPBACK
from kit import streams
from kit.partitions import partition_of
from svc_webhooks.app import BODY_BYTES_MAX

LIMIT = 3 * 1024 * 1024


def verification(**changes: str) -> dict[str, str]:
    good = {"mode": "subscribe", "challenge": "1158201444", "verify_token": VERIFY_TOKEN}
    return {f"hub.{name}": value for name, value in {**good, **changes}.items()}


class TestVerification:
    async def test_the_right_token_is_answered_with_the_raw_challenge(self, ingest):
        async with ingest.http.get(f"{ingest.url}/webhooks/meta", params=verification()) as answer:
            assert (answer.status, await answer.read()) == (200, b"1158201444")
            assert answer.content_type == "text/plain"

    @pytest.mark.parametrize(
        "query",
        [
            verification(verify_token="a token of others"),
            verification(verify_token=""),
            verification(verify_token="ä token"),
            verification(mode="unsubscribe"),
            {"hub.mode": "subscribe", "hub.challenge": "1"},
            {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN},
            {},
        ],
    )
    async def test_anything_else_is_refused_and_echoes_nothing(self, ingest, query):
        async with ingest.http.get(f"{ingest.url}/webhooks/meta", params=query) as answer:
            assert (answer.status, await answer.read()) == (403, b"")


class TestDurable:
    async def test_a_signed_body_is_on_disk_as_it_was_sent(self, ingest, journal):
        body = make_body(make_change(messages=(make_message(text="Olá 😀 / <10%>"),)))
        before_ms = time.time_ns() // 1_000_000
        assert await ingest.post(body) == 200
        [(subject, [entry])] = await journal.envelopes()
        assert entry.body == body
        assert before_ms <= entry.received_at_ms <= time.time_ns() // 1_000_000
        assert subject == f"meta.{partition_of(f'{NUMBER}/5511987654321', 8)}"

    @pytest.mark.usefixtures("patient")
    async def test_the_200_waits_for_the_acknowledgement_of_the_disk(self, ingest, line, journal):
        async with line.held():
            answer = asyncio.create_task(ingest.post(make_body()))
            await journal.until_written()
            # It is stored, but the ingest has not heard so.
            assert not (await asyncio.wait([answer], timeout=0.3))[0]
        assert await answer == 200

    async def test_every_item_of_a_body_of_many_conversations_is_on_disk_in_its_partition(self, ingest, journal):
        contacts = [f"55119876543{i:02}" for i in range(30)]
        items = tuple(make_message(contact) for contact in contacts), tuple(make_status(c) for c in contacts)
        assert await ingest.post(make_body(make_change(messages=items[0], statuses=items[1]))) == 200
        found = []
        for subject, entries in await journal.envelopes():
            for entry in entries:
                [change] = json.loads(entry.body)["entry"][0]["changes"]
                kept = change["value"]["messages"] + change["value"]["statuses"]
                assert {f"meta.{partition_of(f'{NUMBER}/{who(item)}', 8)}" for item in kept} == {subject}
                found += [item["id"] for item in kept]
        assert sorted(found) == sorted(item["id"] for group in items for item in group)

    @pytest.mark.parametrize("body", [b"{", b"", b"[]", b"\xff\xfe", b"[" * 50_000, b'{"entry":[null]}'])
    async def test_a_signed_body_that_is_no_webhook_is_kept_for_its_reader_to_park(self, ingest, journal, body):
        assert await ingest.post(body) == 200
        assert await journal.bodies() == [body]

    async def test_a_body_of_three_megabytes_is_kept(self, ingest, journal):
        body = make_body(make_change(messages=(make_message(text="x" * (LIMIT - 400)),)))
        assert LIMIT - 400 < len(body) <= LIMIT
        assert await ingest.post(body) == 200
        assert await journal.bodies() == [body]

    @pytest.mark.usefixtures("patient")
    async def test_bodies_that_arrive_while_one_is_written_share_the_next_envelope(self, ingest, line, journal):
        bodies = make_texts(60)
        async with line.held():
            answers = [asyncio.create_task(ingest.post(body)) for body in bodies]
            await ingest.until_waiting(len(bodies))
        assert await asyncio.gather(*answers) == [200] * 60
        assert sorted(await journal.bodies()) == sorted(bodies)
        # The first may have left alone; all that came while it was in flight is the second.
        assert (await journal.state()).messages <= 2

    @pytest.mark.usefixtures("patient")
    async def test_an_envelope_stays_below_its_bounds(self, ingest, line, journal):
        bodies = make_texts(1200)
        large = [make_body(make_change(messages=(make_message(text="x" * 400_000),))) for _ in range(4)]
        async with line.held():
            answers = [asyncio.create_task(ingest.post(body)) for body in [*bodies, *large]]
            await ingest.until_waiting(len(answers))
        assert set(await asyncio.gather(*answers)) == {200}
        sizes = [[len(entry.body) for entry in entries] for _, entries in await journal.envelopes()]
        assert sum(map(len, sizes)) == len(answers)
        assert all(len(each) <= 500 for each in sizes)
        assert all(len(each) == 1 or sum(each) <= 512 * 1024 for each in sizes)

    async def test_bodies_of_one_contact_keep_the_order_in_which_they_were_answered(self, ingest, journal):
        bodies = make_texts(20)
        for body in bodies:
            assert await ingest.post(body) == 200
        assert await journal.bodies() == bodies


class TestRefused:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="none"),
            pytest.param({"X-Hub-Signature-256": "sha256=" + "0" * 64}, id="wrong"),
            pytest.param({"X-Hub-Signature-256": "sha256=12"}, id="short"),
            pytest.param({"X-Hub-Signature-256": "nonsense"}, id="malformed"),
            pytest.param({"X-Hub-Signature-256": signature(make_body(), "of another app")}, id="another app's"),
            pytest.param({"X-Hub-Signature": "sha1=" + "0" * 40}, id="the legacy one alone"),
        ],
    )
    async def test_an_unsigned_body_is_refused_without_detail_and_not_kept(self, ingest, journal, headers):
        async with ingest.http.post(f"{ingest.url}/webhooks/meta", data=make_body(), headers=headers) as answer:
            assert (answer.status, await answer.read()) == (401, b"")
        assert await journal.bodies() == []

    async def test_the_secret_that_is_being_replaced_still_signs(self, ingest, journal):
        body = make_body()
        assert await ingest.post(body, {"X-Hub-Signature-256": signature(body, OLD_SECRET)}) == 200
        assert await journal.bodies() == [body]

    @pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 100 * 1024**2])
    async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(self, ingest, journal, size):
        reader, writer = await asyncio.open_connection(LOOPBACK, ingest.port)
        writer.write(f"POST /webhooks/meta HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        head = await answer_head(reader)
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in head
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.close()
        assert await journal.bodies() == []

    async def test_a_body_that_grows_too_large_is_refused_without_reading_on(self, ingest, journal):
        reader, writer = await asyncio.open_connection(LOOPBACK, ingest.port)
        writer.write(b"POST /webhooks/meta HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
        for _ in range(BODY_BYTES_MAX // 65536 + 1):  # one byte more than may be, and the end is never sent
            writer.write(piece)
            await writer.drain()
        assert (await answer_head(reader)).startswith(b"HTTP/1.1 413 ")
        writer.close()
        assert await journal.bodies() == []

    async def test_the_largest_body_that_may_be_is_kept(self, ingest, journal):
        assert await ingest.post(b"x" * BODY_BYTES_MAX) == 200
        assert [len(body) for body in await journal.bodies()] == [BODY_BYTES_MAX]

    async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(self, ingest, journal):
        body = make_body()
        _, writer = await asyncio.open_connection(LOOPBACK, ingest.port)
        head = f"POST /webhooks/meta HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature(b'')}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        await writer.drain()
        writer.close()

        async def is_counted() -> bool:
            return 'aerostic_webhooks_total{status="400"}' in await ingest.metrics()

        await eventually(is_counted)
        assert await ingest.post(body) == 200
        assert await journal.bodies() == [body]

    @pytest.mark.usefixtures("patient")
    async def test_a_client_that_does_not_wait_for_its_answer_disturbs_nobody(self, ingest, line, journal):
        impatient, patient = make_texts(2)
        async with line.held():
            leaving = asyncio.create_task(ingest.post(impatient))
            await ingest.until_waiting(1)
            leaving.cancel()
            await asyncio.wait([leaving])
            staying = asyncio.create_task(ingest.post(patient))
        assert await staying == 200
        assert await journal.bodies() == [impatient, patient]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("PUT", "/webhooks/meta", 405),
            ("DELETE", "/webhooks/meta", 405),
            ("POST", "/webhooks/other", 404),
            ("GET", "/", 404),
        ],
    )
    async def test_other_methods_and_paths_are_refused(self, ingest, method, path, status):
        async with ingest.http.request(method, f"{ingest.url}{path}") as answer:
            assert answer.status == status


class TestWithoutNats:
    async def test_while_nats_is_away_the_answer_is_503_at_once_and_later_200(self, ingest, line, journal):
        await line.cut()
        await ingest.until(503)
        lost, kept = make_texts(2)
        async with ingest.http.post(
            f"{ingest.url}/webhooks/meta", data=lost, headers={"X-Hub-Signature-256": signature(lost)}
        ) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert await ingest.post(lost, {}) == 401  # whoever signed nothing learns nothing
        await line.mend()
        await ingest.until(200)
        assert await ingest.post(kept) == 200
        assert await journal.bodies() == [kept]

    async def test_when_nats_goes_away_before_it_acknowledged_the_answer_is_503(self, ingest, line, journal):
        body = make_body()
        async with line.held():
            answer = asyncio.create_task(ingest.post(body))
            await journal.until_written()
            await line.cut()
        assert await answer == 503
        await line.mend()
        await ingest.until(200)
        assert await ingest.post(body) == 200
        # Twice is right: nobody knew of the first.
        assert await journal.bodies() == [body, body]

    async def test_a_full_journal_refuses_and_forgets_nothing(self, ingest, journal):
        kept, refused, later = make_texts(3)
        assert await ingest.post(kept) == 200
        config = streams.meta()
        await journal.bus.js.update_stream(config.evolve(max_msgs=1))
        assert await ingest.post(refused) == 503
        assert await journal.bodies() == [kept]
        await journal.bus.js.update_stream(config)
        assert await ingest.post(later) == 200
        assert await journal.bodies() == [kept, later]

    async def test_a_journal_that_was_deleted_refuses(self, ingest, journal):
        await journal.bus.js.delete_stream(streams.META)
        assert await ingest.post(make_body()) == 503

    async def test_a_body_of_which_one_part_is_refused_is_not_acknowledged(self, ingest, journal):
        """Parts of one body go to several partitions, and one of them has no room."""
        body = make_body(make_change(messages=tuple(make_message(f"55119876543{i:02}") for i in range(40))))
        await journal.bus.js.update_stream(streams.meta().evolve(max_msgs=3))
        assert await ingest.post(body) == 503
        assert (await journal.state()).messages == 3


class TestFullMemory:
    @pytest.fixture
    def environment(self, environment):
        return {**environment, "AEROSTIC_WEBHOOKS_WAITING_MAX": "3"}

    @pytest.mark.usefixtures("patient")
    async def test_more_webhooks_than_may_wait_are_told_to_come_back_while_the_others_still_wait(
        self, ingest, line, journal
    ):
        *kept, refused = make_texts(4)
        async with line.held():
            waiting = [asyncio.create_task(ingest.post(body)) for body in kept]
            await ingest.until_waiting(3)
            headers = {"X-Hub-Signature-256": signature(refused)}
            async with ingest.http.post(f"{ingest.url}/webhooks/meta", data=refused, headers=headers) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert not any(task.done() for task in waiting), "it was answered before any of them"
            assert await ingest.post(refused, {}) == 401  # whoever signed nothing learns nothing
        assert await asyncio.gather(*waiting) == [200] * 3
        assert await ingest.post(refused) == 200
        assert sorted(await journal.bodies()) == sorted([*kept, refused])


class TestFullJournal:
    @pytest.fixture
    def environment(self, environment):
        return {**environment, "AEROSTIC_META_BYTES_MAX": "20000"}

    async def test_a_journal_at_its_bound_refuses_and_keeps_all_that_it_acknowledged(self, ingest, journal):
        bodies = make_texts(100)
        answers = [await ingest.post(body) for body in bodies]
        kept = answers.index(503)
        assert kept > 1
        assert set(answers[kept:]) == {503}
        assert await journal.bodies() == bodies[:kept]
        assert (await journal.state()).bytes <= 20_000
        text = await ingest.metrics()
        assert 'aerostic_webhooks_total{status="503"}' in text
        assert 'aerostic_journal_envelopes_total{outcome="failed"}' in text


async def test_liveness_readiness_and_metrics_are_told(ingest, line):
    assert await ingest.post(make_body()) == 200
    text = await ingest.metrics()
    for name in ("aerostic_webhooks_total", "aerostic_journal_bodies_total", "aerostic_journal_publish_seconds_count"):
        assert f"\n{name}" in text
    await line.cut()
    await ingest.until(503, "/readyz")
    await ingest.until(200, "/healthz")


async def test_traces_go_with_the_envelope(ingest, journal):
    """Only what is sampled is named; a forged header is no reason to refuse a signed body."""
    body = make_body()
    for header in ("nonsense", "\xff", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        headers = {"X-Hub-Signature-256": signature(body), "traceparent": header}
        assert await ingest.post(body, headers) == 200
    assert {entry.traceparent for _, entries in await journal.envelopes() for entry in entries} == {""}


async def answer_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)


def who(item) -> str:
    return item.get("from") or item["recipient_id"]
