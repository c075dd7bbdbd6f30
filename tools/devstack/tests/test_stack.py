"""Several products side by side, each in its own folder, each process with what it needs and nothing else."""

import aiohttp
import pytest

from devstack.locks import FolderInUse
from devstack.processes import PROCESSES
from devstack.settings import SERVICE_KEYS, SettingsRefused
from devstack.stack import Stack
from devstack.units import StartFailed

EMULATOR = "meta-emulator"


async def status(url):
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status


@pytest.mark.timeout(240)
async def test_two_stacks_live_side_by_side_and_one_survives_a_kill(tmp_path):
    async with (
        Stack(tmp_path / "one", services=EMULATOR, free_ports=True, postgres={"work_mem": "5MB"}) as one,
        Stack(tmp_path / "two", services=EMULATOR, free_ports=True) as two,
    ):
        assert one.url(EMULATOR) != two.url(EMULATOR)
        assert one.database("auth").server.port != two.database("auth").server.port
        for stack in (one, two):
            assert await status(f"{stack.url(EMULATOR)}/healthz") == 200
        for name in (EMULATOR, "nats", "postgres"):
            await one.kill(name)
            await one.until_ready(name)
        assert await status(f"{one.url(EMULATOR)}/healthz") == 200
        assert [stack.postgres.run("SHOW work_mem") for stack in (one, two)] == ["5MB", "4MB"]
        assert [two.restarts(name) for name in two.services] == [0, 0, 0]
        assert "listening" in one.log(EMULATOR).read_text()


async def test_the_folder_is_free_again_after_a_refused_start(tmp_path):
    for _ in range(2):
        with pytest.raises(SettingsRefused):
            Stack(tmp_path, overrides={"AEROSTIC_NATS_PORT": "none"})
        with pytest.raises(StartFailed, match="SERVICES names nobody"):
            Stack(tmp_path, services="nobody")
    first = Stack(tmp_path, services=EMULATOR, free_ports=True)
    with pytest.raises(FolderInUse):
        Stack(tmp_path, services=EMULATOR, free_ports=True)
    await first.stop()


async def test_a_process_sees_its_own_secrets_only(tmp_path, monkeypatch):
    monkeypatch.setenv("AEROSTIC_GATEWAY_PORT", "1")
    monkeypatch.setenv("PGPASSWORD", "of the caller")
    overrides = {"AEROSTIC_AUTH_BCRYPT_COST": "5", "AEROSTIC_OTLP_ENDPOINT": "http://127.0.0.1:4317"}
    stack = Stack(tmp_path, free_ports=True, overrides=overrides)
    seen = {process.name: stack.environment(process) for process in PROCESSES}
    await stack.stop()

    assert all("PGPASSWORD" not in environment for environment in seen.values())
    assert seen["gateway"]["AEROSTIC_GATEWAY_PORT"] == stack.settings["AEROSTIC_GATEWAY_PORT"] != "1"
    assert [name for name in seen if "AEROSTIC_AUTH_BCRYPT_COST" in seen[name]] == ["svc-auth"]
    assert all(seen[name]["AEROSTIC_OTLP_ENDPOINT"] for name in seen if name != EMULATOR)
    keys = {name: seen[name]["AEROSTIC_SERVICE_KEY"] for name in SERVICE_KEYS}
    assert keys == {name: stack.settings[setting] for name, setting in SERVICE_KEYS.items()}
    assert len(set(keys.values())) == len(keys)
    assert not [name for environment in seen.values() for name in environment if "OWNER" in name or "ROLE_" in name]
    holders = [name for name in seen if "AEROSTIC_MESSAGING_WORKER_DATABASE_URL" in seen[name]]
    assert holders == ["messaging-inbox", "messaging-sender"]
    assert all("AEROSTIC_MESSAGING_DATABASE_URL" not in seen[name] for name in holders)
