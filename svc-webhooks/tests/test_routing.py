"""The ingest and the routes: webhooks of routed numbers wait apart, and no trouble with routes holds anything up."""

import uuid

import pytest
from ingest_harness import eventually
from webhook_factories import make_body, make_change, make_message

from kit import routes, streams
from kit.partitions import name_of, partition_of

TENANT = str(uuid.uuid4())


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(routes, "_LOOK_SECONDS", 0.05)


def webhook(number: str) -> bytes:
    return make_body(make_change(number=number, messages=(make_message(),)))


def subject(number: str, tenant: str = "") -> str:
    return f"meta.{name_of(partition_of(f'{number}/5511987654321', 8), tenant)}"


async def until_it_goes_to(ingest, journal, number: str, wanted: str) -> None:
    async def does() -> bool:
        assert await ingest.post(webhook(number)) == 200
        return (await journal.envelopes())[-1][0] == wanted

    await eventually(does)


async def test_webhooks_of_a_routed_number_wait_apart_until_the_route_is_gone(ingest, journal):
    await routes.publish(journal.bus, {"1": TENANT})
    await until_it_goes_to(ingest, journal, "1", subject("1", TENANT))
    assert await ingest.post(webhook("2")) == 200
    assert (await journal.envelopes())[-1][0] == subject("2")
    await routes.publish(journal.bus, {})
    await until_it_goes_to(ingest, journal, "1", subject("1"))


async def test_a_body_of_several_tenants_is_cut_and_nothing_of_it_is_lost(ingest, journal):
    await routes.publish(journal.bus, {"1": TENANT})
    await until_it_goes_to(ingest, journal, "1", subject("1", TENANT))
    changes = [make_change(number=number, messages=(make_message(),)) for number in ("1", "2")]
    before = len(await journal.envelopes())
    assert await ingest.post(make_body(*changes)) == 200
    written = (await journal.envelopes())[before:]
    assert {name for name, _ in written} == {subject("1", TENANT), subject("2")}
    wamids = [change["value"]["messages"][0]["id"].encode() for change in changes]
    bodies = b"".join(entry.body for _, entries in written for entry in entries)
    assert [bodies.count(b'"%s"' % wamid) for wamid in wamids] == [1, 1]


async def test_routes_that_nobody_confirms_count_as_none(ingest, journal, monkeypatch):
    await routes.publish(journal.bus, {"1": TENANT})
    await until_it_goes_to(ingest, journal, "1", subject("1", TENANT))
    monkeypatch.setattr(routes, "STALE_SECONDS", 0.0)
    await until_it_goes_to(ingest, journal, "1", subject("1"))


async def test_without_the_stream_of_routes_webhooks_are_taken(ingest, journal):
    await journal.bus.js.delete_stream(streams.ROUTES)
    await until_it_goes_to(ingest, journal, "1", subject("1"))


async def test_an_outage_of_nats_forgets_no_route(ingest, line, journal):
    await routes.publish(journal.bus, {"1": TENANT})
    await until_it_goes_to(ingest, journal, "1", subject("1", TENANT))
    await line.cut()
    assert await ingest.post(webhook("1")) == 503
    await line.mend()
    await ingest.until(200)
    assert await ingest.post(webhook("1")) == 200
    assert (await journal.envelopes())[-1][0] == subject("1", TENANT)
