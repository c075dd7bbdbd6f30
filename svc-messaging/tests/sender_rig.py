"""A sender at work on one partition, a number at the emulator, and svc-tenants as far as the sender asks it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from messaging_factories import make_contact, make_conversation, make_message

from kit import outbox
from kit.db import Database
from kit.outbox import Relay
from kit.principal import Principal
from kit.streams import SEND
from svc_messaging import send_commands
from svc_messaging.send_commands import JOINS, Command
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.credentials import Credentials, CredentialsUnavailable, NotConnected
from svc_messaging.sender.graph import GraphClient
from svc_messaging.sender.media_in import MediaFetcher
from svc_messaging.sender.media_out import MediaUploads
from svc_messaging.sender.parts import Parts
from svc_messaging.sender.recorder import Recorder
from svc_messaging.sender.taking_over import Partition
from svc_messaging.sender.worker import PartitionWorker, release_due_retries

WORKER = Principal.service("messaging-sender")
SECONDS = 40
PARTITIONS = 1


@dataclass
class Meta:
    """The emulator by its control API."""

    url: str
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, **body: Any) -> Any:
        async with self.http.request(method, f"{self.url}/_emulator/{path}", json=body or None) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def sent(self, number: str) -> list[dict[str, Any]]:
        return (await self.call("GET", f"messages?phoneNumberId={number}"))["messages"]


@dataclass
class Tokens:
    """What svc-tenants hands out."""

    known: dict[str, Credentials] = field(default_factory=dict)
    away: bool = False

    async def get(self, number: str) -> Credentials:
        if self.away:
            raise CredentialsUnavailable("away")
        if number not in self.known:
            raise NotConnected(number)
        return self.known[number]

    def forget(self, number: str) -> None:
        pass


@dataclass
class Shop:
    """A workspace with a number at Meta."""

    tenant_id: uuid.UUID
    number: str
    sql: Any
    db: Database
    meta: Meta
    tokens: Tokens

    async def customer(self, **columns: Any) -> Any:
        """Somebody who wrote within 24 hours, and the conversation."""
        contact = await make_contact(self.sql, self.tenant_id, **columns)
        if contact["wa_id"]:
            sender, message = {"waId": contact["wa_id"], "name": "Ana"}, {"type": "text", "text": {"body": "Hi"}}
            await self.meta.call("POST", "inbound", phoneNumberId=self.number, **{"from": sender}, message=message)
        return await make_conversation(self.sql, self.tenant_id, contact_id=contact["id"], phone_number_id=self.number)

    async def queue(self, conversation: Any, lane: str = "live", scope: str = "", **columns: Any) -> Any:
        """A queued message and its command."""
        given = {"direction": "outbound", "body": "We have it.", "lane": lane, **columns}
        message = await make_message(self.sql, self.tenant_id, conversation=conversation, **given)
        await self.command(message, lane, scope=scope)
        return message

    async def command(self, message: Any, lane: str = "live", attempt: int = 0, scope: str = "") -> None:
        command = Command(message["id"], self.tenant_id, self.number, message["contact_id"])
        outgoing = send_commands.outgoing(command, lane=lane, partitions=PARTITIONS, scope=scope, attempt=attempt)
        async with self.db.begin(WORKER) as tx:
            await outbox.add(tx, [outgoing])

    async def until(self, message: Any, *statuses: str) -> Any:
        return await poll(
            self.sql, "SELECT * FROM messages WHERE id = $1 AND status = ANY($2)", message["id"], statuses
        )

    async def until_told(self, message: Any) -> Any:
        """Until the row says why it waits, or did so before the next try."""
        return await poll(
            self.sql, "SELECT * FROM messages WHERE id = $1 AND (failure IS NOT NULL OR attempts > 1)", message["id"]
        )


async def poll(sql: Any, query: str, *args: Any) -> Any:
    async with asyncio.timeout(SECONDS):
        while (row := await sql.fetchrow(query, *args)) is None:  # noqa: ASYNC110 (the database tells nobody)
            await asyncio.sleep(0.02)
    return row


async def until_commands_are_gone(bus: Any) -> None:
    """The server removes a message a moment after it was acknowledged."""
    async with asyncio.timeout(SECONDS):
        while (await bus.js.stream_info(SEND)).state.messages:  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def sending(
    database, db, bus, shop, *, is_lease_lost=lambda: False, scope="", lease_held_at=time.monotonic
) -> AsyncIterator[None]:
    """The sender's parts as its process wires them, for one partition of a scope."""
    graph, stop, recorded = GraphClient(shop.meta.url, "v24.0"), asyncio.Event(), asyncio.Event()
    recorder = Recorder(db, WORKER)
    uploads, claimer = MediaUploads(db, WORKER, graph), Claimer(db, WORKER, partitions=PARTITIONS)
    parts = Parts(db, WORKER, graph, shop.tokens, uploads, claimer, recorder, is_lease_lost, lease_held_at)
    async with asyncio.TaskGroup() as tasks:
        recording = tasks.create_task(recorder.run(recorded))
        working = tasks.create_task(PartitionWorker(Partition(0, PARTITIONS, scope), bus=bus, parts=parts).run(stop))
        tasks.create_task(release_due_retries(db, WORKER, PARTITIONS, stop))
        tasks.create_task(Relay(database.worker_url, bus, joins=JOINS).run(stop))
        tasks.create_task(MediaFetcher(db, WORKER, graph, shop.tokens).run(database.worker_url, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait([working], timeout=SECONDS)
            recorded.set()
            await recording
    await graph.close()


def failure_of(row):
    return json.loads(row["failure"])
