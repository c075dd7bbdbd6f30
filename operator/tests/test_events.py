"""Events are told behind the work."""

import asyncio

import pytest

from aerostic_operator import events as module
from aerostic_operator.events import Events, Note
from aerostic_operator.kube import KubeError

CREATED = Note("Created", "The workspace was created.")


def body(name="acme"):
    meta = {"name": name, "uid": "u", "resourceVersion": "7"}
    return {"apiVersion": "aerostic.io/v1alpha1", "kind": "Tenant", "metadata": meta}


class Kube:
    """Keeps events by their names, as an API server does."""

    def __init__(self) -> None:
        self.made, self.calls, self.refusals = {}, 0, 0
        self.open = asyncio.Event()
        self.open.set()

    async def create(self, path, event):
        self.calls += 1
        name = event["metadata"]["name"]
        if self.refusals:
            self.refusals -= 1
            raise KubeError(403, "no")
        if name in self.made:
            raise KubeError(409, "it is there")
        self.made[name] = event
        await self.open.wait()


@pytest.fixture
async def kube():
    return Kube()


@pytest.fixture
async def running(kube):
    """`running(is_busy)`: events that are being written."""
    tasks = []

    def run(is_busy):
        events = Events(kube, is_busy=is_busy)
        tasks.append(asyncio.create_task(events.run()))
        return events

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 (dictionaries tell nobody)
            await asyncio.sleep(0)


async def test_while_objects_wait_there_is_a_pause_behind_each_event(kube, running, monkeypatch) -> None:
    pauses = []

    class Clock:
        """Looks after `asyncio.sleep` of the module alone."""

        def __getattr__(self, name):
            return getattr(asyncio, name)

        async def sleep(self, seconds):
            pauses.append(len(kube.made))
            await asyncio.sleep(0)

    monkeypatch.setattr(module, "asyncio", Clock())
    events = running(lambda: len(pauses) < 2)
    for number in range(9):
        events.tell(body(f"acme-{number}"), CREATED)
    await until(lambda: len(kube.made) == 9)
    assert pauses == [1, 2]


async def test_one_that_is_refused_keeps_no_other_back(kube, running) -> None:
    kube.refusals = 1
    events = running(lambda: False)
    events.tell(body("first"), CREATED)
    events.tell(body("second"), CREATED)
    await until(lambda: kube.made)
    assert [each["involvedObject"]["name"] for each in kube.made.values()] == ["second"]


async def test_what_was_being_written_when_the_operator_stops_is_told_once(kube, running) -> None:
    kube.open.clear()
    events = Events(kube, is_busy=lambda: False)
    writing = asyncio.create_task(events.run())
    for name in ("first", "second"):
        events.tell(body(name), CREATED)
    await until(lambda: kube.calls)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    kube.open.set()
    await events.flush(30)
    assert [each["involvedObject"]["name"] for each in kube.made.values()] == ["first", "second"]
    assert kube.calls == 3


async def test_an_api_server_that_hangs_is_not_waited_for_at_the_end(kube) -> None:
    kube.open.clear()
    events = Events(kube, is_busy=lambda: False)
    events.tell(body(), CREATED)
    async with asyncio.timeout(30):
        await events.flush(0.01)
    assert kube.calls == 1


async def test_more_than_is_kept_is_dropped(kube) -> None:
    events = Events(kube, is_busy=lambda: False)
    for number in range(module._KEPT_MAX + 5):
        events.tell(body(f"acme-{number}"), CREATED)
    await events.flush(60)
    assert len(kube.made) == module._KEPT_MAX
