"""Settings of the ingest."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kit.settings import Port, SecretCommaList, StreamSettings, shared


class IngestSettings(StreamSettings):
    """Of `ingest`."""

    model_config = SettingsConfigDict(env_prefix="AEROSTIC_WEBHOOKS_")

    host: str = Field("127.0.0.1", description="Address that it listens on")
    port: Port = Field(9104, description="HTTP: /webhooks/meta, /healthz, /readyz, /metrics")
    app_secrets: SecretCommaList = Field(
        min_length=1, description="App secrets of Meta that sign webhooks; several while one is being replaced"
    )
    verify_token: SecretStr = Field(
        min_length=1, description="What Meta sends to prove that it is told to call this address"
    )
    meta_partitions: Annotated[int, Field(ge=1, le=1024)] = shared(
        "AEROSTIC_META_PARTITIONS",
        default=1,
        description="Partitions of the stream META; the same in every process, changed only while nothing is queued",
    )
    waiting_max: Annotated[int, Field(ge=1)] = Field(
        20_000, description="Webhooks that may wait for the disk; more are answered 503, and Meta sends them again"
    )
