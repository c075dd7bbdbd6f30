"""Secrets of a stack: made on its first start, kept for its owner alone, never in the repository.

They live as NAME=value lines, so that a person may read them and a shell may source them.
"""

import base64
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

FILE = "generated.env"
_KEY_BYTES = 32


def _password() -> str:
    return secrets.token_urlsafe(24)


def _key() -> str:
    """32 random bytes: an Ed25519 seed."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).rstrip(b"=").decode()


def _named_key() -> str:
    """A key-encryption key with its id; a new one is put in front when keys rotate."""
    return f"k1:{_key()}"


def _login_password() -> str:
    """Short enough to type, long enough to keep: some 70 bits."""
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(3))


# Setting → how a fresh value is made.
SECRETS: dict[str, Callable[[], str]] = {
    "AEROSTIC_POSTGRES_PASSWORD": _password,
    "AEROSTIC_NATS_PASSWORD": _password,
    "AEROSTIC_ROLE_PASSWORD_AUTH_OWNER": _password,
    "AEROSTIC_ROLE_PASSWORD_AUTH_APP": _password,
    "AEROSTIC_ROLE_PASSWORD_TENANTS_OWNER": _password,
    "AEROSTIC_ROLE_PASSWORD_TENANTS_APP": _password,
    "AEROSTIC_ROLE_PASSWORD_MESSAGING_OWNER": _password,
    "AEROSTIC_ROLE_PASSWORD_MESSAGING_APP": _password,
    "AEROSTIC_ROLE_PASSWORD_MESSAGING_WORKER": _password,
    "AEROSTIC_SVC_AUTH_SERVICE_KEY": _key,
    "AEROSTIC_SVC_TENANTS_SERVICE_KEY": _key,
    "AEROSTIC_MESSAGING_SERVER_SERVICE_KEY": _key,
    "AEROSTIC_MESSAGING_INBOX_SERVICE_KEY": _key,
    "AEROSTIC_MESSAGING_SENDER_SERVICE_KEY": _key,
    "AEROSTIC_GATEWAY_SERVICE_KEY": _key,
    "AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS": _named_key,
    "AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS": _named_key,
    "AEROSTIC_META_APP_SECRET": lambda: secrets.token_hex(16),
    "AEROSTIC_META_VERIFY_TOKEN": _password,
    "AEROSTIC_DEMO_PASSWORD": _login_password,
    "AEROSTIC_SUPER_ADMIN_PASSWORD": _login_password,
}


def load_or_make(folder: Path) -> dict[str, str]:
    """The stack's secrets; missing ones are made and written before anyone uses them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / FILE
    known = _read(path)
    missing = {name: make() for name, make in SECRETS.items() if name not in known}
    if missing:
        _write(path, {**known, **missing})
    return {**known, **missing}


def key_bytes(text: str) -> bytes:
    """The 32 bytes of a key made here, or set by hand. Raises ValueError, without the text."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key is {_KEY_BYTES} bytes in base64url")
    return raw


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name: value for name, value in pairs if not name.startswith("#")}


def _write(path: Path, values: dict[str, str]) -> None:
    lines = ["# Made by the first start of this stack. Keep it: the data is encrypted and reached with it."]
    lines += [f"{name}={value}" for name, value in values.items()]
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    # The name must be on the disk too, or a power cut takes the only keys to data that is.
    for folder in (path.parent, path.parent.parent):
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
