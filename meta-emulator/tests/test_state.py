import asyncio
import os
import signal
import sys

import aiohttp
import pytest

from meta_emulator import settings, store
from meta_emulator.behaviour import Behaviour
from meta_emulator.settings import Settings

ENVIRONMENT = {"AEROSTIC_EMULATOR_APP_SECRET": "s", "AEROSTIC_EMULATOR_VERIFY_TOKEN": "v"}


@pytest.fixture
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AEROSTIC_EMULATOR_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_defaults_are_those_of_make_up(environment):
    chosen = settings.load()
    assert (chosen.host, chosen.port) == ("127.0.0.1", 8090)
    assert chosen.callback_url == "http://127.0.0.1:8080/webhooks/meta"
    assert (chosen.throughput_per_second, chosen.pair_limit, chosen.pair_burst) == (80, True, 45)
    assert chosen.closed_window == "async"


def test_spans_are_read_as_json(environment):
    environment.setenv("AEROSTIC_EMULATOR_SENT_DELAY_SECONDS", "[0, 0.5]")
    assert settings.load().behaviour().sent_delay_seconds == (0.0, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AEROSTIC_EMULATOR_PROT", "1", "unknown setting AEROSTIC_EMULATOR_PROT"),
        ("AEROSTIC_EMULATOR_PORT", "x", "AEROSTIC_EMULATOR_PORT: Input should be a valid integer"),
        ("AEROSTIC_EMULATOR_READ_PROBABILITY", "2", "AEROSTIC_EMULATOR_READ_PROBABILITY"),
    ],
)
def test_bad_settings_are_named(environment, name, value, text):
    environment.setenv(name, value)
    with pytest.raises(settings.SettingsRefused, match=text):
        settings.load()


def test_secrets_are_required(environment):
    environment.delenv("AEROSTIC_EMULATOR_APP_SECRET")
    with pytest.raises(settings.SettingsRefused, match="AEROSTIC_EMULATOR_APP_SECRET: Field required"):
        settings.load()


def test_every_behaviour_has_a_setting_and_every_setting_a_description():
    assert set(Behaviour.__struct_fields__) <= set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


async def test_numbers_tokens_chats_and_media_survive_a_restart(make_rig, tmp_path):
    rig = await make_rig(state_file=tmp_path / "deep" / "state.json", seed=None)
    number = await rig.number()
    image = {"type": "image", "image": {"data": "iVBORw0KGgo="}}
    await rig.hears(number, message=image)
    await rig.control("PATCH", "/config", {"readProbability": 0})
    await rig.settle()
    media_id = rig.callback.messages()[0]["image"]["id"]
    await rig.restart()
    assert (await rig.call("GET", f"/v24.0/{number.id}", headers=number.auth))[0] == 200
    assert (await rig.control("GET", "/config"))["readProbability"] == 0
    await rig.send_text(number)
    await rig.pass_time(times=5)
    assert [s["status"] for s in rig.callback.statuses()] == ["sent", "delivered"]
    async with rig.http.get(f"{rig.base}/_emulator/media/{media_id}") as answer:
        assert await answer.read() == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "deep" / "state.json").stat().st_mode & 0o077 == 0


async def test_the_state_is_written_while_it_runs(make_rig, tmp_path):
    path = tmp_path / "state.json"
    rig = await make_rig(state_file=path, state_save_seconds=0.01)
    number = await rig.number()
    await rig.until(lambda: path.exists() and number.id in store.load(path).world.numbers)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 99}', b'{"world": 5}'])
async def test_a_damaged_state_file_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(store.StateUnreadable, match=r"state\.json"):
        store.load(path)
    assert path.read_bytes() == content


async def test_the_program_serves_until_it_is_told_to_stop(tmp_path):
    state = tmp_path / "state.json"
    environment = os.environ | ENVIRONMENT
    environment |= {"AEROSTIC_EMULATOR_PORT": "0", "AEROSTIC_EMULATOR_STATE_FILE": str(state)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meta_emulator", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        line = (await process.stderr.readline()).decode()
        url = line.partition("url=")[2].split()[0]
        async with aiohttp.ClientSession() as http, http.post(f"{url}/_emulator/numbers") as answer:
            assert answer.status == 201
            number_id = (await answer.json())["phoneNumberId"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert number_id in store.load(state).world.numbers


async def test_the_program_names_a_missing_setting(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AEROSTIC_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meta_emulator", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, text = await process.communicate()
    assert process.returncode == 2
    assert b"AEROSTIC_EMULATOR_APP_SECRET: Field required" in text
