"""The supervisor brings programs up in order, keeps them up, and leaves nothing behind."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import psutil
import pytest

from devstack import ports, readiness
from devstack.child import Command
from devstack.records import Records
from devstack.supervisor import Supervisor
from devstack.units import PortTaken, Service, StartFailed, Task, levels

LISTENER = """
import signal, socket, sys, time
place = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), sys.exit(0)))
while True:
    place.accept()[0].close()
"""


@pytest.fixture
def claims():
    held = ports.PortClaims()
    yield held
    held.release()


def make_service(name, port, *, needs=(), program=LISTENER, start_seconds=60):
    return Service(
        name,
        lambda: Command((sys.executable, "-c", program, str(port)), {"PATH": os.environ["PATH"]}),
        partial(readiness.tcp, port),
        needs=needs,
        ports={f"AEROSTIC_{name.upper()}_PORT": port},
        start_seconds=start_seconds,
        stop_seconds=30,
    )


def make_supervisor(tmp_path, units):
    said = []
    return Supervisor(units, folder=tmp_path, say=said.append), said


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions on the outside world set no event)
            await asyncio.sleep(0.02)


async def test_units_start_after_what_they_need(tmp_path, claims):
    order = []

    async def prepare():
        order.append("task")

    first = make_service("first", claims.claim())
    second = make_service("second", claims.claim(), needs=("task",))
    supervisor, said = make_supervisor(tmp_path, [second, Task("task", prepare, needs=("first",)), first])
    await supervisor.start()
    assert [line.split()[:2] for line in said] == [["first", "ready"], ["task", "done"], ["second", "ready"]]
    assert {record.name: record.state for record in Records(tmp_path / "run").all()} == {
        "first": "ready",
        "second": "ready",
    }
    await supervisor.stop()
    assert Records(tmp_path / "run").all() == []
    assert "asked to stop" in supervisor.log("first").read_text()


async def test_a_killed_program_is_started_again(tmp_path, claims):
    supervisor, said = make_supervisor(tmp_path, [make_service("server", claims.claim())])
    await supervisor.start()
    before = supervisor.pid("server")
    await supervisor.kill("server")
    await until(lambda: supervisor.restarts("server") == 1)
    await supervisor.until_ready("server")
    assert supervisor.pid("server") != before
    await until(lambda: "server is ready again." in said)
    assert any("was killed by signal 9; starting it again" in line for line in said)
    await supervisor.stop()


async def test_the_first_restart_is_at_once_and_those_of_a_program_that_keeps_ending_wait(
    tmp_path, claims, monkeypatch
):
    # On a slow machine it may run for long between two kills, and counts as one that keeps ending all the same.
    monkeypatch.setattr("devstack.supervisor._HEALTHY_SECONDS", 600.0)
    supervisor, said = make_supervisor(tmp_path, [make_service("server", claims.claim())])
    await supervisor.start()
    for count in range(1, 4):
        await supervisor.kill("server")
        await until(lambda count=count: supervisor.restarts("server") == count)
        await supervisor.until_ready("server")
    waits = [line.partition("starting it again ")[2].partition(" (")[0] for line in said if "killed" in line]
    assert waits == ["at once", "in 0.25 s", "in 0.5 s"]
    await supervisor.stop()


async def test_a_program_that_says_it_is_not_healthy_for_long_is_started_again(tmp_path, claims, monkeypatch):
    monkeypatch.setattr(readiness, "_HEALTH_SECONDS", 0.02)
    # Four noes, and a loop that is held up, are nothing yet.
    answers = itertools.chain([True, *[False] * 4, True], itertools.repeat(False, 1000))
    asked = 0

    async def healthy() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            time.sleep(0.5)  # noqa: ASYNC251 (as a test beside it does)
        return next(answers)

    service = replace(make_service("server", claims.claim()), healthy=healthy)
    supervisor, said = make_supervisor(tmp_path, [service])
    await supervisor.start()
    await until(lambda: supervisor.restarts("server") == 1)
    await supervisor.until_ready("server")
    assert sum("says that it is not healthy" in line for line in said) == 1
    assert asked >= 11
    await supervisor.stop()


async def test_a_program_taken_down_stays_down_until_it_is_brought_back(tmp_path, claims):
    port = claims.claim()
    supervisor, _ = make_supervisor(tmp_path, [make_service("server", port)])
    await supervisor.start()
    await supervisor.take_down("server", kill=True)
    assert not await readiness.tcp(port)
    assert supervisor.state("server") == "stopped"
    await supervisor.bring_back("server")
    await until(lambda: ports.accepts(port))
    await supervisor.restart("server")
    await until(lambda: ports.accepts(port))
    await supervisor.stop()


async def test_a_failed_start_shows_the_last_lines_and_stops_the_rest(tmp_path, claims):
    good_port = claims.claim()
    broken = make_service("broken", claims.claim(), needs=("good",), program="raise SystemExit('no such colour: bleu')")
    supervisor, _ = make_supervisor(tmp_path, [make_service("good", good_port), broken])
    with pytest.raises(StartFailed, match=r"broken ended with exit code 1.*\n    no such colour: bleu"):
        await supervisor.start()
    assert ports.is_free(good_port)


async def test_a_start_that_never_gets_ready_is_given_up(tmp_path, claims):
    silent = make_service("silent", claims.claim(), program="import time; time.sleep(600)", start_seconds=0.5)
    supervisor, _ = make_supervisor(tmp_path, [silent])
    with pytest.raises(StartFailed, match="silent was not ready within"):
        await supervisor.start()


async def test_a_failed_task_names_itself(tmp_path):
    async def refuse():
        raise RuntimeError("the cupboard is bare")

    supervisor, _ = make_supervisor(tmp_path, [Task("shopping", refuse)])
    with pytest.raises(StartFailed, match="shopping failed: the cupboard is bare"):
        await supervisor.start()


async def test_a_taken_port_is_named_with_its_setting_and_holder(tmp_path, claims):
    port = claims.claim()
    with socket.create_server(("127.0.0.1", port)):
        supervisor, _ = make_supervisor(tmp_path, [make_service("server", port)])
        with pytest.raises(PortTaken) as taken:
            await supervisor.start()
    text = str(taken.value)
    assert text.startswith(f"Port {port} for server is taken by ")
    assert f"(process {os.getpid()})" in text
    assert "AEROSTIC_SERVER_PORT" in text
    assert "\n" not in text


async def test_cancelling_a_start_leaves_nothing_running(tmp_path, claims):
    port = claims.claim()
    endless = make_service("endless", claims.claim(), needs=("first",), program="import time; time.sleep(600)")
    supervisor, _ = make_supervisor(tmp_path, [make_service("first", port), endless])
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.log("endless").exists())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert ports.is_free(port)
    assert Records(tmp_path / "run").all() == []


SUPERVISED = """
import asyncio, sys
from pathlib import Path
from devstack.child import Command
from devstack.supervisor import Supervisor
from devstack.units import Service

