"""The power fails: what was acknowledged is on the disk.

Two proofs. Traces of the engines' system calls show that each acknowledgement leaves after the sync of what it is
about (needs strace). And disks whose power is cut hold nothing that was only in the kernel's memory (needs root): the
engines, and then the whole product under load, go on from what is left.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from devstack.child import Child
from devstack.disks import PowerDisk, may_mount
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres
from devstack.ports import PortClaims
from devstack.settings import DEFAULTS
from devstack.stack import Stack
from devstack.traffic import Load, Traffic
from kit import streams
from kit.bus import Bus

CUTS = 5 if os.environ.get("AEROSTIC_CHAOS_MINUTES") else 1
COUNT = 40

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="NOT PROVEN HERE: strace is not installed (Debian: apt-get install strace)"
)
needs_disk = pytest.mark.skipif(bool(why := may_mount()), reason=f"NOT PROVEN HERE: {why}")


@pytest.fixture
def port():
    claims = PortClaims()
    yield claims.claim()
    claims.release()


@pytest.fixture
def disk(tmp_path):
    with PowerDisk(tmp_path / "disk") as made:
        yield made


class ForgetfulNats(Nats):
    """With the setting that NATS itself comes with: it syncs every two minutes."""

    def _configuration(self):
        configuration = super()._configuration()
        configuration["jetstream"]["sync_interval"] = "2m"
        return configuration


async def started(engine: Nats | Postgres, log: Path, *wrapper: str) -> Child:
    await asyncio.to_thread(engine.prepare)
    command = engine.command()
    child = Child(replace(command, argv=(*wrapper, *command.argv)), log)
    await child.start()
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(engine.answers):
            assert child.running, child.last_lines()
            await asyncio.sleep(0.05)
    return child


async def end(child: Child) -> None:
    """Stop a wrapped engine: the wrapper ends with it, and ignores the signal itself."""
    child.send(child.command.stop_signal)
    await asyncio.wait_for(child.wait(), 30)


async def publish(engine: Nats) -> None:
    """Marked messages, one after the other, each acknowledged."""
    bus = await Bus.connect(engine.url("product"), name="test")
    await bus.ensure(streams.meta())
    for number in range(COUNT):
        await bus.publish("meta.0", f"<<{number}>>".encode())
    await bus.client.close()


async def commit(engine: Postgres) -> None:
    """Marked rows, one after the other, each committed."""
    connection = await asyncpg.connect(engine.url("postgres"))
    await connection.execute("CREATE TABLE numbers (text text)")
    for number in range(COUNT):
        await connection.execute("INSERT INTO numbers VALUES ($1)", f"<<{number}>>")
    await connection.close()


# By trace


@dataclass
class Trace:
    """What a trace says of files whose path contains `kept`: which marks were written, and which are synced."""

    kept: str
    written: dict[str, int] = field(default_factory=dict)
    """Writes that have begun, by file."""
    synced: dict[str, int] = field(default_factory=dict)
    """How many of a file's writes a completed sync covers."""
    marks: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Where each mark was written first: the file, and the count of its writes."""
    acknowledged: list[int] = field(default_factory=list)
    _syncing: dict[str, tuple[str, int]] = field(default_factory=dict)

    def take(self, line: str, acknowledges) -> None:
        """`acknowledges` gives the marks that this system call acknowledges to a client."""
        thread, _, call = line.partition(" ")
        call = call.lstrip()
        if found := re.match(r"(?:fsync|fdatasync)\(\d+<([^>]*)>", call):
            self._syncing[thread] = (found[1], self.written.get(found[1], 0))
            if "unfinished" in call:
                return
        if re.match(r"(?:fsync|fdatasync)\(|<\.\.\. (?:fsync|fdatasync) resumed", call):
            path, count = self._syncing.pop(thread)
            assert call.rstrip().endswith("= 0"), f"a sync failed: {call}"
            self.synced[path] = max(self.synced.get(path, 0), count)
        elif (found := re.match(r"p?writev?(?:64)?\(\d+<([^>]*)>", call)) and self.kept in found[1]:
            path = found[1]
            self.written[path] = self.written.get(path, 0) + 1
            for mark in re.findall(r"<<(\d+)>>", call):
                self.marks.setdefault(int(mark), (path, self.written[path]))
        for mark in acknowledges(call):
            path, count = self.marks[mark]
            assert self.synced.get(path, 0) >= count, f"{mark} was acknowledged before it was synced: {call[:200]}"
            self.acknowledged.append(mark)


def traced(trace: Path) -> tuple[str, ...]:
    calls = "write,writev,pwrite64,pwritev,fsync,fdatasync,sendto,sendmsg"
    return ("strace", "-f", "-y", "-s", "65536", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(trace))


def acknowledged_by_nats(call: str) -> list[int]:
    if not re.match(r"writev?\(\d+<socket:", call):
        return []
    return [int(sequence) - 1 for sequence in re.findall(r'\\"stream\\":\\"META\\",\\"seq\\":(\d+)', call)]


async def trace_of(engine: Nats, folder: Path) -> Trace:
    child = await started(engine, folder / "log", *traced(folder / "trace"))
    await publish(engine)
    await end(child)
    seen = Trace(kept="/msgs/")
    for line in (folder / "trace").read_text(errors="replace").splitlines():
        seen.take(line, acknowledged_by_nats)
    return seen


@needs_strace
async def test_nats_syncs_each_message_before_its_acknowledgement_leaves(tmp_path, port):
    seen = await trace_of(Nats(tmp_path / "nats", port, {"product": "secret"}), tmp_path)
    assert seen.acknowledged == list(range(COUNT))


@needs_strace
async def test_the_trace_of_a_forgetful_nats_shows_what_is_wrong(tmp_path, port):
    with pytest.raises(AssertionError, match="before it was synced"):
        await trace_of(ForgetfulNats(tmp_path / "nats", port, {"product": "secret"}), tmp_path)


@needs_strace
async def test_postgresql_syncs_each_commit_before_its_answer_leaves(tmp_path, port):
    engine = Postgres(tmp_path / "postgres", port, "secret")
    await asyncio.to_thread(engine.prepare)
    trace = tmp_path / "postgres" / "trace"  # the server's account must be able to write it
    child = await started(engine, tmp_path / "log", *traced(trace))
    await commit(engine)
    await end(child)
    count = 0

    def acknowledges(call: str) -> list[int]:
        nonlocal count
        if not call.startswith("sendto(") or "INSERT 0 1" not in call:
            return []
        count += 1
        return [count - 1]

    seen = Trace(kept="/pg_wal/")
    for line in trace.read_text(errors="replace").splitlines():
        seen.take(line, acknowledges)
    assert seen.acknowledged == list(range(COUNT))


# By power cut


def freeze(*pids: int) -> list[psutil.Process]:
    """Stop these processes and all they started, until none runs that could start another."""
    frozen: dict[int, psutil.Process] = {}
    waiting = [psutil.Process(pid) for pid in pids]
    while waiting:
        for each in waiting:
            with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile: it writes nothing more
                each.send_signal(signal.SIGSTOP)
                frozen[each.pid] = each
        waiting = [
            child for pid in pids for child in psutil.Process(pid).children(recursive=True) if child.pid not in frozen
        ]
    return list(frozen.values())


async def thaw_never(frozen: list[psutil.Process]) -> None:
    for each in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    await asyncio.to_thread(psutil.wait_procs, frozen, 20)


async def cut_power(disk: PowerDisk, child: Child) -> None:
    """Of an engine on this disk."""
    frozen = freeze(child.pid)
    disk.photograph()
    await thaw_never(frozen)
    await child.wait()
    disk.cut()


@needs_disk
@pytest.mark.parametrize(("kind", "kept"), [(Nats, COUNT), (ForgetfulNats, 0)], ids=["ours", "forgetful"])
async def test_a_power_cut_takes_no_acknowledged_message_from_our_nats_but_from_a_forgetful_one(
    tmp_path, port, disk, kind, kept
):
    engine = kind(tmp_path / "disk" / "nats", port, {"product": "secret"})
    child = await started(engine, tmp_path / "log")
    bus = await Bus.connect(engine.url("product"), name="test")
    await bus.ensure(streams.meta())
    await bus.client.close()
    disk.sync()
    await publish(engine)
    await cut_power(disk, child)
    child = await started(engine, tmp_path / "log")
    client = await nats.connect(engine.url("product"))
    assert (await client.jetstream().stream_info(streams.META)).state.messages == kept
    await client.close()
    await child.stop()


@needs_disk
@pytest.mark.parametrize(("forgetful", "kept"), [(False, COUNT), (True, 0)], ids=["ours", "forgetful"])
async def test_a_power_cut_takes_no_commit_from_our_postgresql_but_from_a_forgetful_one(
    tmp_path, port, disk, forgetful, kept
):
    engine = Postgres(tmp_path / "disk" / "postgres", port, "secret", throwaway=forgetful)
    child = await started(engine, tmp_path / "log")
    disk.sync()
    await commit(engine)
    await cut_power(disk, child)
    child = await started(engine, tmp_path / "log")
    rows = await asyncio.to_thread(engine.run, "SELECT count(*) FROM pg_class WHERE relname = 'numbers'")
    rows = await asyncio.to_thread(engine.run, "SELECT count(*) FROM numbers") if rows == "1" else "0"
    assert int(rows) == kept
    await child.stop()


@needs_disk
@pytest.mark.timeout(1800)
async def test_a_power_cut_under_load_loses_and_doubles_nothing(tmp_path, disk):
    product = tmp_path / "disk" / "product"
    # Meta has power of its own.
    overrides = {"AEROSTIC_EMULATOR_STATE_FILE": str(tmp_path / "meta" / "state.json")}
    stack = Stack(product, free_ports=True, overrides=overrides)
    overrides |= {name: stack.settings[name] for name in DEFAULTS if name.endswith("_PORT")}
    try:
        await stack.start()
        async with Traffic.on(stack, Load(webhooks=40, answers=15)) as traffic:
            for _ in range(CUTS):
                await traffic.flows(answers=40)
                frozen = freeze(stack.pid("nats"), stack.pid("postgres"))
                disk.photograph()
                await stack.take_down("meta-emulator")
                stack.kill_all()
                await thaw_never(frozen)
                await stack.stop()
                disk.cut()
                stack = Stack(product, overrides=overrides)
                await stack.start()
            await traffic.flows(answers=40)
            found = await traffic.finish(seconds=120)
    finally:
        await stack.stop()
    print(f"{CUTS} cuts: {found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()
