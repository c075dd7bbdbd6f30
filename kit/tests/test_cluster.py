"""Streams with three replicas, on a cluster of three real servers of which one dies."""

import asyncio
import json
from contextlib import suppress

import nats.errors
import pytest
from nats.js.errors import APIError, NoStreamResponseError

from devstack.engines.nats import Nats
from devstack.ports import LOOPBACK, PortClaims
from kit import streams
from kit.bus import Bus

SECONDS = 60
AWAY = (nats.errors.Error, APIError, NoStreamResponseError, ConnectionError, TimeoutError)


class Member(Nats):
    """One of a cluster."""

    def join(self, name: str, port: int, ports: list[int]) -> None:
        """Write its configuration."""
        self.prepare()
        configuration = json.loads(self._file.read_text())
        routes = [f"nats://{LOOPBACK}:{each}" for each in ports]
        configuration |= {"server_name": name, "cluster": {"name": "test", "listen": f"{LOOPBACK}:{port}"}}
        configuration["cluster"]["routes"] = routes
        # A system account of its own, which a cluster needs beside the others.
        configuration["accounts"]["SYS"] = {"users": [{"user": "sys", "password": "sys"}]}
        configuration["system_account"] = "SYS"
        self._file.write_text(json.dumps(configuration))


@pytest.fixture
async def cluster(tmp_path):
    """URLs of three servers, and their processes."""
    claims = PortClaims()
    routes = [claims.claim() for _ in range(3)]
    members = [Member(tmp_path / str(n), claims.claim(), {"main": "secret"}) for n in range(3)]
    processes = []
    for number, member in enumerate(members):
        member.join(f"n{number}", routes[number], routes)
        command = member.command()
        log = (tmp_path / f"{number}.log").open("wb")
        processes.append(
            await asyncio.create_subprocess_exec(
                *command.argv, env=dict(command.environment), stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        )
        log.close()
    yield [member.url("main") for member in members], processes
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    claims.release()


async def patiently(work):
    """What `work` gives, as soon as the cluster lets it."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await work()
            except AWAY:
                await asyncio.sleep(0.1)


async def test_what_was_acknowledged_is_there_when_a_server_dies(cluster):
    urls, processes = cluster
    bus = await patiently(lambda: Bus.connect(urls[0], name="test"))
    await patiently(lambda: bus.ensure(streams.events(replicas=1)))
    await patiently(lambda: bus.ensure(streams.events(replicas=3)))  # a stream that exists follows the setting

    async def has_followers():
        cluster = (await bus.js.stream_info(streams.EVENTS)).cluster
        if len([peer for peer in cluster.replicas or [] if peer.current]) < 2:
            raise TimeoutError
        return True

    await patiently(has_followers)
    acknowledged = []
    for number in range(60):
        if number == 20:
            processes[0].kill()  # the one that this client reached

        def publish(number=number):
            return bus.publish("events.a.b.c.d", str(number).encode(), key=str(number))

        await patiently(publish)
        acknowledged.append(str(number).encode())
    state = (await patiently(lambda: bus.js.stream_info(streams.EVENTS))).state
    assert state.messages == 60
    stored = [await patiently(lambda n=n: bus.js.get_msg(streams.EVENTS, n)) for n in range(1, 61)]
    assert [message.data for message in stored] == acknowledged
    await bus.close()
