"""Settings come from the environment, are typed, and are read once, in `__main__`.

Names that all processes share begin with AEROSTIC_, those of one service with AEROSTIC_<SERVICE>_. A name under the
service's own prefix that nothing reads is refused, since a misspelt setting would otherwise be silently ignored.
"""

import difflib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self

import structlog
from pydantic import BeforeValidator, Field, SecretBytes, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kit.keys import decode_key

log = structlog.get_logger()


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _seed(value: object) -> object:
    if isinstance(value, str):
        decoded = decode_key(value)
        if len(decoded) != 32:
            raise ValueError("must be 32 bytes in base64url")
        return decoded
    return value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_words)]
"""Words separated by commas."""
SecretCommaList = Annotated[list[SecretStr], NoDecode, BeforeValidator(_words)]
"""Secrets separated by commas, for rotation: the old ones stay valid beside the new one."""
Seed = Annotated[SecretBytes, BeforeValidator(_seed)]
"""32 bytes in base64url, such as the seed of an Ed25519 key."""
Port = Annotated[int, Field(ge=1, le=65535)]
SECRETS_FOLDER = "AEROSTIC_SECRETS_FOLDER"


def shared(name: str, *, default: Any = ..., description: str) -> Any:
    """A setting that several services read under one name."""
    return Field(default, validation_alias=name, description=description)


class Settings(BaseSettings):
    """What every process has. Subclasses set `env_prefix` and add their own fields, each with a description."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=False)

    environment: Literal["development", "production"] = shared(
        "AEROSTIC_ENVIRONMENT", default="development", description="production refuses what is unsafe outside a laptop"
    )
    log_level: Literal["debug", "info", "warning", "error"] = shared(
        "AEROSTIC_LOG_LEVEL", default="info", description="The least severe line that is written"
    )
    log_format: Literal["console", "json"] = shared(
        "AEROSTIC_LOG_FORMAT", default="json", description="console is for people, json for machines"
    )
    otlp_endpoint: str = shared(
        "AEROSTIC_OTLP_ENDPOINT", default="", description="Where traces go by OTLP/gRPC, such as http://host:4317"
    )
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = shared(
        "AEROSTIC_TRACE_SAMPLE_RATIO", default=0.01, description="Share of requests that are traced, from 0 to 1"
    )
    secrets_folder: str = shared(
        SECRETS_FOLDER,
        default="",
        description="Folder with files that are named after settings and hold their values; the environment goes first",
    )

    @classmethod
    def load(cls) -> Self:
        """Read the environment; on a mistake print one line for each and end the process."""
        problems = [*_unknown_names(cls)]
        try:
            settings = cls(**_sources())
        except ValidationError as error:
            problems += [_sentence(cls, dict(item)) for item in error.errors()]
        if problems:
            sys.exit("\n".join(problems))
        return settings

    @classmethod
    def describe(cls) -> "Iterator[SettingDescription]":
        """Every setting: what .env.example and the chart must name."""
        for field_name, field in cls.model_fields.items():
            default = "" if field.is_required() else field.default
            yield SettingDescription(_variable(cls, field_name), default, field.description or "", field.is_required())

    def log_effective(self) -> None:
        """One line with what is in force; of secrets only whether they are set."""
        shown = {name: _shown(getattr(self, name)) for name in type(self).model_fields}
        log.info("settings_loaded", **shown)


Days = Annotated[float, Field(gt=0, le=3650)]


class StreamSettings(Settings):
    """Settings of a process that publishes to or reads the streams: the same in all, since each makes sure of them."""

    nats_url: SecretStr = shared("AEROSTIC_NATS_URL", description="nats://user:password@host:4222")
    meta_keep_days: Days = shared(
        "AEROSTIC_META_KEEP_DAYS", default=7, description="Days that the raw journal of webhooks is kept"
    )
    meta_bytes_max: Annotated[int, Field(ge=0)] = shared(
        "AEROSTIC_META_BYTES_MAX",
        default=0,
        description="Bytes that the raw journal may take; then webhooks are answered 503. 0 leaves it to the disk",
    )
    events_keep_days: Days = shared(
        "AEROSTIC_EVENTS_KEEP_DAYS", default=3, description="Days that events are kept for readers that were away"
    )
    stream_replicas: Annotated[int, Field(ge=1, le=5)] = shared(
        "AEROSTIC_STREAM_REPLICAS",
        default=1,
        description="Servers that store each stream: 1, or 3 or 5 of a NATS cluster",
    )
    dead_keep_days: Days = shared("AEROSTIC_DEAD_KEEP_DAYS", default=30, description="Days that dead letters are kept")


class ServiceSettings(StreamSettings):
    """Settings of a process that calls or serves other processes."""

    service_key: Seed = shared("AEROSTIC_SERVICE_KEY", description="Seed of this process's own Ed25519 key, base64url")
    service_trust: str = shared(
        "AEROSTIC_SERVICE_TRUST", default="{}", description="JSON: process name to its public key, base64url"
    )


class SettingDescription(NamedTuple):
    """A setting as documentation needs it."""

    variable: str
    default: Any
    description: str
    is_required: bool


def _sources() -> dict[str, Any]:
    folder = os.environ.get(SECRETS_FOLDER)
    if folder and not os.path.isdir(folder):  # noqa: PTH112 (pathlib would be imported for this alone)
        sys.exit(f"{SECRETS_FOLDER}: {folder} is no folder")
    return {"_secrets_dir": folder} if folder else {}


def _variable(cls: type[Settings], field_name: str) -> str:
    alias = cls.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()


def _unknown_names(cls: type[Settings]) -> Iterator[str]:
    """Names under our prefix that neither this process nor another of the same service reads."""
    prefix = cls.model_config.get("env_prefix", "")
    if not prefix:
        return
    family = [each for each in _all_subclasses(Settings) if each.model_config.get("env_prefix") == prefix]
    known = {description.variable for each in family for description in each.describe()}
    for name in sorted(set(os.environ) - known):
        if name.startswith(prefix):
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            yield f"{name} is no setting{hint}"


def _all_subclasses(cls: type[Settings]) -> set[type[Settings]]:
    return {sub for direct in cls.__subclasses__() for sub in {direct, *_all_subclasses(direct)}}


def _sentence(cls: type[Settings], error: dict[str, Any]) -> str:
    """The rule that a variable breaks, never its value."""
    place = str(error["loc"][0]) if error["loc"] else ""
    variable = _variable(cls, place) if place in cls.model_fields else place.upper()
    if error["type"] == "missing":
        field = next(item for item in cls.describe() if item.variable == variable)
        return f"{variable} is not set: {field.description}"
    return f"{variable}: {error['msg'].removeprefix('Value error, ')}"


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return bool(value.get_secret_value())
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value
