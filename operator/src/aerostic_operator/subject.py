"""One object in the course of being worked on."""

from collections.abc import Callable, Mapping

from aerostic_operator import metrics, objects
from aerostic_operator.kube import Kube, path_of
from aerostic_operator.objects import FINALIZER, Body, Json, Key

Written = Callable[[Key, Body], None]


class Subject:
    """An object as it stands after our last write to it: each write knows the answer to the one before."""

    def __init__(self, body: Body, kube: Kube, *, plural: str, written: Written, peers: Mapping[Key, Body]) -> None:
        """`written` is told each answer. `peers`: the objects of the kind that are known, this one among them."""
        self.body = body
        self.peers = peers
        self._kube = kube
        self._path = path_of(plural, objects.key_of(body))
        self._kind = body["kind"]
        self._written = written

    async def hold(self) -> None:
        """Have the finalizer before anything is done that deletion must undo. Raises KubeError."""
        if not objects.has_finalizer(self.body):
            await self.write_finalizer(present=True)

    async def write_finalizer(self, *, present: bool) -> None:
        others = [each for each in self.body["metadata"].get("finalizers") or () if each != FINALIZER]
        # The version makes it a conflict where somebody else changed the list in between.
        meta = {
            "finalizers": [*others, FINALIZER] if present else others,
            "resourceVersion": self.body["metadata"]["resourceVersion"],
        }
        metrics.writes.labels(self._kind, "finalizer").inc()
        self._keep(await self._kube.merge(self._path, {"metadata": meta}))

    async def write_status(self, status: Json) -> None:
        metrics.writes.labels(self._kind, "status").inc()
        # The API server would look for fields that it does not know, and warn of them: nobody reads that here.
        self._keep(await self._kube.merge(f"{self._path}/status?fieldValidation=Ignore", {"status": status}))

    def _keep(self, answer: Body) -> None:
        self._written(objects.key_of(self.body), answer)
        # The spec stays that which is being worked on: a newer one has a turn of its own.
        meta = {**answer["metadata"], "generation": self.body["metadata"]["generation"]}
        self.body = {**answer, "metadata": meta, "spec": self.body["spec"]}
