"""The product as it was at another commit: its processes and migrations run beside those of this checkout.

    release = Release.of(previous_commit(PINNED), tmp_path / "previous")
    async with Stack(folder, free_ports=True, release=release) as stack: ...

The dependencies are this checkout's; sources and contracts are the other's.
"""

import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[4]

# Without the environment's own site: that has the rooms of this checkout on its path, and packages of contracts are
# joined from all of the path.
PYTHON = (sys.executable, "-S")

_SECONDS = 60
# Which settings a process knew: an unknown one is refused at its start.
_KNOWN = """
import json
from devstack.processes import PROCESSES, SHARED
from devstack.settings import SERVICE_KEYS
shared = [*SHARED, "AEROSTIC_SERVICE_NAME", "AEROSTIC_SERVICE_KEY"]
print(json.dumps({each.name: [*each.environment, *(shared if each.shared else [])] for each in PROCESSES}))
"""


class ReleaseMissing(Exception):
    """The commit is not in this checkout, or there is no git. The text says which."""


@dataclass(frozen=True)
class Release:
    """Sources in a folder, ready to run."""

    commit: str
    folder: Path
    known: Mapping[str, frozenset[str]]
    """Process → settings that it knew."""

    @classmethod
    def of(cls, commit: str, folder: Path) -> Self:
        """Unpack a commit into `folder` and build its contracts. Raises ReleaseMissing."""
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
        if archive.returncode != 0:
            raise ReleaseMissing(f"git cannot give commit {commit}: {archive.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as sources:
            sources.extractall(folder, filter="data")
        python(folder, str(folder / "tools" / "gen_protos.py"))
        known = json.loads(python(folder, "-c", _KNOWN))
        return cls(commit, folder, {name: frozenset(settings) for name, settings in known.items()})

    def environment(self, process: str, values: Mapping[str, str]) -> dict[str, str]:
        """Of the values those that the process knew, and where `PYTHON` finds its code."""
        known = self.known[process]
        given = {name: value for name, value in values.items() if name in known or not name.startswith("AEROSTIC_")}
        return given | self.search_path

    @property
    def search_path(self) -> dict[str, str]:
        return {"PYTHONPATH": search_path(self.folder)}


def previous_commit(pinned: str) -> str:
    """The newest release in the history of this commit; `pinned` while there is none. Raises ReleaseMissing."""
    tags = _git("tag", "--list", "v*", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-version:refname").split()
    return _git("rev-parse", "--verify", "--quiet", f"{tags[0] if tags else pinned}^{{commit}}").strip()


def search_path(folder: Path) -> str:
    """The rooms of a checkout and the environment's dependencies."""
    rooms = [*sorted(folder.glob("*/src")), folder / "tools" / "devstack" / "src", folder / "proto" / "gen"]
    return os.pathsep.join([*map(str, rooms), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])


def python(folder: Path, *arguments: str) -> str:
    """What a program of a checkout prints."""
    environment = {**os.environ, "PYTHONPATH": search_path(folder)}
    done = subprocess.run(
        [*PYTHON, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return done.stdout


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise ReleaseMissing("git is not installed") from missing
    if done.returncode != 0:
        raise ReleaseMissing(f"git {' '.join(words)} finds nothing: is this a shallow clone? {done.stderr.strip()}")
    return done.stdout
