"""What svc-tenants is told by its environment; read in `__main__` only."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from kit.crypto import KeyRing
from kit.settings import Port, ServiceSettings, Settings, shared

_PREFIX = "AEROSTIC_TENANTS_"


def _key_ring(text: SecretStr) -> SecretStr:
    KeyRing.parse(text.get_secret_value())
    return text


class MigrateSettings(Settings):
    """For `migrate`, which needs the schema's owner and nothing else."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    owner_database_url: SecretStr = Field(description="PostgreSQL URL of the role tenants_owner")


class KeySettings(Settings):
    """For `rewrap-keys`: the database and the keys that encrypt its data keys."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    database_url: SecretStr = Field(description="PostgreSQL URL of the role tenants_app")
    key_encryption_keys: Annotated[SecretStr, AfterValidator(_key_ring)] = Field(
        description="Keys that encrypt the tenants' data keys: id:base64url, separated by commas; the first is in use"
    )


class ServeSettings(KeySettings, ServiceSettings):
    """For `serve`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    database_connections: Annotated[int, Field(ge=2, le=200)] = Field(10, description="Most connections to PostgreSQL")
    host: str = Field("127.0.0.1", description="Address that gRPC and metrics listen on")
    port: Port = Field(9102, description="gRPC")
    metrics_port: Port = Field(9202, description="GET /metrics, /healthz, /readyz")
    graph_url: str = Field(
        "https://graph.facebook.com", pattern=r"^https?://", description="Meta's Graph API, or the emulator"
    )
    graph_version: str = Field("v24.0", pattern=r"^v[0-9]{1,3}\.0$", description="Version of the Graph API")
    app_id: str = Field("", pattern=r"^[0-9]*$", description="Our Meta app; tokens of others are refused")
    app_secret: SecretStr = Field(
        SecretStr(""), validate_default=True, description="Secret of the Meta app, with which it inspects tokens"
    )
    auth_target: str = shared(
        "AEROSTIC_AUTH_TARGET", default="127.0.0.1:9101", description="host:port of svc-auth: the keys of access tokens"
    )

    messaging_target: str = shared(
        "AEROSTIC_MESSAGING_TARGET",
        default="127.0.0.1:9103",
        description="host:port of svc-messaging: what it keeps of a tenant that is erased",
    )
    # Longer than a transaction of any service lives.
    erasure_settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60, description="Seconds that an erasure waits before every service looks again whether anything is left"
    )

    # A look costs two calls of the 200 that Meta may grant the app for a WABA in an hour, for each token of it.
    number_check_seconds: Annotated[float, Field(ge=60, le=86_400)] = Field(
        600, description="Seconds between two looks at what Meta says of a connected number and its token"
    )

    @field_validator("app_secret")
    @classmethod
    def _app_is_whole(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        has_secret, has_id = bool(secret.get_secret_value()), bool(info.data.get("app_id"))
        if has_secret != has_id:
            raise ValueError(f"belongs together with {_PREFIX}APP_ID; set both or none")
        if info.data.get("environment") == "production" and not has_secret:
            raise ValueError("needed in production, so that tokens of other apps are refused")
        return secret
