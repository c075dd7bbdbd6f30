"""Settings: typed, complete, and clear about mistakes without showing secrets."""

import base64

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kit.settings import CommaList, Port, SecretCommaList, ServiceSettings

SEED = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="AEROSTIC_SHOP_")

    port: Port = Field(9000, description="Where it listens")
    secrets: SecretCommaList = Field([], description="App secrets")
    origins: CommaList = Field([], description="Origins")
    database_url: SecretStr = Field(description="postgresql://…")


class ShopWorkerSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="AEROSTIC_SHOP_")

    speed: int = Field(1, description="Of the worker only")


@pytest.fixture
def complete(monkeypatch):
    monkeypatch.setenv("AEROSTIC_NATS_URL", "nats://u:hunter2@h:4222")
    monkeypatch.setenv("AEROSTIC_SERVICE_KEY", SEED)
    monkeypatch.setenv("AEROSTIC_SHOP_DATABASE_URL", "postgresql://u:hunter2@h/d")
    return monkeypatch


def test_values_are_read_and_typed(complete) -> None:
    complete.setenv("AEROSTIC_SHOP_SECRETS", "one, two")
    complete.setenv("AEROSTIC_SHOP_ORIGINS", "https://a.example,https://b.example")
    settings = ShopSettings.load()
    assert settings.port == 9000
    assert [secret.get_secret_value() for secret in settings.secrets] == ["one", "two"]
    assert settings.origins == ["https://a.example", "https://b.example"]
    assert settings.service_key.get_secret_value() == b"s" * 32


def test_missing_wrong_and_misspelt_settings_are_all_named_at_once(complete) -> None:
    complete.delenv("AEROSTIC_NATS_URL")
    complete.setenv("AEROSTIC_SHOP_PORT", "hunter2")
    complete.setenv("AEROSTIC_SHOP_ORIGIN", "x")
    complete.setenv("AEROSTIC_SERVICE_KEY", "hunter2")
    with pytest.raises(SystemExit) as ended:
        ShopSettings.load()
    text = str(ended.value)
    assert "AEROSTIC_NATS_URL is not set: nats://user:password@host:4222" in text
    assert "AEROSTIC_SHOP_PORT: " in text
    assert "AEROSTIC_SHOP_ORIGIN is no setting; did you mean AEROSTIC_SHOP_ORIGINS?" in text
    assert "AEROSTIC_SERVICE_KEY: " in text
    assert "hunter2" not in text


def test_settings_of_the_services_other_processes_are_known(complete) -> None:
    complete.setenv("AEROSTIC_SHOP_SPEED", "3")
    assert ShopSettings.load().port == 9000
    complete.delenv("AEROSTIC_SHOP_SPEED")


def test_every_setting_is_described(complete) -> None:
    described = {item.variable: item for item in ShopSettings.describe()}
    assert described["AEROSTIC_SHOP_PORT"].default == 9000
    assert described["AEROSTIC_SHOP_DATABASE_URL"].is_required
    assert all(item.description for item in described.values())


def test_the_log_shows_secrets_as_set_or_not(complete) -> None:
    import structlog

    with structlog.testing.capture_logs() as lines:
        ShopSettings.load().log_effective()
    assert lines[0]["database_url"] is True
    assert "hunter2" not in str(lines)


def test_secrets_may_stand_in_files_and_the_environment_goes_first(complete, tmp_path) -> None:
    complete.delenv("AEROSTIC_NATS_URL")
    complete.delenv("AEROSTIC_SHOP_DATABASE_URL")
    complete.setenv("AEROSTIC_SECRETS_FOLDER", str(tmp_path))
    (tmp_path / "AEROSTIC_NATS_URL").write_text("nats://from-a-file\n")
    (tmp_path / "AEROSTIC_SHOP_DATABASE_URL").write_text("postgresql://from-a-file")
    (tmp_path / "AEROSTIC_SHOP_PORT").write_text("9001")
    complete.setenv("AEROSTIC_SHOP_PORT", "9002")
    settings = ShopSettings.load()
    assert settings.nats_url.get_secret_value() == "nats://from-a-file"
    assert settings.database_url.get_secret_value() == "postgresql://from-a-file"
    assert settings.port == 9002


def test_a_folder_of_secrets_that_is_not_there_is_told(complete, tmp_path) -> None:
    complete.setenv("AEROSTIC_SECRETS_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"AEROSTIC_SECRETS_FOLDER: .*nowhere is no folder"):
        ShopSettings.load()
