"""`up`, `down`, `ps`, `logs`, `reset` as a developer meets them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from devstack.ports import PortClaims, is_free
from devstack.records import runs
from devstack.settings import DEFAULTS

SERVICES = "meta-emulator"


@pytest.fixture
def environment():
    """Free ports, so that these tests run beside a product that is up."""
    claims = PortClaims()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    yield clean | {name: str(claims.claim()) for name in DEFAULTS if name.endswith("_PORT")}
    claims.release()


def command(folder, *words):
    return [sys.executable, "-m", "devstack", "--folder", str(folder), *words]


def run(folder, *words, environment=None):
    words = command(folder, *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment, check=False)


class Up:
    """`devstack up` in the background, its output in a file."""

    def __init__(self, folder, environment, output):
        self._output = output
        with output.open("w") as file:
            words = command(folder, "up", "--services", SERVICES)
            self.process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def says(self):
        return self._output.read_text()

    def until_up(self):
        deadline = time.monotonic() + 90
        while "Up after" not in self.says():
            assert self.process.poll() is None, self.says()
            assert time.monotonic() < deadline, self.says()
            time.sleep(0.05)


@pytest.fixture
def up(tmp_path, environment):
    started = []

    def start():
        started.append(Up(tmp_path / "stack", environment, tmp_path / f"output-{len(started)}"))
        return started[-1]

    yield start
    for each in started:
        each.process.send_signal(signal.SIGTERM)
        each.process.wait(timeout=60)


def test_a_stack_starts_shows_itself_and_stops_from_another_shell(tmp_path, environment, up):
    folder = tmp_path / "stack"
    first = up()
    first.until_up()
    ready = {line.split()[0] for line in first.says().splitlines() if " ready " in line}
    assert ready == {"postgres", "nats", "meta-emulator"}

    listed = run(folder, "ps").stdout
    assert re.search(rf"meta-emulator +ready +\d+ +\d+ MB +0  {environment['AEROSTIC_EMULATOR_PORT']}", listed), listed
    assert "listening" in run(folder, "logs", "meta-emulator").stdout

    again = run(folder, "up", environment=environment)
    assert again.returncode == 1
    assert again.stderr == (f"Already running (process {first.process.pid}): make ps shows it, make down stops it.\n")
    assert "Still running" in run(folder, "reset").stderr

    down = run(folder, "down")
    assert (down.returncode, down.stdout) == (0, "Stopped.\n")
    assert first.process.wait(timeout=60) == 0
    assert is_free(int(environment["AEROSTIC_POSTGRES_PORT"]))
    assert run(folder, "ps").stdout == "Not running.\n"
    assert run(folder, "down").stdout == "Not running.\n"


def test_a_second_start_keeps_secrets_and_data_until_they_are_reset(tmp_path, up):
    folder = tmp_path / "stack"
    secrets = folder / "secrets" / "generated.env"
    first = up()
    first.until_up()
    made = secrets.read_text()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(timeout=60) == 0
    assert first.says().endswith("Stopping… (again: at once)\nStopped.\n")

    second = up()
    second.until_up()
    assert secrets.read_text() == made
    second.process.send_signal(signal.SIGINT)
    second.process.wait(timeout=60)

    assert run(folder, "reset").returncode == 0
    assert not secrets.exists()
    assert not (folder / "data").exists()


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_works(tmp_path, environment, up):
    first = up()
    first.until_up()
    family = psutil.Process(first.process.pid).children(recursive=True)
    assert len(family) > 3
    first.process.kill()
    first.process.wait()
    deadline = time.monotonic() + 30
    while any(runs(process) for process in family):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    up().until_up()


def test_a_taken_port_is_one_clear_line(tmp_path, environment):
    port = environment["AEROSTIC_NATS_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        refused = run(tmp_path / "stack", "up", "--services", SERVICES, environment=environment)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"Port {port} for nats is taken by {psutil.Process().name()} (process {os.getpid()}). "
        "Free it, or set AEROSTIC_NATS_PORT in .env to another port.\n"
    )


@pytest.mark.parametrize(
    ("words", "setting", "text"),
    [
        (["up", "--services", "cores"], {}, "SERVICES names cores; there are the groups core, all"),
        (["up"], {"AEROSTIC_GATEWY_PORT": "1"}, "AEROSTIC_GATEWY_PORT is not a setting"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(tmp_path, environment, words, setting, text):
    refused = run(tmp_path / "stack", *words, environment=environment | setting)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert refused.stdout == ""
