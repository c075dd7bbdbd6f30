"""Which account PostgreSQL runs under: ours, or an unprivileged one when we are root, which it refuses."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from devstack.launch import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETPCAP

_UNPRIVILEGED = ("nobody", "postgres", "daemon")


class NoUsableAccount(RuntimeError):
    """Root may not change to another account here."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL refuses to run as root, and this machine has no account to run it under "
            f"({', '.join(_UNPRIVILEGED)}). Run the command as an ordinary user."
        )


@dataclass(frozen=True)
class Account:
    """An account for a child of root. `capability` is kept to pass through folders closed to the account."""

    uid: int
    gid: int
    capability: int | None = None


def unprivileged(data: Path) -> Account | None:
    """The account for a server with this data folder, or None to run as we are.

    Whoever owns existing data keeps it, so that a stack first started by a user can be started by root later.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise NoUsableAccount


def may_pass(account: Account, path: Path) -> bool:
    """Whether an account can reach a path: every folder above lets it through (group lists and ACLs not considered)."""
    for folder in path.resolve().parents:
        status = folder.stat()
        if status.st_uid == account.uid:
            allowed = status.st_mode & 0o100
        elif status.st_gid == account.gid:
            allowed = status.st_mode & 0o010
        else:
            allowed = status.st_mode & 0o001
        if not allowed:
            return False
    return True


def passing_capability() -> int | None:
    """A capability that we hold and can hand down, by which a process passes closed folders."""
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = int(next(line for line in status.splitlines() if line.startswith("CapPrm:")).split()[1], 16)
    if not held & 1 << CAP_SETPCAP:
        return None
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if held & 1 << capability:
            return capability
    return None
