"""Objects as kubectl's users meet them."""

import asyncio
import json

import pytest

WAIT_SECONDS = 60
INVITATIONS = "aerostic-invitations"
"""Namespace of the Secrets for first admins."""
TOKENS = "default"
"""The one namespace whose Secrets the operator may read for WhatsAppAccounts."""


class Objects:
    """Objects of a kind as kubectl's users meet them."""

    PATH = ""

    def __init__(self, api) -> None:
        self.api = api

    async def get(self, name):
        return await self.api.find(f"{self.PATH}/{name}")

    @staticmethod
    async def wait(found) -> None:
        """Wait until the answer is true."""
        await until(found, lambda: found.__name__)

    async def change(self, name, /, **spec):
        return await self.api.patch(f"{self.PATH}/{name}", {"spec": spec})

    async def annotate(self, name, **annotations):
        named = {f"aerostic.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        return await self.api.patch(f"{self.PATH}/{name}", {"metadata": {"annotations": named}})

    async def until(self, slug, **conditions):
        """Wait until the object's conditions have these reasons, for its present spec: `until("a", Ready="Active")`."""
        seen = None

        async def stands():
            nonlocal seen
            seen = await self.get(slug)
            if seen is None:
                return False
            found = {c["type"]: c for c in seen.get("status", {}).get("conditions", ())}
            generation = seen["metadata"]["generation"]
            return all(
                name in found and found[name]["reason"] == reason and (found[name]["observedGeneration"] == generation)
                for name, reason in conditions.items()
            )

        await until(stands, lambda: f"{slug} with {conditions}; it is {seen and seen.get('status')}")
        return seen

    async def until_gone(self, slug) -> None:
        async def is_gone():
            return await self.get(slug) is None

        await until(is_gone, lambda: f"the end of {slug}")

    async def events(self, slug):
        found = await self.api.items("/api/v1/namespaces/default/events", fieldSelector=f"involvedObject.name={slug}")
        return [(event["reason"], event["message"]) for event in found]

    async def until_told(self, slug, *reasons):
        """Wait until events with these reasons are there, which come behind the status; all events then."""
        told = []

        async def are_told():
            nonlocal told
            told = await self.events(slug)
            return {*reasons} <= {reason for reason, _ in told}

        await until(are_told, lambda: f"{slug} with events {reasons}; it has {told}")
        return told


class Tenants(Objects):
    PATH = "/apis/aerostic.io/v1alpha1/tenants"

    async def create(self, name, /, *, annotations=None, **spec):
        meta = {"name": name, "annotations": annotations or {}}
        body = {
            "apiVersion": "aerostic.io/v1alpha1",
            "kind": "Tenant",
            "metadata": meta,
            "spec": {"slug": name, **spec},
        }
        return await self.api.create(self.PATH, body)

    async def delete(self, slug) -> None:
        await self.annotate(slug, confirm_delete=slug)
        await self.api.delete(f"{self.PATH}/{slug}")


class Accounts(Objects):
    PATH = "/apis/aerostic.io/v1alpha1/namespaces/default/whatsappaccounts"

    async def create(self, name, spec):
        body = {
            "apiVersion": "aerostic.io/v1alpha1",
            "kind": "WhatsAppAccount",
            "metadata": {"name": name},
            "spec": spec,
        }
        return await self.api.create(self.PATH, body, fieldValidation="Strict")

    async def delete(self, name) -> None:
        await self.api.delete(f"{self.PATH}/{name}")


class Templates:
    """The folder of templates of dedicated tenants' workers; tests/deploy has the chart's own."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def write(self, *, image="aerostic/worker:1", node="", patience=600, kinds=("HorizontalPodAutoscaler",)) -> None:
        """`node`: pods wait for one with this label; `patience`: seconds until Kubernetes gives up on that."""
        for worker in ("inbox", "sender"):
            name = f"tenant-${{tenant.slug}}-{worker}"
            labels = {"aerostic.io/tenant": "${tenant.slug}", "component": f"tenant-{worker}"}
            container = {
                "name": worker,
                "image": image,
                "env": [
                    {"name": "AEROSTIC_MESSAGING_TENANT", "value": "${tenant.id}"},
                    {"name": "NOTHING", "value": ""},
                ],
                "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
            }
            pod = {"containers": [container], **({"nodeSelector": {"node": node}} if node else {})}
            spec = {
                "replicas": "${replicas.min}",
                "progressDeadlineSeconds": patience,
                "minReadySeconds": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            }
            budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
            scaler = {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": "${replicas.min}",
                "maxReplicas": "${replicas.max}",
            }
            objects = [
                {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec},
                {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": budget},
                {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": scaler},
            ]
            wanted = [
                {**each, "metadata": {"name": name}} for each in objects if each["kind"] not in _SCALERS - {*kinds}
            ]
            told = {"worker": worker, "replicas": {"min": 1, "max": 1}, "objects": wanted}
            # As the kubelet does: nobody reads half a file.
            path = self.folder / f"{worker}.json"
            half = path.with_suffix(".new")
            half.write_text(json.dumps(told))
            half.replace(path)


_SCALERS = {"HorizontalPodAutoscaler", "ScaledObject"}


async def until(found, what, seconds: float = WAIT_SECONDS) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await found():  # noqa: ASYNC110 (the API server tells nobody)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what()}")
