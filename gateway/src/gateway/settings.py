"""What the gateway is told by its environment; read in `__main__` only."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from kit.settings import CommaList, Port, ServiceSettings, shared

MEBIBYTE = 1024 * 1024


def _networks(values: list[str]) -> list[str]:
    return [str(ipaddress.ip_network(value)) for value in values]


class GatewaySettings(ServiceSettings):
    """For `serve`."""

    model_config = SettingsConfigDict(env_prefix="AEROSTIC_GATEWAY_")

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: Port = Field(8080, description="HTTP: REST, live stream, webhooks, API reference, /metrics")
    auth_target: str = shared("AEROSTIC_AUTH_TARGET", default="127.0.0.1:9101", description="host:port of svc-auth")
    tenants_target: str = shared(
        "AEROSTIC_TENANTS_TARGET", default="127.0.0.1:9102", description="host:port of svc-tenants"
    )
    messaging_target: str = shared(
        "AEROSTIC_MESSAGING_TARGET", default="127.0.0.1:9103", description="host:port of svc-messaging"
    )
    ingest_url: str = Field(
        "http://127.0.0.1:9104", pattern=r"^https?://[^/]+$", description="svc-webhooks ingest: gets /webhooks/meta"
    )

    trusted_proxies: Annotated[CommaList, AfterValidator(_networks)] = Field(
        [], description="Addresses or networks of our own proxies; X-Forwarded-For is believed from them only"
    )
    allowed_origins: CommaList = Field(
        [], description="Web origins beside our own that browsers may call from, such as https://app.example.com"
    )
    cookie_days: Annotated[float, Field(gt=0, le=400)] = Field(30, description="How long browsers keep our cookies")

    request_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        10, description="Longest wait for a service's answer"
    )
    body_seconds: Annotated[float, Field(gt=0)] = Field(
        30, description="Longest wait for a JSON body, and for the next piece of an upload"
    )
    body_bytes_max: Annotated[int, Field(ge=1024)] = Field(MEBIBYTE, description="Largest JSON body")
    media_bytes_max: Annotated[int, Field(ge=1024)] = Field(16 * MEBIBYTE, description="Largest file of an upload")
    media_seconds: Annotated[float, Field(gt=0)] = Field(300, description="Longest upload or download of a file")
    webhook_bytes_max: Annotated[int, Field(ge=1024)] = Field(
        4 * MEBIBYTE, description="Largest webhook; Meta sends 3 MB"
    )
    webhook_seconds: Annotated[float, Field(gt=0)] = Field(15, description="Longest wait for the ingest's answer")
    webhook_connections: Annotated[int, Field(ge=1)] = Field(100, description="Most connections to the ingest")

    stream_heartbeat_seconds: Annotated[float, Field(gt=0)] = Field(
        15, description="A live stream with nothing to tell says that it lives, this often"
    )
    stream_retry_seconds: Annotated[float, Field(gt=0)] = Field(
        2, description="After how long browsers reconnect a broken live stream"
    )
    stream_connections_max: Annotated[int, Field(ge=1)] = Field(4000, description="Most live streams of this process")
    stream_tenant_connections_max: Annotated[int, Field(ge=1)] = Field(
        500, description="Most live streams of a workspace"
    )
    stream_buffer_bytes_max: Annotated[int, Field(ge=4096)] = Field(
        MEBIBYTE, description="What may wait for a slow reader of a live stream before it is cut off"
    )
    stream_resume_events_max: Annotated[int, Field(ge=1)] = Field(
        10_000, description="A reader that missed more events than this is told to reload"
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(8, description="How long requests may go on after SIGTERM")

    @property
    def is_production(self) -> bool:
        return self.environment == "production"
