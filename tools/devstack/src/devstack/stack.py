"""The whole product in a folder: engines, databases, migrations, processes; for `make up` and for tests.

    async with Stack(folder, free_ports=True) as stack:
        await stack.kill("messaging-inbox")          # SIGKILL; it comes back
        await stack.until_ready("messaging-inbox")
        stack.url("gateway"), stack.settings["AEROSTIC_DEMO_PASSWORD"], stack.log("gateway").read_text()

Create it in the main thread. Stacks in different folders live side by side when all but one choose free ports.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import generated, readiness
from devstack.child import Child, Command
from devstack.databases import SERVICES, WITH_WORKER, Passwords, ServiceDatabase
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres
from devstack.locks import FolderLock
from devstack.ports import LOOPBACK, PortClaims
from devstack.processes import GROUPS, PROCESSES, SHARED, Process
from devstack.releases import PYTHON, Release
from devstack.settings import SERVICE_KEYS, resolve
from devstack.supervisor import Say, Supervisor
from devstack.units import Service, StartFailed, Task, Unit

# Of the caller's environment; nothing else may change what a process does.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "TZ")
_MIGRATE_SECONDS = 120


class Stack(Supervisor):
    """A product, started by `start` or `async with`, stopped by `stop`."""

    def __init__(
        self,
        folder: Path,
        *,
        services: str = "core",
        overrides: Mapping[str, str] | None = None,
        free_ports: bool = False,
        preload: Mapping[str, str] | None = None,
        release: Release | None = None,
        postgres: Mapping[str, str] | None = None,
        say: Say = lambda _line: None,
    ) -> None:
        """`overrides`: settings, as from `.env`. `services`: a group of the table, or names with commas. `preload`:
        environment of all that is ours, as a clock of `devstack.clocks` needs it. `release`: the code that ours run,
        when it is not this checkout's; changed later, it counts for what starts from then on. `postgres`: settings of
        the server.
        """
        self.folder = folder.resolve()
        self._lock = FolderLock(self.folder)
        self._claims = PortClaims()
        self._overrides = dict(overrides or {})
        self._preload = dict(preload or {})
        self.release = release
        self._postgres_settings = dict(postgres or {})
        try:
            self.settings = resolve(
                folder=self.folder,
                secrets=generated.load_or_make(self.folder / "secrets"),
                overrides=self._overrides,
                free_port=self._claims.claim if free_ports else None,
            )
            units = self._units_of(_selected(services))
            super().__init__(units, folder=self.folder, say=say)
        except BaseException:
            self._release()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        await super().stop()
        self._release()

    def url(self, name: str) -> str:
        """Where a process answers HTTP."""
        return f"http://{self.address(name)}"

    def address(self, name: str) -> str:
        """host:port of a process."""
        return f"{LOOPBACK}:{self.settings[next(p.port for p in PROCESSES if p.name == name)]}"

    def database(self, service: str) -> ServiceDatabase:
        """A service's database, for tests that look behind the product."""
        postgres = self.postgres

        def password(role: str) -> str:
            return self.settings[f"AEROSTIC_ROLE_PASSWORD_{service.upper()}_{role}"]

        worker = password("WORKER") if service in WITH_WORKER else ""
        return ServiceDatabase(postgres, service, service, Passwords(password("OWNER"), password("APP"), worker))

    def environment(self, process: Process, ports: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process gets to see: what it needs and nothing else. `ports`: other values for settings of it."""
        values = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        values["PYTHONUNBUFFERED"] = "1"
        if process.shared:
            values |= {name: self.settings[name] for name in SHARED if name in self.settings} | self._preload
        if process.name in SERVICE_KEYS:
            values["AEROSTIC_SERVICE_NAME"] = process.name
            values["AEROSTIC_SERVICE_KEY"] = self.settings[SERVICE_KEYS[process.name]]
        settings = {**self.settings, **(ports or {})}
        values |= {name: settings[source] for name, source in process.environment.items()}
        values |= self._extras(process)
        return self.release.environment(process.name, values) if self.release and process.shared else values

    def command(self, process: Process, ports: Mapping[str, str] | None = None) -> Command:
        """How to run a process of the stack's release, `ports` as for `environment`."""
        python = PYTHON if self.release and process.shared else (sys.executable,)
        argv = (*python, "-m", *process.command)
        return Command(argv=argv, environment=self.environment(process, ports), folder=self.folder)

    async def migrate(self) -> None:
        """Bring the schemas to those of the stack's release, beside what runs."""
        await asyncio.gather(*(self._migrate(service) for service in SERVICES))

    @property
    def postgres(self) -> Postgres:
        settings = self.settings
        port = int(settings["AEROSTIC_POSTGRES_PORT"])
        folder, password = self.folder / "data" / "postgres", settings["AEROSTIC_POSTGRES_PASSWORD"]
        return Postgres(folder, port, password, settings=self._postgres_settings)

    @property
    def nats(self) -> Nats:
        settings = self.settings
        accounts = {"aerostic": settings["AEROSTIC_NATS_PASSWORD"]}
        port, monitoring_port = int(settings["AEROSTIC_NATS_PORT"]), int(settings["AEROSTIC_NATS_MONITORING_PORT"])
        return Nats(self.folder / "data" / "nats", port, accounts, monitoring_port=monitoring_port)

    def _extras(self, process: Process) -> dict[str, str]:
        """Settings of the process that the table does not know, from `.env` and the environment."""
        elsewhere = {name for other in PROCESSES for name in other.environment} | set(SERVICE_KEYS.values())
        return {
            name: value
            for name, value in self._overrides.items()
            if name.startswith(process.prefix) and name not in elsewhere and not name.endswith("_OWNER_DATABASE_URL")
        }

    def _units_of(self, chosen: list[Process]) -> list[Unit]:
        names = {process.name for process in chosen}
        migrating = {name.removesuffix("-migrations") for process in chosen for name in process.needs}
        migrating |= {process.migrates for process in chosen if process.migrates}
        services = [service for service in SERVICES if service in migrating]
        units: list[Unit] = [self._postgres_unit(), self._nats_unit()]
        units.append(Task("databases", self._make_databases, needs=("postgres",)))
        units += [Task(f"{name}-migrations", partial(self._migrate, name), needs=("databases",)) for name in services]
        known = names | {unit.name for unit in units}
        units += [self._process_unit(process, known) for process in chosen]
        return units

    def _postgres_unit(self) -> Service:
        async def ready() -> bool:
            return await asyncio.to_thread(self.postgres.answers)

        postgres = self.postgres
        ports = {"AEROSTIC_POSTGRES_PORT": postgres.port}
        return Service("postgres", postgres.command, ready, ports=ports, prepare=postgres.prepare, stop_seconds=30)

    def _nats_unit(self) -> Service:
        nats, monitoring_port = self.nats, int(self.settings["AEROSTIC_NATS_MONITORING_PORT"])
        return Service(
            "nats",
            nats.command,
            partial(readiness.tcp, nats.port),
            ports={"AEROSTIC_NATS_PORT": nats.port, "AEROSTIC_NATS_MONITORING_PORT": monitoring_port},
            prepare=nats.prepare,
            # A stream that could not be written once, as on a full disk, takes nothing more until a restart.
            healthy=partial(readiness.http, monitoring_port, "/healthz"),
        )

    def _process_unit(self, process: Process, known: set[str]) -> Service:
        needs = {*process.needs, *([f"{process.migrates}-migrations"] if process.migrates else [])}
        return Service(
            process.name,
            partial(self.command, process),
            partial(readiness.CHECKS[process.ready], int(self.settings[process.port])),
            # A part of the product may run without the rest: needs outside the selection are not waited for.
            needs=tuple(sorted(needs & known)),
            ports={name: int(self.settings[name]) for name in (process.port, *process.listens)},
        )

    async def _make_databases(self) -> None:
        for service in SERVICES:
            await asyncio.to_thread(self.database(service).create)

    async def _migrate(self, service: str) -> None:
        owner_url = f"AEROSTIC_{service.upper()}_OWNER_DATABASE_URL"
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        python, sources = (PYTHON, self.release.search_path) if self.release else ((sys.executable,), {})
        command = Command(
            argv=(*python, "-m", f"svc_{service}", "migrate"),
            environment={**inherited, **sources, owner_url: self.settings[owner_url]},
            folder=self.folder,
        )
        child = Child(command, self.log(f"{service}-migrations"))
        await child.start()
        try:
            code = await asyncio.wait_for(child.wait(), _MIGRATE_SECONDS)
        finally:
            await child.stop()
        if code != 0:
            lines = "\n".join(f"    {line}" for line in child.last_lines())
            raise StartFailed(f"The migrations of {service} failed. Their last lines ({child.log}):\n{lines}")

    def _release(self) -> None:
        self._claims.release()
        self._lock.release()


def _selected(services: str) -> list[Process]:
    names = [name for word in services.split(",") for name in GROUPS.get(word.strip(), (word.strip(),))]
    if unknown := set(names) - {process.name for process in PROCESSES}:
        raise StartFailed(
            f"SERVICES names {', '.join(sorted(unknown))}; there are the groups {', '.join(GROUPS)} and "
            f"{', '.join(process.name for process in PROCESSES)}."
        )
    return [process for process in PROCESSES if process.name in names]
