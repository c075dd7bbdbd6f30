"""The update of one server: migrations first, no old container goes before its successor is healthy.

A program of ours stands in for docker: it keeps containers in a file and writes down what it was asked.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLLED = [
    "svc-auth",
    "svc-tenants",
    "messaging-server",
    "messaging-inbox",
    "messaging-sender",
    "webhooks-ingest",
    "gateway",
]
DOCKER = """\
#!{python} -IS
import json, os, pathlib, sys
place = pathlib.Path(os.environ["FAKE_DOCKER"])
state = json.loads((place / "state.json").read_text())
words = sys.argv[1:]
with (place / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[:3] == ["compose", "--file", "docker-compose.prod.yml"]:
    words = words[3:]
    if words[0] == "ps":
        print("\\n".join(name for name, its in state.items() if its == words[2]))
    elif words[0] == "up" and "--scale" in words:
        service, _, count = words[words.index("--scale") + 1].partition("=")
        while sum(its == service for its in state.values()) < int(count):
            state[f"{{service}}-new-{{os.urandom(4).hex()}}"] = service
elif words[0] == "inspect":
    sick = os.environ.get("FAKE_SICK", "nothing")
    print("unhealthy" if "-new" in words[-1] and state[words[-1]] == sick else "healthy")
elif words[0] == "rm":
    state = {{name: its for name, its in state.items() if name not in words}}
(place / "state.json").write_text(json.dumps(state))
"""


class Server:
    """A machine on which the old release runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (programs / "docker").write_text(DOCKER.format(python=sys.executable))
        (programs / "chown").write_text("#!/bin/sh\n")
        for program in programs.iterdir():
            program.chmod(0o755)
        self.repository = folder / "aerostic"
        shutil.copytree(ROOT / "deploy" / "compose", self.repository / "deploy" / "compose")
        (folder / "state.json").write_text(json.dumps({f"{name}-old": name for name in ROLLED}))
        secrets = folder / "etc" / "secrets" / "all"
        secrets.mkdir(parents=True)
        (secrets / "AEROSTIC_META_APP_SECRET").write_text("s3cret")

    def update(self, **more: str) -> subprocess.CompletedProcess:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "FAKE_DOCKER": str(self.folder),
            "IMAGE_REPOSITORY": "registry.example/aerostic",
            "IMAGE_TAG": "2.0.0",
            "CONFIG_FOLDER": str(self.folder / "etc"),
            "DATA_FOLDER": str(self.folder / "data"),
            "BACKUP_FOLDER": str(self.folder / "backups"),
            "SETTLE_SECONDS": "0",
            "HEALTHY_SECONDS": "1",
        }
        script = ["sh", str(self.repository / "deploy" / "compose" / "update.sh")]
        return subprocess.run(
            script, env={**environment, **more}, capture_output=True, text=True, check=False, timeout=100
        )

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    @property
    def containers(self) -> dict[str, str]:
        return json.loads((self.folder / "state.json").read_text())


@pytest.fixture
def server(tmp_path) -> Server:
    return Server(tmp_path)


def position(calls: list[list[str]], *words: str) -> int:
    return next(number for number, call in enumerate(calls) if set(words) <= set(call))


def test_every_process_is_replaced_after_the_migrations_and_each_after_its_successor_is_healthy(server) -> None:
    done = server.update()
    assert done.returncode == 0, done.stderr
    calls = server.calls
    migrated = max(position(calls, "run", f"migrate-{name}") for name in ("auth", "tenants", "messaging"))
    assert position(calls, "run", "kit.provisioning") < position(calls, "run", "databases") < migrated
    for name in ROLLED:
        started = position(calls, "--scale", f"{name}=2")
        stopped = position(calls, "stop", f"{name}-old")
        asked = position(calls, "inspect", next(new for new, its in server.containers.items() if its == name))
        assert migrated < started < asked < stopped
    assert sorted(server.containers.values()) == sorted(ROLLED)
    assert not any(name.endswith("-old") for name in server.containers)


def test_a_release_that_does_not_get_healthy_leaves_the_old_one_serving(server) -> None:
    done = server.update(FAKE_SICK="messaging-server")
    assert done.returncode != 0
    assert "messaging-server is not healthy" in done.stderr
    of_it = [name for name, its in server.containers.items() if its == "messaging-server"]
    assert of_it == ["messaging-server-old"]
    assert not any(call[0] == "stop" and "messaging-server-old" in call for call in server.calls)
    untouched = {"messaging-inbox-old", "messaging-sender-old", "webhooks-ingest-old", "gateway-old"}
    assert untouched <= set(server.containers)


def test_a_second_run_finishes_what_the_first_began(server) -> None:
    assert server.update(FAKE_SICK="gateway").returncode != 0
    assert server.update().returncode == 0
    assert sorted(server.containers.values()) == sorted(ROLLED)


def test_without_the_secret_of_the_meta_app_nothing_is_touched(server) -> None:
    (server.folder / "etc" / "secrets" / "all" / "AEROSTIC_META_APP_SECRET").unlink()
    done = server.update()
    assert done.returncode != 0
    assert "AEROSTIC_META_APP_SECRET" in done.stderr
    assert all(name.endswith("-old") for name in server.containers)
