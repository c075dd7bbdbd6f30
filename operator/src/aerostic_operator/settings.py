"""What the operator needs to know."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from kit.settings import Port, Seed, Settings, shared

_PREFIX = "AEROSTIC_OPERATOR_"


class OperatorSettings(Settings):
    """Settings of the operator. It calls others and is called by nobody."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    service_key: Seed = shared("AEROSTIC_SERVICE_KEY", description="Seed of this process's own Ed25519 key, base64url")
    tenants_target: str = shared(
        "AEROSTIC_TENANTS_TARGET", default="127.0.0.1:9102", description="host:port of svc-tenants"
    )
    auth_target: str = shared(
        "AEROSTIC_AUTH_TARGET", default="127.0.0.1:9101", description="host:port of svc-auth: the keys of access tokens"
    )
    host: str = Field("127.0.0.1", description="Address that /metrics, /healthz and /readyz listen on")
    metrics_port: Port = Field(9207, description="Port of /metrics, /healthz, /readyz")
    namespace: str = Field(
        "", description="Namespace of the Lease and of the workers of dedicated tenants; empty: the one it runs in"
    )
    invitations_namespace: str = Field(
        "", description="Namespace of the Secrets for first admins; empty: as AEROSTIC_OPERATOR_NAMESPACE"
    )
    workers_folder: Path | None = Field(
        None, description="Templates of the workers of dedicated tenants; empty: shared workers serve all tenants"
    )
    identity: str = Field("", description="Its name in the Lease, unlike every other replica's; empty: the host's name")
    lease_seconds: float = Field(15, ge=1, le=300, description="Seconds after which a silent leader is replaced")
    resync_seconds: float = Field(
        30, ge=0.1, le=3600, description="Seconds between two comparisons of all objects with the platform"
    )
    imports: bool = Field(
        True, description="Whether workspaces that were not described get an object that only shows them"
    )
    app_url: str = Field(
        "", pattern=r"^(https?://.*[^/])?$", description="The dashboard, for the link in a first admin's Secret"
    )
