"""Tenants with workers of their own: made, changed, looked after, removed."""

import pytest
from operator_objects import until

from aerostic_operator import objects

ROOTS = {
    "Deployment": "/apis/apps/v1/namespaces/aerostic-system/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/aerostic-system/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/aerostic-system/horizontalpodautoscalers",
}


class Children:
    """Objects of the tenants' workers."""

    def __init__(self, api) -> None:
        self.api = api

    def path(self, slug, worker="inbox", kind="Deployment"):
        return f"{ROOTS[kind]}/tenant-{slug}-{worker}"

    async def of(self, slug):
        """Names by kind, with their bodies."""
        selector = {"labelSelector": f"aerostic.io/tenant={slug}"}
        return {
            (kind, body["metadata"]["name"].removeprefix(f"tenant-{slug}-")): body
            for kind, root in ROOTS.items()
            for body in await self.api.items(root, **selector)
        }

    async def until(self, slug, holds):
        found = {}

        async def stands():
            nonlocal found
            found = await self.of(slug)
            return holds(found)

        await until(stands, lambda: f"{slug}; there are {found}")
        return found


@pytest.fixture
def children(kube, installed):
    return Children(kube.api)


@pytest.fixture
def usual(templates):
    """The templates, which are as usual again afterwards."""
    yield templates
    templates.write()


async def surveyed(operator, seconds=0.0) -> None:
    """Wait for a comparison that began after this, or so many seconds later."""
    name = 'aerostic_operator_surveyed_seconds{kind="Tenant"}'
    before, seen = await operator.metric(name), set()

    async def is_over():
        seen.add(await operator.metric(name))
        # The next to end may have begun before.
        return len({each for each in seen if each > before + seconds}) > 1

    await until(is_over, lambda: "two comparisons")


BOTH = {("Deployment", "inbox"), ("Deployment", "sender")}


