"""The secrets of an installation: made once, completed when a release brings new ones, never changed.

`python -m kit.provisioning PLAN --folder FOLDER`, or `--kubernetes NAMESPACE/SECRET` from within a cluster. The plan, a
JSON document, says what is made and what follows from it:

    make     name: password | key | named-key | hex; what exists already stays
    trust    name: {process: name of its key}; the list of public keys that processes trust each other by
    compose  name: text with ${OTHER}; written anew each time, as addresses may change
    folders  process: {file: name}; of a folder, which files a process may see, and under which names

A value that a person has put there before the first run counts as existing.
"""

import argparse
import base64
import json
import os
import secrets
import ssl
import string
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kit.keys import decode_key, encode_key
from kit.service_tokens import ServiceIdentity

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 30


def _key() -> str:
    return encode_key(secrets.token_bytes(32))


MAKERS: Mapping[str, Callable[[], str]] = {
    "password": lambda: secrets.token_urlsafe(24),
    "key": _key,
    # With the id that ciphertexts name; a new one is put in front when keys rotate.
    "named-key": lambda: f"k1:{_key()}",
    "hex": lambda: secrets.token_hex(16),
}


class PlanRefused(Exception):
    """The plan names what it does not make, or in a way that is not known."""


@dataclass(frozen=True)
class Plan:
    """What an installation needs."""

    make: Mapping[str, str]
    trust: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    compose: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def complete(self, known: Mapping[str, str]) -> dict[str, str]:
        """All values, beginning with those that are known. Raises PlanRefused."""
        if unknown := {kind for kind in self.make.values() if kind not in MAKERS}:
            raise PlanRefused(f"The plan asks for {', '.join(sorted(unknown))}; there are {', '.join(MAKERS)}.")
        values = {**known, **{name: MAKERS[kind]() for name, kind in self.make.items() if not known.get(name)}}
        try:
            for name, keys in self.trust.items():
                values[name] = json.dumps(
                    {who: ServiceIdentity(who, decode_key(values[key])).public_key for who, key in keys.items()},
                    separators=(",", ":"),
                )
            for name, text in self.compose.items():
                values[name] = string.Template(text).substitute(values)
        except KeyError as missing:
            raise PlanRefused(f"The plan uses {missing.args[0]}, which it does not make.") from None
        return values


def write_folder(plan: Plan, folder: Path) -> list[str]:
    """Complete the files of a folder; the names of those that are new or changed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = folder / "all"
    kept.mkdir(mode=0o700, exist_ok=True)
    known = {path.name: path.read_text(encoding="utf-8").rstrip("\n") for path in kept.iterdir()}
    values = plan.complete(known)
    for name, value in values.items():
        _write(kept / name, value)
    for process, files in plan.folders.items():
        (folder / process).mkdir(mode=0o700, exist_ok=True)
        for file, name in files.items():
            _write(folder / process / file, values[name])
    return sorted(name for name, value in values.items() if known.get(name) != value)


def _write(path: Path, value: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8").rstrip("\n") == value:
        return
    unfinished = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o400), "w", encoding="utf-8") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


@dataclass(frozen=True)
class Cluster:
    """The API server, as a pod reaches it."""

    url: str
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def around(cls) -> Self:
        """The one that this pod runs in."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        tls = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", _token(), tls)

    def ask(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """The answer, None for 404. Raises urllib.error.HTTPError."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310 (our own URL)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS, context=self.tls) as answer:  # noqa: S310 (as above)
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404 and method == "GET":
                return None
            raise


def _token() -> str:
    return (_ACCOUNT / "token").read_text(encoding="ascii").strip()


def write_secret(plan: Plan, cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Make or complete a Kubernetes Secret; the names of the entries that are new or changed.

    It belongs to no release and has no owner, so that it outlives both.
    """
    path = f"/api/v1/namespaces/{namespace}/secrets"
    found = cluster.ask("GET", f"{path}/{name}")
    data = (found or {}).get("data") or {}
    known = {key: base64.b64decode(value).decode() for key, value in data.items()}
    changed = {key: value for key, value in plan.complete(known).items() if known.get(key) != value}
    if found is None:
        labels = {"app.kubernetes.io/part-of": "aerostic", "app.kubernetes.io/managed-by": "aerostic"}
        metadata = {"name": name, "labels": labels}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": changed}
        cluster.ask("POST", path, secret)
    elif changed:
        # With the version that was read, so that two runs at a time cannot overwrite each other's keys.
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
        patch = {"metadata": metadata, "stringData": changed}
        cluster.ask("PATCH", f"{path}/{name}", patch, "application/merge-patch+json")
    return sorted(changed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kit.provisioning")
    parser.add_argument("plan", type=Path)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--folder", type=Path)
    target.add_argument("--kubernetes", metavar="NAMESPACE/SECRET")
    given = parser.parse_args()
    try:
        plan = Plan.read(given.plan)
        if given.folder:
            changed = write_folder(plan, given.folder)
        else:
            namespace, _, name = given.kubernetes.partition("/")
            changed = write_secret(plan, Cluster.around(), namespace, name)
    except PlanRefused as refused:
        sys.exit(str(refused))
    print(f"new or changed: {', '.join(changed)}" if changed else "nothing to do")


if __name__ == "__main__":
    main()
