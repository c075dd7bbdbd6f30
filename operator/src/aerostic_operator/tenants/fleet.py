"""The workers of dedicated tenants in the operator's namespace: looked at, made, removed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from aerostic_operator import children
from aerostic_operator.kube import Kube, KubeError
from aerostic_operator.objects import Body, Child, Json
from aerostic_operator.tenants import workers
from aerostic_operator.tenants.model import Desired, Staff, Workers
from aerostic_operator.tenants.workers import TENANT_LABEL, Template

Found = Mapping[str, Sequence[Body]]
"""Objects of workers, by the slug of their tenant."""


class Fleet:
    """Makes nothing, and looks for nothing, in an installation without templates."""

    def __init__(self, kube: Kube, *, namespace: str, folder: Path | None) -> None:
        """`folder`: of the templates; read again in each survey, as an upgrade of the chart changes them. Raises
        BadTemplate.
        """
        self._kube = kube
        self._namespace = namespace
        self._folder = folder
        self._templates: tuple[Template, ...] = ()
        # Who had any when all were looked at last: a tenant that shares workers need not be asked for each time.
        self._having: frozenset[str] = frozenset()
        # Until the next survey, which has it tried again.
        self._refusals: dict[str, str] = {}
        self.read()

    def read(self) -> None:
        """Take the templates as they are now. Raises BadTemplate."""
        if self._folder is not None:
            self._templates = workers.load(self._folder)

    async def all(self) -> Found:
        """Raises KubeError."""
        if not self._templates:
            return {}
        found: dict[str, list[Body]] = defaultdict(list)
        for body in await children.listed(self._kube, self._namespace, TENANT_LABEL):
            found[body["metadata"]["labels"][TENANT_LABEL]].append(body)
        self._having = frozenset(found)
        self._refusals.clear()
        return found

    async def of(self, slug: str, *, may_have_none: bool) -> Sequence[Body]:
        """Of one tenant. `may_have_none`: do not ask where there were none before. Raises KubeError."""
        if not self._templates or (may_have_none and slug not in self._having):
            return ()
        return await children.listed(self._kube, self._namespace, f"{TENANT_LABEL}={slug}")

    def compared(self, body: Body, tenant_id: str, found: Sequence[Body]) -> Workers:
        """What there is, beside what there would be if the tenant is to have workers of its own."""
        if not self._templates:
            return Workers()
        wanted = {Child.of(each): each for each in self._wanted(body, tenant_id)}
        ours = {Child.of(each): each for each in found if children.is_owned(each, body)}
        stale = [
            child for child, each in wanted.items() if child not in ours or not children.is_as_wanted(ours[child], each)
        ]
        deployments = [each for child, each in ours.items() if child.kind == "Deployment" and child in wanted]
        return Workers(
            are_offered=True,
            present=tuple(sorted(ours)),
            stale=tuple(stale),
            surplus=tuple(sorted(ours.keys() - wanted.keys())),
            refusal=self._refusals.get(body["spec"]["slug"], ""),
            standing=tuple(sorted((workers.standing(each) for each in deployments), key=lambda worker: worker.name)),
        )

    async def make(self, body: Body, action: Staff) -> bool:
        """False where Kubernetes will not have it so: the next look tells why. Raises KubeError where it is away."""
        slug = body["spec"]["slug"]
        self._refusals.pop(slug, None)
        for each in self._wanted(body, action.tenant_id):
            if (child := Child.of(each)) in action.stale:
                is_new = child not in action.present
                try:
                    await children.apply(self._kube, self._namespace, each, label=TENANT_LABEL, is_new=is_new)
                except KubeError as error:
                    if not error.is_refusal:
                        raise
                    self._refusals[slug] = error.message
                    return False
        return True

    async def remove(self, surplus: Sequence[Child]) -> None:
        """Raises KubeError."""
        for child in surplus:
            await children.remove(self._kube, self._namespace, child)

    def _wanted(self, body: Body, tenant_id: str) -> list[Json]:
        sizes = Desired.of(body).sizes
        return [
            each
            for template in self._templates
            for each in workers.filled(template, body, tenant_id, sizes.get(template.worker))
        ]