def container(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


class TestLife:
    async def test_a_dedicated_tenant_gets_workers_and_says_how_they_are(
        self, operator, tenants, children, platform, slug
    ) -> None:
        await tenants.create(slug, isolation="dedicated")
        body = await tenants.until(slug, Ready="Active", Reconciling="Settled", Synced="Synced")
        assert (await platform.find(slug)).isolation == "dedicated"
        made = await children.of(slug)
        assert made.keys() == BOTH
        for worker in ("inbox", "sender"):
            deployment = made["Deployment", worker]
            [owner] = deployment["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == ("Tenant", body["metadata"]["uid"], True)
            assert container(deployment)["env"][0]["value"] == body["status"]["tenantId"]
        assert body["status"]["isolation"] == "dedicated"
        assert body["status"]["workers"] == [
            {"name": "inbox", "desired": 1, "available": 1},
            {"name": "sender", "desired": 1, "available": 1},
        ]
        message = objects.condition(body, "Ready")["message"]
        assert message == "The workspace is active. Workers of its own serve it."
        await tenants.until_told(slug, "WorkersApplied")

    async def test_a_tenant_that_shares_again_has_none(self, operator, tenants, children, slug) -> None:
        await tenants.create(slug, isolation="dedicated")
        await tenants.until(slug, Ready="Active", Reconciling="Settled")
        await tenants.change(slug, isolation="shared")
        await children.until(slug, lambda made: not made)
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        assert (body["status"]["isolation"], "workers" in body["status"]) == ("shared", False)
        await tenants.until_told(slug, "WorkersRemoved")

    async def test_a_suspended_tenant_keeps_them_as_it_still_receives(self, operator, tenants, children, slug) -> None:
        await tenants.create(slug, isolation="dedicated", suspended=True, suspensionReason="The invoice is open.")
        body = await tenants.until(slug, Ready="Suspended", Reconciling="Settled")
        assert [each["available"] for each in body["status"]["workers"]] == [1, 1]

    async def test_they_go_with_the_object(self, operator, tenants, children, slug) -> None:
        await tenants.create(slug, isolation="dedicated")
        await tenants.until(slug, Ready="Active", Reconciling="Settled")
        await tenants.delete(slug)
        await children.until(slug, lambda made: not made)
        # The workspace is shown again, still dedicated, and nobody's: shared workers stand in.
        body = await tenants.until(slug, Ready="Active")
        assert body["spec"]["managementPolicies"] == ["Observe"]
        assert (body["status"]["isolation"], "workers" in body["status"]) == ("dedicated", False)
        # Any that were made anew before the operator heard of the deletion have no owner any more, and go too.
        await children.until(slug, lambda made: not made)

    async def test_a_change_elsewhere_is_drift(self, operator, tenants, children, platform, slug) -> None:
        await tenants.create(slug, isolation="dedicated")
        body = await tenants.until(slug, Ready="Active", Reconciling="Settled")
        await platform.apply(body["status"]["tenantId"], slug, isolation="shared")
        await platform.until(slug, lambda tenant: tenant.isolation == "dedicated")

        async def is_told():
            return "lastReverted" in (await tenants.get(slug))["status"]

        await tenants.wait(is_told)
        words = "isolation is shared instead of dedicated"
        assert (await tenants.get(slug))["status"]["lastReverted"]["differences"] == [words]


class TestSizes:
    async def test_several_have_a_budget_and_a_range_has_a_scaler(self, operator, tenants, children, slug) -> None:
        await tenants.create(slug, isolation="dedicated", workers={"sender": {"min": 2, "max": 3}})
        body = await tenants.until(slug, Ready="Active", Reconciling="Settled")
        made = await children.of(slug)
        assert made.keys() == BOTH | {("PodDisruptionBudget", "sender"), ("HorizontalPodAutoscaler", "sender")}
        bounds = made["HorizontalPodAutoscaler", "sender"]["spec"]
        assert (bounds["minReplicas"], bounds["maxReplicas"]) == (2, 3)
        # Whoever scales is left alone.
        await children.api.patch(children.path(slug, "sender"), {"spec": {"replicas": 3}})
        await tenants.until(slug, Ready="Active", Reconciling="Settled")

        async def is_told():
            workers = (await tenants.get(slug))["status"]["workers"]
            return {"name": "sender", "desired": 3, "available": 3} in workers

        await tenants.wait(is_told)
        await tenants.change(slug, workers=None)
        made = await children.until(slug, lambda made: made.keys() == BOTH)
        await children.until(slug, lambda made: made["Deployment", "sender"]["spec"]["replicas"] == 1)
        assert body["status"]["workers"][0]["name"] == "inbox"

    async def test_bounds_that_make_no_sense_are_refused_at_once(self, kube, tenants, slug) -> None:
        from devkube.api import ApiError

        for workers, words in (
            ({"inbox": {"min": 3, "max": 2}}, "min is greater than max"),
            ({"inbox": {"min": 0}}, "greater than or equal to 1"),
            ({"sender": {"max": 65}}, "less than or equal to 64"),
        ):
            with pytest.raises(ApiError) as refused:
                await tenants.create(slug, workers=workers)
            assert words in refused.value.message


class TestCare:
    async def test_what_was_changed_or_deleted_by_hand_comes_back(self, operator, tenants, children, slug) -> None:
        await tenants.create(slug, isolation="dedicated")
        await tenants.until(slug, Ready="Active", Reconciling="Settled")
        await children.api.patch(children.path(slug), {"spec": {"replicas": 0}})
        await children.until(slug, lambda made: made["Deployment", "inbox"]["spec"]["replicas"] == 1)
        template = {"spec": {"containers": [{"name": "inbox", "image": "somebody/elses:1"}]}}
        strategic = "application/strategic-merge-patch+json"
        await children.api.patch(children.path(slug), {"spec": {"template": template}}, kind=strategic)
        await children.until(slug, lambda made: container(made["Deployment", "inbox"])["image"] == "aerostic/worker:1")
        before = await children.of(slug)
        await children.api.delete(children.path(slug, "sender"))
        await children.until(
            slug,
            lambda made: (
                ("Deployment", "sender") in made
                and made["Deployment", "sender"]["metadata"]["uid"] != before["Deployment", "sender"]["metadata"]["uid"]
            ),
        )
        await tenants.until(slug, Ready="Active", Reconciling="Settled")

    async def test_comparing_what_is_as_wanted_writes_nothing(self, operator, tenants, children, slug) -> None:
        # Nothing of a scaler's own doing changes meanwhile: there are as many as it wants from the beginning.
        workers = {"inbox": {"min": 2, "max": 2}, "sender": {"min": 1, "max": 3}}
        await tenants.create(slug, isolation="dedicated", workers=workers)
        body = await tenants.until(slug, Ready="Active", Reconciling="Settled")
        before = await children.of(slug)
        assert before.keys() == BOTH | {("PodDisruptionBudget", "inbox"), ("HorizontalPodAutoscaler", "sender")}
        await surveyed(operator, seconds=2)
        assert (await tenants.get(slug))["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
        after = await children.of(slug)
        for key, child in before.items():
            assert child["metadata"]["annotations"] == after[key]["metadata"]["annotations"]
            assert child["metadata"].get("generation") == after[key]["metadata"].get("generation")
            own = [each["time"] for each in child["metadata"]["managedFields"] if each["operation"] == "Apply"]
            assert own == [e["time"] for e in after[key]["metadata"]["managedFields"] if e["operation"] == "Apply"]

    async def test_a_new_template_is_rolled_out_to_all(self, operator, tenants, children, usual, slug) -> None:
        names = [f"{slug}-{number}" for number in range(2)]
        for name in names:
            await tenants.create(name, isolation="dedicated")
            await tenants.until(name, Ready="Active", Reconciling="Settled")
        usual.write(image="aerostic/worker:2")
        for name in names:
            await children.until(
                name,
                lambda made: {container(each)["image"] for each in made.values()} == {"aerostic/worker:2"},
            )
            await tenants.until(name, Ready="Active", Reconciling="Settled")

    async def test_an_object_that_somebody_else_made_is_not_taken(self, operator, tenants, children, slug) -> None:
        labels = {"app": "theirs"}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "theirs:1"}]}}
        theirs = {
            "metadata": {"name": f"tenant-{slug}-inbox"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
        }
        await children.api.create(ROOTS["Deployment"], theirs)
        await tenants.create(slug, isolation="dedicated")
        body = await tenants.until(slug, Ready="WorkersRefused", Stalled="WorkersRefused")
        ready = objects.condition(body, "Ready")
        assert ready["status"] == "True", "shared workers stand in, so it works"
        assert "is not the operator's" in ready["message"]
        assert container(await children.api.get(children.path(slug)))["image"] == "theirs:1"
        await children.api.delete(children.path(slug))
        await tenants.until(slug, Ready="Active", Reconciling="Settled", Stalled="Settled")


class TestWaiting:
    async def test_workers_that_do_not_come_leave_the_tenant_ready_and_are_told(
        self, kube, operator, tenants, children, usual, slug
    ) -> None:
        usual.write(node="nowhere")
        await surveyed(operator)
        await tenants.create(slug, isolation="dedicated")
        body = await tenants.until(slug, Ready="WorkersStarting", Reconciling="WorkersStarting")
        ready = objects.condition(body, "Ready")
        assert ready["status"] == "True"
        assert "Shared workers stand in until its own are there: inbox has 0 of 1" in ready["message"]
        # Kubernetes loses its patience only now, so that what comes before is seen on the slowest machine.
        usual.write(node="nowhere", patience=3)
        body = await tenants.until(slug, Ready="WorkersStalled", Stalled="WorkersStalled", Reconciling="Settled")
        assert "has timed out progressing" in objects.condition(body, "Ready")["message"]
        usual.write()
        await tenants.until(slug, Ready="Active", Stalled="Settled", Reconciling="Settled")

    async def test_why_pods_are_not_made_is_told_in_kubernetes_words(
        self, kube, operator, tenants, children, slug
    ) -> None:
        quotas = "/api/v1/namespaces/aerostic-system/resourcequotas"
        await kube.api.create(quotas, {"metadata": {"name": slug}, "spec": {"hard": {"pods": "0"}}})

        async def counts():
            return "hard" in (await kube.api.get(f"{quotas}/{slug}")).get("status", {})

        try:
            await tenants.wait(counts)
            await tenants.create(slug, isolation="dedicated")

            async def is_told():
                message = objects.condition(await tenants.get(slug), "Ready").get("message", "")
                return "exceeded quota" in message

            await tenants.wait(is_told)
            await tenants.until(slug, Ready="WorkersStarting", Reconciling="WorkersStarting")
        finally:
            await kube.api.delete(f"{quotas}/{slug}")


class TestRights:
    async def test_a_secret_that_the_operator_may_not_read_is_told(self, kube, operator, tenants, slug) -> None:
        await tenants.create(slug)
        await tenants.until(slug, Ready="Active")
        await kube.api.create("/api/v1/namespaces", {"metadata": {"name": slug}})
        folder = f"/apis/aerostic.io/v1alpha1/namespaces/{slug}/whatsappaccounts"
        spec = {
            "tenantRef": {"name": slug},
            "wabaId": "102290129340398",
            "phoneNumberId": "106540352242922",
            "accessTokenSecretRef": {"name": "meta-token", "key": "accessToken"},
        }
        account = {
            "apiVersion": "aerostic.io/v1alpha1",
            "kind": "WhatsAppAccount",
            "metadata": {"name": "a"},
            "spec": spec,
        }
        await kube.api.create(folder, account)

        async def is_told():
            body = await kube.api.get(f"{folder}/a")
            return "cannot get resource" in objects.condition(body, "Ready").get("message", "")

        try:
            await tenants.wait(is_told)
            assert objects.condition(await kube.api.get(f"{folder}/a"), "Ready")["reason"] == "Forbidden"
        finally:
            await kube.api.delete(f"{folder}/a")
