"""The real process, as an operator starts and stops it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import aiohttp
import pytest
from gateway_peers import Recorder, play
from gateway_rig import SERVICES

from kit.keys import encode_key
from kit.testing.rpc import seed, serve

DEADLINE_SECONDS = 60


async def start(**settings):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve"),
        env=clean | {f"AEROSTIC_{name}": str(value) for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def outcome(process) -> tuple[int, str]:
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return process.returncode, output.decode()


@pytest.fixture
async def settings(nats, port):
    async with contextlib.AsyncExitStack() as stack:
        targets = {}
        for name, servicers in SERVICES.items():
            rpc = await stack.enter_async_context(serve(*(play(each, Recorder()) for each in servicers)))
            targets[f"{name.upper()}_TARGET"] = rpc.target
        yield {
            "NATS_URL": nats,
            "SERVICE_KEY": encode_key(seed("gateway")),
            "GATEWAY_PORT": port,
            **targets,
        }


async def until_ready(port: int, process) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as http:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)
    pytest.fail((await outcome(process))[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_serves_and_stops_in_order(settings, number):
    process = await start(**settings)
    await until_ready(settings["GATEWAY_PORT"], process)
    url = f"http://127.0.0.1:{settings['GATEWAY_PORT']}"
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}/.well-known/jwks.json") as response:
            assert (response.status, await response.json()) == (200, {"keys": []})
        async with http.get(f"{url}/metrics") as response:
            assert 'aerostic_build_info{service="gateway"' in await response.text()
    process.send_signal(number)
    code, output = await outcome(process)
    assert code == 0, output
    assert '"event": "process_stopped"' in output
    assert "Traceback" not in output
    assert settings["SERVICE_KEY"] not in output


async def test_an_address_that_is_taken_ends_it_with_the_reason(settings):
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", settings["GATEWAY_PORT"]))
        listener.listen()
        code, output = await outcome(await start(**settings))
    assert code == 1
    assert f"Cannot listen on 127.0.0.1:{settings['GATEWAY_PORT']}" in output


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8,rubbish", "AEROSTIC_GATEWAY_TRUSTED_PROXIES"),
        ("GATEWAY_INGEST_URL", "http://host/path", "AEROSTIC_GATEWAY_INGEST_URL"),
        ("GATEWAY_MEDIA_BYTES_MAKS", "1", "did you mean AEROSTIC_GATEWAY_MEDIA_BYTES_MAX?"),
    ],
)
async def test_a_wrong_setting_is_named(settings, name, value, told):
    code, output = await outcome(await start(**settings, **{name: value}))
    assert code == 1
    assert told in output
