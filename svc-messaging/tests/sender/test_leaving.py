"""When a tenant shares its partitions with the others again, its own are forgotten, but not before they are empty."""

import asyncio

import pytest
from movers import mover
from sender_rig import SECONDS, sending

from kit.partitions import name_of
from kit.streams import META, SEND
from svc_messaging.inbox import leaving
from svc_messaging.sender import worker

KEPT_SECONDS = 4.0
"""Longer than a machine may pause between making a consumer and asking it."""


@pytest.fixture
async def back(db, bus, shop, monkeypatch):
    """Of a tenant that has moved there and back, looked at in every step."""
    monkeypatch.setattr(leaving, "_LOOK_SECONDS", 0.0)
    move = mover(db, bus, shop)
    await move.moved("dedicated")
    await move.moved("shared")
    return move


@pytest.fixture
def partition(shop) -> str:
    return name_of(0, str(shop.tenant_id))


async def test_what_was_empty_for_long_is_forgotten(back, monkeypatch):
    await back.placing.step()
    assert await back.row(), "it was empty for a moment only"
    monkeypatch.setattr(leaving, "EMPTY_SECONDS", 0.0)
    await back.placing.step()
    assert await back.row() is None


@pytest.mark.parametrize("subject", ["send.live.{}", "send.bulk.{}", "meta.{}"])
async def test_what_still_waits_there_keeps_it(bus, back, partition, monkeypatch, subject):
    monkeypatch.setattr(leaving, "EMPTY_SECONDS", 0.0)
    await bus.publish(subject.format(partition), b"late")
    await back.placing.step()
    assert await back.row()
    for stream in (SEND, META):
        await bus.js.purge_stream(stream)
    await back.placing.step()
    assert await back.row() is None


async def test_what_the_inbox_has_not_acknowledged_keeps_it(bus, back, partition, monkeypatch):
    monkeypatch.setattr(leaving, "EMPTY_SECONDS", 0.0)
    await bus.publish(f"meta.{partition}", b"late")
    puller = await bus.puller(META, f"inbox-{partition}", f"meta.{partition}", limit=1)
    [message] = await puller.batch(1, seconds=SECONDS)
    await back.placing.step()
    assert await back.row()
    await message.ack_sync(timeout=SECONDS)
    await back.placing.step()
    assert await back.row() is None
    await puller.close()


async def test_a_tenant_that_moves_again_starts_its_hour_anew(back, monkeypatch):
    await back.placing.step()
    await back.moved("dedicated")
    monkeypatch.setattr(leaving, "EMPTY_SECONDS", 0.0)
    await back.placing.step()
    assert (await back.row())["isolation"] == "dedicated"


async def test_the_senders_consumers_of_a_tenant_go_when_nobody_asks_them_any_more(
    database, db, bus, shop, partition, monkeypatch
):
    monkeypatch.setattr(worker, "_KEPT_SECONDS", KEPT_SECONDS)

    async def consumers() -> set[str]:
        return {each.name for each in await bus.js.consumers_info(SEND)}

    own = {f"sender-{lane}-{partition}" for lane in ("live", "bulk")}
    shared = {"sender-live-0", "sender-bulk-0"}
    async with sending(database, db, bus, shop), sending(database, db, bus, shop, scope=str(shop.tenant_id)):
        async with asyncio.timeout(SECONDS):
            while await consumers() != own | shared:  # noqa: ASYNC110 (the server tells nobody)
                await asyncio.sleep(0.1)
        await asyncio.sleep(KEPT_SECONDS + 1)
        assert await consumers() == own | shared, "they were asked all the time"
    async with asyncio.timeout(SECONDS):
        while await consumers() & own:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.1)
    assert await consumers() == shared
