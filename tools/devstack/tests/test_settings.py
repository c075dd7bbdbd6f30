"""Settings and secrets of a stack: where they come from, who may read them, what is refused."""

import json
import stat
from pathlib import Path

import pytest

from devstack import generated
from devstack.databases import ROOT
from devstack.settings import DEFAULTS, SERVICE_KEYS, SettingsRefused, read_env_file, resolve
from kit.service_tokens import ServiceIdentity, ServiceTrust


def make_settings(tmp_path, **overrides):
    return resolve(folder=tmp_path, secrets=generated.load_or_make(tmp_path / "secrets"), overrides=overrides)


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path):
    first = generated.load_or_make(tmp_path / "secrets")
    assert set(first) == set(generated.SECRETS)
    assert len(set(first.values())) == len(first)
    assert generated.load_or_make(tmp_path / "secrets") == first
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / generated.FILE).stat().st_mode) == 0o600


def test_secrets_opened_by_accident_are_closed_again(tmp_path):
    generated.load_or_make(tmp_path)
    (tmp_path / generated.FILE).chmod(0o644)
    generated.load_or_make(tmp_path)
    assert stat.S_IMODE((tmp_path / generated.FILE).stat().st_mode) == 0o600


def test_a_secret_that_a_later_version_needs_is_added_to_the_known_ones(tmp_path, monkeypatch):
    first = generated.load_or_make(tmp_path)
    monkeypatch.setitem(generated.SECRETS, "AEROSTIC_LATER", lambda: "fresh")
    assert generated.load_or_make(tmp_path) == {**first, "AEROSTIC_LATER": "fresh"}


def test_every_process_trusts_the_keys_the_others_get(tmp_path):
    settings = make_settings(tmp_path)
    trust = ServiceTrust.from_json(settings["AEROSTIC_SERVICE_TRUST"])
    assert set(json.loads(settings["AEROSTIC_SERVICE_TRUST"])) == set(SERVICE_KEYS)
    for name, setting in SERVICE_KEYS.items():
        identity = ServiceIdentity(name, generated.key_bytes(settings[setting]))
        assert trust.verify(identity.token()).name == name


def test_overrides_reach_what_is_derived_from_them(tmp_path):
    settings = make_settings(tmp_path, AEROSTIC_POSTGRES_PORT="6000", AEROSTIC_GATEWAY_PORT="6001")
    assert settings["AEROSTIC_AUTH_DATABASE_URL"].endswith("@127.0.0.1:6000/auth")
    assert settings["AEROSTIC_EMULATOR_CALLBACK_URL"] == "http://127.0.0.1:6001/webhooks/meta"


def test_a_derived_setting_may_be_set_outright(tmp_path):
    url = "postgresql://elsewhere/auth"
    assert make_settings(tmp_path, AEROSTIC_AUTH_DATABASE_URL=url)["AEROSTIC_AUTH_DATABASE_URL"] == url


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AEROSTIC_GATEWY_PORT", "1", "AEROSTIC_GATEWY_PORT is not a setting"),
        ("AEROSTIC_GATEWAY_PORT", "80800", "AEROSTIC_GATEWAY_PORT must be a port between 1 and 65535, not '80800'"),
        ("AEROSTIC_NATS_PORT", "four", "AEROSTIC_NATS_PORT must be a port"),
        ("AEROSTIC_GATEWAY_SERVICE_KEY", "short", "AEROSTIC_GATEWAY_SERVICE_KEY"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path, name, value, text):
    with pytest.raises(SettingsRefused, match=text):
        make_settings(tmp_path, **{name: value})


def test_free_ports_replace_all_default_ones(tmp_path):
    numbers = iter(range(20000, 21000))
    settings = resolve(
        folder=tmp_path,
        secrets=generated.load_or_make(tmp_path),
        overrides={},
        free_port=lambda: next(numbers),
    )
    assert all(int(settings[name]) >= 20000 for name in DEFAULTS if name.endswith("_PORT"))


def test_the_example_names_every_default_and_changes_nothing(tmp_path):
    example = read_env_file(ROOT / ".env.example")
    assert example == DEFAULTS
    assert make_settings(tmp_path, **example)["AEROSTIC_GATEWAY_PORT"] == "8080"


def test_env_files_are_read_as_people_write_them(tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\n"
        "AEROSTIC_A=plain\n"
        "export AEROSTIC_B = spaced  # remark\n"
        "AEROSTIC_C='single # quoted'\n"
        'AEROSTIC_D="double"\n'
        "AEROSTIC_E=\n"
        "OTHER=ignored\n"
    )
    assert read_env_file(file) == {
        "AEROSTIC_A": "plain",
        "AEROSTIC_B": "spaced",
        "AEROSTIC_C": "single # quoted",
        "AEROSTIC_D": "double",
        "AEROSTIC_E": "",
    }
    file.write_text("AEROSTIC_A=1\nnonsense\n")
    with pytest.raises(SettingsRefused, match="line 2"):
        read_env_file(file)
    assert read_env_file(Path(tmp_path / "none")) == {}
