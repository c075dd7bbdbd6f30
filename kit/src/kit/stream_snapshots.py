"""A stream with its consumers as files, by the JetStream API for snapshots, and back.

A folder holds `backup.json` (configuration and state) and `stream.tar.s2` (the server's own archive): what `nats stream
backup` writes and `nats stream restore` reads.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from kit.bus import Bus, Msg

_FACTS, _ARCHIVE = "backup.json", "stream.tar.s2"
_CHUNK_BYTES = 128 * 1024
_ANSWER_SECONDS = 30.0
# The server checks and packs a whole stream before the first chunk, and unpacks one after the last.
_WORK_SECONDS = 600.0
_NO_CONTENT = "204"
_LOOK_SECONDS = 300.0


class SnapshotFailed(Exception):
    """The server did not make or take a snapshot. The text says why."""


async def save(bus: Bus, stream: str, folder: Path) -> int:
    """Write the stream into a new folder; gives the number of its messages. What is published meanwhile may be in it or
    not. Raises SnapshotFailed and what `kit.tail.OUTAGES` names.
    """
    inbox = bus.client.new_inbox()
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await bus.client.subscribe(inbox, cb=chunks.put)
    try:
        request = {"deliver_subject": inbox, "chunk_size": _CHUNK_BYTES, "jsck": True}
        facts = await _ask(bus, f"$JS.API.STREAM.SNAPSHOT.{stream}", request)
        await asyncio.to_thread(folder.mkdir, parents=True)
        with (folder / _ARCHIVE).open("wb") as archive:
            async for chunk in _until_end(bus, chunks):
                await asyncio.to_thread(archive.write, chunk)
    finally:
        await subscription.unsubscribe()
    kept = {"config": facts["config"], "state": facts["state"]}
    (folder / _FACTS).write_text(json.dumps(kept, indent=1), encoding="utf-8")
    count: int = facts["state"]["messages"]
    return count


async def _until_end(bus: Bus, chunks: "asyncio.Queue[Msg]") -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = await asyncio.wait_for(chunks.get(), _WORK_SECONDS)
        except TimeoutError:
            raise SnapshotFailed(f"The snapshot did not go on for {_WORK_SECONDS:.0f} seconds.") from None
        if chunk.data:
            yield chunk.data
            if chunk.reply:
                await bus.client.publish(chunk.reply, b"")
            continue
        headers = chunk.headers or {}
        if headers.get("Status", _NO_CONTENT) != _NO_CONTENT:
            raise SnapshotFailed(f"The server broke the snapshot off: {headers.get('Description') or headers}")
        return


async def restore(bus: Bus, folder: Path) -> tuple[str, int]:
    """Make the stream of a folder anew, with its sequences and consumers; gives its name and how many messages it has.
    An empty stream of its name makes way. Raises SnapshotFailed where one with messages is there.
    """
    kept = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    stream: str = kept["config"]["name"]
    await _make_way(bus, stream)
    ready = await _ask(bus, f"$JS.API.STREAM.RESTORE.{stream}", kept)
    with (folder / _ARCHIVE).open("rb") as archive:
        while chunk := await asyncio.to_thread(archive.read, _CHUNK_BYTES):
            answer = await bus.client.request(ready["deliver_subject"], chunk, timeout=_ANSWER_SECONDS)
            if answer.data:
                _refuse(json.loads(answer.data), stream)
    end = await bus.client.request(ready["deliver_subject"], b"", timeout=_WORK_SECONDS)
    done = json.loads(end.data)
    _refuse(done, stream)
    return stream, done["state"]["messages"]


async def _make_way(bus: Bus, stream: str) -> None:
    try:
        found = await _ask(bus, f"$JS.API.STREAM.INFO.{stream}", {})
    except SnapshotFailed:
        return
    if found["state"]["messages"]:
        raise SnapshotFailed(f"The stream {stream} is there and holds {found['state']['messages']} messages.")
    await bus.js.delete_stream(stream)


async def rewind(bus: Bus, stream: str, since: datetime) -> dict[str, int]:
    """Let the stream's durable consumers begin again at its first message since then, as if they had acknowledged none
    of the later ones; consumers that are not so far stay. Gives consumer and sequence of those that went back. Nobody
    may be reading meanwhile.
    """
    first = await _first_since(bus, stream, since)
    moved = {}
    for info in await _consumers(bus, stream):
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        if info.config.durable_name and floor >= first:
            await _ask(bus, f"$JS.API.CONSUMER.RESET.{stream}.{info.name}", {"seq": first})
            moved[info.name] = first
    return moved


async def _consumers(bus: Bus, stream: str) -> list[ConsumerInfo]:
    found: list[ConsumerInfo] = []
    while page := await bus.js.consumers_info(stream, offset=len(found)):
        found += page
    return found


async def _first_since(bus: Bus, stream: str, since: datetime) -> int:
    """The sequence where a consumer would begin that asks for what came since then."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=since,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=_LOOK_SECONDS,
        mem_storage=True,
    )
    looking = await bus.js.add_consumer(stream, config)
    try:
        return (looking.delivered.stream_seq if looking.delivered else 0) + 1
    finally:
        await bus.js.delete_consumer(stream, looking.name)


async def _ask(bus: Bus, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
    answer = await bus.client.request(subject, json.dumps(request).encode(), timeout=_WORK_SECONDS)
    found: dict[str, Any] = json.loads(answer.data)
    _refuse(found, subject)
    return found


def _refuse(answer: Mapping[str, Any], what: str) -> None:
    if error := answer.get("error"):
        raise SnapshotFailed(f"{what}: {error.get('description', error)} ({error.get('err_code', '')})")
