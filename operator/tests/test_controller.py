"""What the controller makes of events and of answers that come in any order."""

import asyncio

import pytest

from aerostic_operator.conditions import Verdict
from aerostic_operator.controller import Controller, Outcome, Unsettled
from aerostic_operator.events import Events
from aerostic_operator.kube import KubeError, NotFound
from aerostic_operator.objects import Key

KEY = Key("", "acme")


def body(version, *, generation=1, status=None):
    meta = {"name": "acme", "uid": "u", "generation": generation, "resourceVersion": str(version)}
    return {
        "apiVersion": "aerostic.io/v1alpha1",
        "kind": "Tenant",
        "metadata": meta,
        "spec": {},
        "status": status or {},
    }


class Kube:
    """Answers of an API server, as told."""

    def __init__(self) -> None:
        self.listed = []
        self.writes = []
        self.answer = None

    async def items(self, path):
        return self.listed

    async def merge(self, path, patch):
        self.writes.append(patch)
        if self.answer is None:
            raise NotFound(404, "gone")
        return await self.answer()


class Kind:
    kind, plural = "Tenant", "tenants"

    def __init__(self) -> None:
        self.looked, self.acted, self.fails, self.holds = [], [], 0, False

    async def reconcile(self, subject):
        self.looked.append(subject.body["metadata"]["generation"])
        if self.holds:
            await subject.hold()
            self.acted.append(subject.body["metadata"]["finalizers"])
            await subject.write_status({"attempt": 1})
        if self.fails:
            self.fails -= 1
            raise Unsettled("again and again")
        return Outcome(Verdict("ready", "Active", "well"), needs_finalizer=self.holds)

    async def survey(self, bodies):
        return []


@pytest.fixture
async def made():
    kube, kind = Kube(), Kind()
    controller = Controller(kind, kube, Events(kube, is_busy=lambda: False))
    task = asyncio.create_task(controller.run())
    yield controller, kind, kube
    assert not task.done(), "the controller has ended"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(holds) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 (lists tell nobody)
            await asyncio.sleep(0.01)


async def test_an_answer_that_comes_after_a_newer_event_hides_nothing(made) -> None:
    controller, kind, kube = made

    async def late():
        # The user's change overtakes the answer to our write.
        if len(kube.writes) == 1:
            controller.seen("MODIFIED", body(3, generation=2))
            return body(2)
        return body(4, generation=2, status=kube.writes[-1]["status"])

    kube.answer = late
    controller.seen("ADDED", body(1))
    await until(lambda: 2 in kind.looked)


async def test_an_older_event_brings_nothing_back(made) -> None:
    controller, kind, kube = made

    async def answer():
        return body(5, generation=2)

    kube.answer = answer
    controller.seen("ADDED", body(4, generation=2))
    await until(lambda: kind.looked == [2])
    controller.seen("MODIFIED", body(3))
    await asyncio.sleep(0.1)
    assert kind.looked == [2]


async def test_what_a_dead_watch_did_not_tell_is_found_by_listing(made) -> None:
    controller, kind, kube = made

    async def answer():
        return body(2)

    kube.answer = answer
    kube.listed = [{name: value for name, value in body(1).items() if name not in {"apiVersion", "kind"}}]
    for _ in range(10):
        await controller.survey()
    await until(lambda: kind.looked == [1])


async def test_a_plan_that_does_not_settle_ends_nobody(made) -> None:
    controller, kind, kube = made
    kind.fails = 2

    async def answer():
        return body(2)

    kube.answer = answer
    controller.seen("ADDED", body(1))
    await until(lambda: len(kind.looked) == 3)


async def test_an_object_that_is_gone_is_forgotten(made) -> None:
    controller, kind, kube = made
    controller.seen("ADDED", body(1))
    await until(lambda: kube.writes)
    await asyncio.sleep(1.5)
    assert kind.looked == [1], "tried again though it is gone"


async def test_an_object_is_held_before_anything_is_done_and_looked_at_once(made) -> None:
    controller, kind, kube = made
    kind.holds = True
    stored = body(1)

    async def answer():
        nonlocal stored
        patch, version = kube.writes[-1], int(stored["metadata"]["resourceVersion"])
        said = patch.get("metadata", {})
        if said.get("resourceVersion", str(version)) != str(version):
            raise KubeError(409, "somebody wrote in between")
        meta = {**stored["metadata"], **said, "resourceVersion": str(version + 1)}
        stored = {**stored, "metadata": meta, "status": {**stored["status"], **patch.get("status", {})}}
        return stored

    kube.answer = answer
    controller.seen("ADDED", stored)
    await until(lambda: "conditions" in stored["status"])
    await asyncio.sleep(1)
    assert (kind.looked, kind.acted) == ([1], [["aerostic.io/operator"]])
    assert [sorted(patch) for patch in kube.writes] == [["metadata"], ["status"], ["status"]]
