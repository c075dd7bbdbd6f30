"""Backups of the streams: what was acknowledged and not stored yet comes back, in order and whole."""

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from messaging_rpc import until
from test_inbox_worker import Known, acknowledged, bodies_of, bus, publish, texts, working  # noqa: F401 (a fixture)
from webhook_bodies import Customer, Line

from kit import streams
from kit.stream_snapshots import SnapshotFailed
from svc_messaging import stream_backups
from svc_messaging.stream_backups import BackupDamaged, restore_all, rewind_to, save_all


@pytest.fixture
async def whole(bus):  # noqa: F811
    """With the stream of commands, which the inbox alone has no use for."""
    await bus.ensure(streams.send())
    return bus


@pytest.fixture
def lose_everything(whole, nats_server):
    return partial(lose_streams, whole, nats_server.folder)


async def lose_streams(bus, folder):  # noqa: F811
    # Of an account without any stream the server removes the folder, a moment later, from under what is restored then.
    await bus.js.add_stream(name="OTHER", subjects=["other"])
    for info in await bus.js.streams_info():
        if info.config.name != "OTHER":
            await bus.js.delete_stream(info.config.name)
    # It removes the files after it has answered, and cannot take away a stream of the same name meanwhile.
    await until(lambda: asyncio.sleep(0, not any(each.name.startswith(".") for each in folder.iterdir())))


async def test_what_was_not_stored_comes_back_once_and_in_order(nats, worker_db, sql, whole, tmp_path, lose_everything):
    line, ana = Line(), Customer()
    bodies = texts(line, ana, "stored", "on its way", "later")
    await publish(whole, bodies[0])
    async with working(worker_db, whole, Known(line)):
        await bodies_of(sql, line, 1)
        await acknowledged(whole)
    await publish(whole, bodies[1], bodies[2])
    backup = await save_all(nats, tmp_path)

    await lose_everything()
    said = await restore_all(nats, backup)
    assert "META (2 messages)" in said
    async with working(worker_db, whole, Known(line)):
        assert await bodies_of(sql, line, 3) == ["stored", "on its way", "later"]
        await acknowledged(whole)


async def test_streams_go_on_with_their_sequences_and_consumers(nats, worker_db, sql, whole, tmp_path, lose_everything):
    line = Line()
    await publish(whole, *texts(line, Customer(), "one"))
    async with working(worker_db, whole, Known(line)):
        await bodies_of(sql, line, 1)
        await acknowledged(whole)
    before = await whole.js.consumer_info(streams.META, "inbox-0")
    backup = await save_all(nats, tmp_path)
    await lose_everything()
    # As by a service that was started too early.
    await whole.ensure(streams.meta())
    await restore_all(nats, backup)
    after = await whole.js.consumer_info(streams.META, "inbox-0")
    assert (after.ack_floor.stream_seq, after.num_pending) == (before.ack_floor.stream_seq, 0)
    await whole.ensure(streams.meta(), streams.send(), streams.dead(), streams.events())
    assert await whole.publish("meta.0", b"next") == 2


async def test_a_consumer_that_has_not_come_so_far_stays_where_it_is(nats, worker_db, sql, whole):
    line = Line()
    await publish(whole, *texts(line, Customer(), "one"))
    async with working(worker_db, whole, Known(line)):
        await bodies_of(sql, line, 1)
        await acknowledged(whole)
    await publish(whole, *texts(line, Customer(), "two"))
    said = await rewind_to(nats, datetime.now(UTC) + timedelta(hours=1))
    assert "no consumer was further" in said
    assert (await whole.js.consumer_info(streams.META, "inbox-0")).num_pending == 1


async def test_events_are_forgotten_with_the_databases_that_they_told_of(nats, whole):
    await whole.publish("events.messaging.message.received.x", b"{}")
    await rewind_to(nats, datetime.now(UTC))
    assert streams.EVENTS not in {info.config.name for info in await whole.js.streams_info()}
    assert "events are forgotten" in await rewind_to(nats, datetime.now(UTC))


async def test_streams_with_messages_are_not_overwritten(nats, whole, tmp_path):
    await whole.publish("meta.0", b"old")
    backup = await save_all(nats, tmp_path)
    with pytest.raises(SnapshotFailed, match="META is there and holds 1 messages"):
        await restore_all(nats, backup)


@pytest.mark.parametrize("damage", ["changed", "missing"])
async def test_a_damaged_backup_changes_nothing(nats, whole, tmp_path, lose_everything, damage):
    await whole.publish("meta.0", b"old" * 100)
    backup = await save_all(nats, tmp_path)
    archive = backup / "META" / "stream.tar.s2"
    if damage == "changed":
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 0xFF
        archive.write_bytes(content)
    else:
        archive.unlink()
    await lose_everything()
    with pytest.raises(BackupDamaged):
        await restore_all(nats, backup)
    assert [info.config.name for info in await whole.js.streams_info()] == ["OTHER"]


async def test_the_newest_two_stay_and_what_was_broken_off_goes(nats, whole, tmp_path, lose_everything):
    for name in ("2020-01-01T000000Z", "2020-01-02T000000Z", ".unfinished-2020-01-03T000000Z"):
        (tmp_path / name / "META").mkdir(parents=True)
    backup = await save_all(nats, tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [".last-success", "2020-01-02T000000Z", backup.name]
    # A folder of backups stands for its newest one.
    await lose_everything()
    assert backup.name in await restore_all(nats, tmp_path)


async def test_an_archive_that_the_server_refuses_leaves_the_rest_to_a_second_try(
    nats, whole, tmp_path, lose_everything
):
    await whole.publish("meta.0", b"kept")
    backup = await save_all(nats, tmp_path)
    good = tmp_path / "good"
    shutil.copytree(backup, good)
    (backup / "META" / "stream.tar.s2").write_bytes(b"no archive")
    (backup / "SUMS.json").write_text(json.dumps(stream_backups._sums(backup)))
    await lose_everything()
    with pytest.raises(SnapshotFailed):
        await restore_all(nats, backup)
    for info in await whole.js.streams_info():
        assert info.config.name != streams.META
    await lose_everything()
    assert "META (1 messages)" in await restore_all(nats, good)
