"""The services' databases and roles on a server, made by `deploy/postgres/roles.sql` as Compose and Helm make them."""

from dataclasses import dataclass, field
from pathlib import Path

from devstack.engines.postgres import Postgres

ROOT = Path(__file__).resolve().parents[4]
ROLES_SCRIPT = ROOT / "deploy" / "postgres" / "roles.sql"

SERVICES = ("auth", "tenants", "messaging")
# Services with a role that works across tenants by its own policies.
WITH_WORKER = frozenset({"messaging"})


@dataclass(frozen=True)
class Passwords:
    """Of one service's roles; `worker` is empty where there is none."""

    owner: str = field(repr=False)
    app: str = field(repr=False)
    worker: str = field(default="", repr=False)


@dataclass(frozen=True)
class ServiceDatabase:
    """One database and how each role reaches it."""

    server: Postgres = field(repr=False)
    service: str
    name: str
    passwords: Passwords = field(repr=False)

    @property
    def owner_url(self) -> str:
        return self.server.url(self.name, role=f"{self.service}_owner", password=self.passwords.owner)

    @property
    def app_url(self) -> str:
        return self.server.url(self.name, role=f"{self.service}_app", password=self.passwords.app)

    @property
    def worker_url(self) -> str:
        assert self.passwords.worker, f"{self.service} has no worker role"
        return self.server.url(self.name, role=f"{self.service}_worker", password=self.passwords.worker)

    @property
    def superuser_url(self) -> str:
        """For looking behind row-level security in tests; nothing in the product connects so."""
        return self.server.url(self.name)

    def create(self) -> None:
        """Make roles and database, or bring them into line. Idempotent."""
        self.server.run(
            ROLES_SCRIPT.read_text(encoding="utf-8"),
            environment={
                "ROLES_SERVICE": self.service,
                "ROLES_DATABASE": self.name,
                "ROLES_OWNER_PASSWORD": self.passwords.owner,
                "ROLES_APP_PASSWORD": self.passwords.app,
                "ROLES_WORKER_PASSWORD": self.passwords.worker,
            },
        )

    def copy_to(self, name: str) -> "ServiceDatabase":
        """A new database with the same content. Nobody may be connected to this one."""
        copy = ServiceDatabase(self.server, self.service, name, self.passwords)
        self.server.run(
            f'CREATE DATABASE "{name}" OWNER {self.service}_owner TEMPLATE "{self.name}" STRATEGY FILE_COPY'
        )
        copy.create()  # rights on the database itself are not copied
        return copy

    def drop(self) -> None:
        self.server.run(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
