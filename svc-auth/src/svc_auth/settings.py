"""Settings of svc-auth's processes."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kit.settings import Port, ServiceSettings, Settings, shared

_PREFIX = SettingsConfigDict(env_prefix="AEROSTIC_AUTH_")


class DatabaseSettings(Settings):
    """What commands on the database alone need."""

    model_config = _PREFIX

    database_url: SecretStr = Field(description="PostgreSQL as the role auth_app")
    key_encryption_keys: SecretStr = Field(description="id:base64url[,…]: keys that seal signing keys, current first")


class ServeSettings(ServiceSettings, DatabaseSettings):
    """Of `serve`."""

    model_config = _PREFIX

    host: str = Field("127.0.0.1", description="Address that gRPC and metrics listen on")
    port: Port = Field(9101, description="Port of gRPC")
    metrics_port: Port = Field(9201, description="Port of /metrics, /healthz and /readyz")
    database_connections: Annotated[int, Field(ge=2, le=100)] = Field(10, description="Connections to PostgreSQL")
    tenants_target: str = shared("AEROSTIC_TENANTS_TARGET", default="127.0.0.1:9102", description="host:port")
    session_days: Annotated[float, Field(gt=0, le=365)] = Field(
        30, description="Days without a refresh after which a session ends"
    )
    bcrypt_cost: Annotated[int, Field(ge=4, le=16)] = Field(
        11, description="Work factor of new password hashes: 2^cost rounds; below 10 in tests only"
    )
    reflection: bool = Field(default=False, description="Serve gRPC reflection")


class MigrateSettings(Settings):
    """Of `migrate`."""

    model_config = _PREFIX

    owner_database_url: SecretStr = Field(description="PostgreSQL as the role auth_owner")
