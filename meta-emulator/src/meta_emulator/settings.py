"""Settings of the emulator: environment variables AEROSTIC_EMULATOR_*, read once in `__main__`."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from meta_emulator.behaviour import Behaviour

PREFIX = "AEROSTIC_EMULATOR_"

_Span = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
_Probability = Annotated[float, Field(ge=0, le=1)]


class SettingsRefused(Exception):
    """The environment does not make valid settings; the text says which variable and why."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    # Where it listens.
    host: str = Field("127.0.0.1", description="Address to bind")
    port: int = Field(8090, ge=0, le=65535, description="Port to bind; 0 takes a free one")
    public_url: str = Field("", description="Base of media URLs; empty: the Host header of the request")

    # The one app that uses the platform.
    callback_url: str = Field("http://127.0.0.1:8080/webhooks/meta", description="The app's webhook callback")
    app_id: str = Field("100000000000001", pattern=r"^\d{5,20}$", description="Id of the app")
    app_secret: SecretStr = Field(description="Signs webhooks and makes the app token APP_ID|APP_SECRET")
    verify_token: SecretStr = Field(description="Sent as hub.verify_token when the callback is verified")

    # State.
    state_file: Path | None = Field(None, description="Survive restarts in this file; media go to <file>.media/")
    state_save_seconds: float = Field(1.0, gt=0, description="Shortest time between two writes of the state file")
    history_limit: int = Field(200_000, ge=100, description="Messages kept; the oldest are forgotten first")
    seed: int | None = Field(None, description="Seed of ids and of chance; empty: different at each start")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level logged")

    # Webhook delivery.
    webhook_parallelism: int = Field(32, ge=1, le=1000, description="POSTs to the callback at a time")
    webhook_timeout_seconds: float = Field(10.0, gt=0, description="Longest wait for the callback's answer")
    webhook_retry_factor: float = Field(1 / 60, gt=0, description="Scales Meta's retry waits: 60, 120, 240… seconds")
    webhook_retry_max_seconds: float = Field(15.0, gt=0, description="Longest wait between two tries, after scaling")
    webhook_give_up_seconds: float = Field(7 * 86400.0, gt=0, description="A webhook is dropped when this old")

    # Default behaviour; PATCH /_emulator/config and /_emulator/numbers/{id} override it while it runs.
    sent_delay_seconds: _Span = Field((0.05, 0.2), description="Accepted to sent")
    delivered_delay_seconds: _Span = Field((0.1, 0.4), description="Sent to delivered, when the phone is online")
    read_delay_seconds: _Span = Field((0.5, 1.5), description="Delivered to read, for customers who read alone")
    failed_delay_seconds: _Span = Field((0.1, 0.4), description="Accepted to an asynchronous failure")
    response_delay_seconds: _Span = Field((0.0, 0.0), description="Accepting a send to answering it")
    read_probability: _Probability = Field(1.0, description="Share of delivered messages that get read")
    skip_delivered_probability: _Probability = Field(0.0, description="Share of reads without a delivered before")
    duplicate_probability: _Probability = Field(0.0, description="Share of webhooks sent twice")
    reorder_probability: _Probability = Field(0.0, description="Share of webhooks held back so that others overtake")
    reorder_delay_seconds: _Span = Field((1.0, 3.0), description="How long such a webhook is held back")
    extra_keys: bool = Field(False, description="Add unknown keys to webhooks, as future versions would")
    webhook_batch_size: int = Field(1, ge=1, le=1000, description="Most updates packed into one POST")
    webhook_version: Literal["v23.0", "v24.0"] = Field("v24.0", description="Shape of status webhooks")
    closed_window: Literal["async", "sync"] = Field("async", description="How 131047 is told")
    throughput_per_second: int = Field(80, ge=1, le=1000, description="Messages per number in any sliding second")
    inbound_counts_in_throughput: bool = Field(False, description="Whether inbound messages use that up too")
    pair_limit: bool = Field(True, description="Whether messages per number and user are limited (131056)")
    pair_burst: int = Field(45, ge=1, le=10_000, description="Messages to one user at once")
    pair_refill_seconds: float = Field(6.0, gt=0, le=3600, description="Then one more per this many seconds")
    rate_limit_http_status: Literal[400, 429] = Field(400, description="HTTP status of rate limit errors")
    bill_service_messages: bool = Field(False, description="Price non-template messages (Oct 2026 rules)")
    fetch_links: bool = Field(True, description="Download media given by link; off: any link counts as fine")

    def behaviour(self) -> Behaviour:
        return Behaviour(**{name: getattr(self, name) for name in Behaviour.__struct_fields__})


def load() -> Settings:
    """Read the environment; a misspelt name under our prefix is an error, not a silent default."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    if unknown := sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known):
        raise SettingsRefused(f"unknown setting {', '.join(unknown)}")
    environment: dict[str, Any] = {}  # pydantic-settings fills everything in from the process environment
    try:
        return Settings(**environment)
    except ValidationError as refused:
        lines = [f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in refused.errors()]
        raise SettingsRefused("; ".join(lines)) from refused