async def ready():
    return True

async def main():
    command = Command((sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"), {})
    unit = Service("sleeper", lambda: command, ready)
    await Supervisor([unit], folder=Path(sys.argv[1]), say=print).start()
    await asyncio.sleep(600)

asyncio.run(main())
"""


def started_sleeper(tmp_path):
    log = tmp_path / "logs" / "sleeper.log"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISED, str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().strip()):
        assert supervisor.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return supervisor, psutil.Process(int(log.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_no_orphans_after_sigkill_of_the_supervisor(tmp_path):
    supervisor, sleeper = started_sleeper(tmp_path)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    sleeper.wait(timeout=30)


def test_the_next_start_ends_what_a_killed_one_left(tmp_path):
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    records = Records(tmp_path)
    records.write("left", state="ready", pid=left.pid, restarts=0, ports={})
    assert records.end_leftovers() == ["left"]
    left.wait(timeout=30)


def test_a_reused_process_id_is_not_ours_to_end(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    records = Records(tmp_path)
    records.write("left", state="ready", pid=other.pid, restarts=0, ports={})
    path = tmp_path / "left.json"
    path.write_text(path.read_text().replace(f'"born": {psutil.Process(other.pid).create_time()}', '"born": 1.0'))
    assert records.end_leftovers() == []
    assert other.poll() is None
    other.kill()
    other.wait()


def test_needs_that_cannot_be_met_are_refused():
    async def nothing():
        return None

    with pytest.raises(ValueError, match="wait for each other"):
        levels([Task("a", nothing, needs=("b",)), Task("b", nothing, needs=("a",))])
    with pytest.raises(ValueError, match="something unknown: a"):
        levels([Task("a", nothing, needs=("nobody",))])


async def test_logs_are_cut_when_large_and_the_program_writes_on(tmp_path, claims, monkeypatch):
    monkeypatch.setattr("devstack.logs._LARGEST_BYTES", 100)
    monkeypatch.setattr("devstack.supervisor._ROTATE_SECONDS", 0.05)
    chatter = LISTENER.replace("while True:", "while True:\n    print('x' * 60, flush=True)")
    port = claims.claim()
    supervisor, _ = make_supervisor(tmp_path, [make_service("server", port, program=chatter)])
    await supervisor.start()
    log = supervisor.log("server")

    async with asyncio.timeout(30):
        while not list(log.parent.glob("*.log.1")):
            await readiness.tcp(port)
    await until(lambda: ports.accepts(port))
    await until(lambda: log.read_text().startswith("x" * 60) or log.read_text() == "")
    await supervisor.stop()
