"""The ingest as a process: killed in the middle of traffic, told to stop, started with wrong settings."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from ingest_harness import SECONDS, Client, eventually
from webhook_factories import make_body, make_change, make_message

from devstack.ports import LOOPBACK

CLIENTS = 16


@asynccontextmanager
async def process(settings: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m svc_webhooks ingest`, gone when the block ends."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "svc_webhooks", "ingest"),
        env={**others, **settings},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


class Traffic:
    """Clients that post one body after another and remember which were answered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: list[bytes] = []
        self.refused: list[int] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._post(f"551198765{number:04}")) for number in range(CLIENTS)]

    async def until(self, count: int) -> None:
        async def answered() -> bool:
            return len(self.acknowledged) >= count

        await eventually(answered)

    async def end(self) -> None:
        """Each client ends when nobody listens any more."""
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*self._tasks)

    async def _post(self, contact: str) -> None:
        number = 0
        while True:
            number += 1
            body = make_body(make_change(messages=(make_message(contact, f"{contact} {number}"),)))
            try:
                status = await self._client.post(body)
            except aiohttp.ClientError:
                return
            if status == 200:
                self.acknowledged.append(body)
            else:
                self.refused.append(status)


async def test_every_body_that_was_answered_before_a_kill_is_on_disk(nats, journal, environment, http):
    settings = {**environment, "AEROSTIC_NATS_URL": nats}
    client = Client(int(environment["AEROSTIC_WEBHOOKS_PORT"]), http)
    traffic = Traffic(client)
    for kill in range(3):
        async with process(settings) as running:
            await client.until(200)
            traffic.start()
            await traffic.until((kill + 1) * 300)
            running.kill()
            await traffic.end()
    stored = await journal.bodies()
    assert set(traffic.acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
    assert traffic.refused == []


async def test_told_to_stop_it_answers_what_it_has_taken_and_ends_well(nats, journal, environment, http):
    client = Client(int(environment["AEROSTIC_WEBHOOKS_PORT"]), http)
    async with process({**environment, "AEROSTIC_NATS_URL": nats}) as running:
        await client.until(200)
        traffic = Traffic(client)
        traffic.start()
        await traffic.until(200)
        running.send_signal(signal.SIGTERM)
        await traffic.end()
        assert await asyncio.wait_for(running.wait(), SECONDS) == 0
    assert sorted(await journal.bodies()) == sorted(traffic.acknowledged)
    assert traffic.refused == []


async def test_wrong_settings_end_it_with_one_line_for_each_and_no_secret(environment):
    wrong = {
        "AEROSTIC_WEBHOOKS_VERIFY_TOKEN": "",
        "AEROSTIC_WEBHOOKS_APP_SECRETS": " , ",
        "AEROSTIC_META_PARTITIONS": "0",
    }
    async with process({**environment, **wrong}) as running:
        _, said = await asyncio.wait_for(running.communicate(), SECONDS)
        assert running.returncode == 1
    lines = said.decode().splitlines()
    assert len(lines) == 4
    for name in ("AEROSTIC_NATS_URL", *wrong):
        assert any(name in line for line in lines), name


async def test_a_nats_that_would_refuse_large_webhooks_is_noticed_at_the_start(environment, ports, tmp_path):
    port = ports.claim()
    nats_server = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("nats-server")),
        *("--jetstream", "--store_dir", str(tmp_path), "--addr", LOOPBACK, "--port", str(port)),  # takes 1 MB
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with process({**environment, "AEROSTIC_NATS_URL": f"nats://{LOOPBACK}:{port}"}) as running:
            _, said = await asyncio.wait_for(running.communicate(), SECONDS)
            assert running.returncode == 1
        assert b"max_payload must be" in said
    finally:
        nats_server.kill()
        await nats_server.wait()
