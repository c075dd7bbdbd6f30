"""Tenants by kubectl: made, changed, adopted, drifting, going."""

import base64
import uuid

import pytest
from aerostic.auth.v1 import invitation_service_pb2 as auth_pb

from aerostic_operator import objects
from devkube.api import ApiError

SECRETS = "/api/v1/namespaces/aerostic-invitations/secrets"


class TestLife:
    async def test_a_tenant_is_made_as_described_and_says_so(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, displayName="Acme Shoes")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        tenant = await platform.find(slug)
        assert (tenant.display_name, tenant.state) == ("Acme Shoes", "active")
        status = body["status"]
        assert (status["tenantId"], status["state"]) == (tenant.id, "active")
        assert status["observedGeneration"] == body["metadata"]["generation"]
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "Ready": "True",
            "Synced": "True",
            "Reconciling": "False",
            "Stalled": "False",
            "Drifted": "False",
        }
        assert "finalizers" not in body["metadata"]
        await tenants.until_told(slug, "Created")

    async def test_a_changed_spec_changes_the_tenant(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, displayName="Acme")
        await tenants.until(slug, Ready="Active")
        await tenants.change(slug, displayName="Acme Shoes", suspended=True, suspensionReason="The invoice is open.")
        await tenants.until(slug, Ready="Suspended", Synced="Synced")
        tenant = await platform.find(slug)
        assert (tenant.display_name, tenant.suspension_reason) == ("Acme Shoes", "The invoice is open.")
        await tenants.change(slug, suspended=False)
        await tenants.until(slug, Ready="Active")
        assert (await platform.find(slug)).state == "active"

    async def test_a_retained_tenant_outlives_its_object(self, operators, operator, tenants, platform, slug) -> None:
        await tenants.create(slug)
        body = await tenants.until(slug, Ready="Active")
        await tenants.delete(slug)

        async def is_back():
            found = await tenants.get(slug)
            return found is not None and found["metadata"]["uid"] != body["metadata"]["uid"]

        # As one that only shows the workspace.
        await tenants.wait(is_back)
        assert (await tenants.until(slug, Ready="Active"))["spec"]["managementPolicies"] == ["Observe"]
        assert (await platform.find(slug)).state == "active"

    async def test_deletion_suspends_where_the_policy_says_so(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, deletionPolicy="Suspend")
        body = await tenants.until(slug, Ready="Active")
        assert body["metadata"]["finalizers"] == ["aerostic.io/operator"]
        await tenants.delete(slug)
        await platform.until(slug, lambda tenant: tenant.state == "suspended")
        assert (await platform.find(slug)).suspension_reason == "The workspace's description in Kubernetes was deleted."

    async def test_deletion_erases_where_the_policy_says_so(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, deletionPolicy="Delete")
        await tenants.until(slug, Ready="Active")
        await tenants.delete(slug)
        await platform.until(slug, lambda tenant: tenant.state == "deleting")
        body = await tenants.until(slug, Ready="Erasing", Reconciling="Erasing")
        assert "Still to do: numbers, auth, messaging" in objects.condition(body, "Ready")["message"]
        assert body["status"]["state"] == "deleting"
        await platform.end_erasure(slug)
        await tenants.until_gone(slug)
        assert await platform.find(slug) is None

    async def test_a_tenant_that_is_erased_by_somebody_else_is_told(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug)
        await tenants.until(slug, Ready="Active")
        await platform.erase(slug)
        await tenants.until(slug, Stalled="Erasing")

    async def test_a_policy_that_needs_a_finalizer_no_longer_loses_it(self, operator, tenants, slug) -> None:
        await tenants.create(slug, deletionPolicy="Suspend")
        await tenants.until(slug, Ready="Active")
        await tenants.change(slug, deletionPolicy="Retain")
        body = await tenants.until(slug, Ready="Active")
        assert not body["metadata"].get("finalizers")


class TestRules:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"slug": "other-name"}, "metadata.name and spec.slug must be the same"),
            ({"suspended": True}, "suspensionReason is needed to suspend"),
            ({"managementPolicies": ["*", "Observe"]}, 'either "*" alone'),
            ({"managementPolicies": ["Update"]}, "Observe and what else is allowed"),
            ({"displayName": "   "}, "displayName needs a visible character"),
            ({"displayName": "x" * 81}, "Too long"),
            ({"ownerEmail": "nobody"}, "ownerEmail"),
            ({"deletionPolicy": "Burn"}, "Unsupported value"),
        ],
    )
    async def test_what_makes_no_sense_is_refused_at_once(self, kube, tenants, slug, spec, words) -> None:
        with pytest.raises(ApiError) as refused:
            await tenants.create(slug, **spec)
        assert refused.value.status == 422
        assert words in refused.value.message

    async def test_the_slug_is_immutable(self, tenants, slug) -> None:
        await tenants.create(slug, managementPolicies=["Observe"])
        with pytest.raises(ApiError) as refused:
            await tenants.change(slug, slug="another")
        assert "slug is immutable" in refused.value.message

    async def test_a_deletion_must_be_confirmed_by_name(self, kube, tenants, slug) -> None:
        await tenants.create(slug, annotations={"aerostic.io/confirm-delete": "another"})
        with pytest.raises(ApiError) as refused:
            await kube.api.delete(f"{tenants.PATH}/{slug}")
        assert refused.value.status == 403
        assert f"kubectl annotate tenant {slug} aerostic.io/confirm-delete={slug}" in refused.value.message
        assert await tenants.get(slug) is not None


class TestDrift:
    async def test_it_is_reverted_and_told_in_words(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, displayName="Acme")
        body = await tenants.until(slug, Ready="Active")
        await platform.apply(body["status"]["tenantId"], slug, display_name="Renamed by hand")
        await platform.until(slug, lambda tenant: tenant.display_name == "Acme")

        async def is_told():
            return "lastReverted" in (await tenants.get(slug))["status"]

        await tenants.wait(is_told)
        words = 'displayName is "Renamed by hand" instead of "Acme"'
        assert (await tenants.get(slug))["status"]["lastReverted"]["differences"] == [words]
        told = await tenants.until_told(slug, "DriftReverted")
        assert ("DriftReverted", f"Changed elsewhere, and made as described again: {words}.") in told

    async def test_it_is_only_reported_where_the_policy_says_so(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, displayName="Acme", driftPolicy="Report")
        body = await tenants.until(slug, Ready="Active")
        await platform.apply(body["status"]["tenantId"], slug, display_name="Renamed")
        body = await tenants.until(slug, Ready="Drifted", Drifted="PlatformDiffers", Synced="Drifted")
        assert body["status"]["differences"] == ['displayName is "Renamed" instead of "Acme"']
        assert (await platform.find(slug)).display_name == "Renamed"
        # Whoever changes the spec says again what shall be.
        await tenants.change(slug, displayName="Acme Shoes")
        await tenants.until(slug, Ready="Active", Drifted="NoDrift")
        assert (await platform.find(slug)).display_name == "Acme Shoes"

    async def test_what_the_spec_leaves_out_is_no_drift(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug)
        body = await tenants.until(slug, Ready="Active")
        await platform.apply(body["status"]["tenantId"], slug, display_name="Renamed")

        async def is_shown():
            return (await tenants.get(slug))["status"]["displayName"] == "Renamed"

        await tenants.wait(is_shown)
        await tenants.until(slug, Ready="Active", Drifted="NoDrift")


class TestAdoption:
    async def test_a_tenant_born_elsewhere_is_shown(self, operator, tenants, platform, slug) -> None:
        tenant_id = await platform.register(slug, display_name="Born by REST")
        body = await tenants.until(slug, Ready="Active")
        assert body["metadata"]["labels"] == {"aerostic.io/imported": "true"}
        assert (body["status"]["tenantId"], body["status"]["displayName"]) == (tenant_id, "Born by REST")

    async def test_it_is_previewed_and_changed_by_consent_only(self, operator, tenants, platform, slug) -> None:
        tenant_id = await platform.register(slug, display_name="Born by REST")
        await tenants.until(slug, Ready="Active")
        # Looking alone tells what would change.
        await tenants.change(slug, displayName="Acme")
        await tenants.until(slug, Ready="Observed", Drifted="PlatformDiffers")
        # Anybody may have registered the slug: managing it is no consent.
        await tenants.change(slug, managementPolicies=["*"])
        body = await tenants.until(slug, Ready="AdoptionPreview", Stalled="AdoptionPreview")
        assert not body["status"]["bound"]
        assert (await platform.find(slug)).display_name == "Born by REST"
        await tenants.annotate(slug, adopt="true")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        assert body["status"]["bound"]
        tenant = await platform.find(slug)
        assert (tenant.id, tenant.display_name) == (tenant_id, "Acme")

    async def test_without_consent_nothing_of_somebody_elses_is_changed(
        self, operators, operator, tenants, platform, slug
    ) -> None:
        await tenants.create(slug, displayName="Acme", annotations={"aerostic.io/paused": "true"})
        await tenants.until(slug, Synced="Paused")
        tenant_id = await platform.register(slug, display_name="Born by REST")
        await tenants.annotate(slug, paused=None)
        body = await tenants.until(slug, Ready="AdoptionPreview", Stalled="AdoptionPreview")
        assert body["status"]["differences"] == ['displayName is "Born by REST" instead of "Acme"']
        assert (await platform.find(slug)).display_name == "Born by REST"
        await tenants.annotate(slug, adopt="true")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        assert body["status"]["tenantId"] == tenant_id
        assert (await platform.find(slug)).display_name == "Acme"

    async def test_a_slug_that_a_stranger_registered_is_not_taken_for_the_objects(
        self, operator, tenants, platform, slug
    ) -> None:
        await tenants.create(slug, annotations={"aerostic.io/paused": "true"})
        await platform.register(slug)
        await tenants.annotate(slug, paused=None)
        body = await tenants.until(slug, Ready="AdoptionPreview")
        assert "tenantId" not in body["status"]
        ready = next(c for c in body["status"]["conditions"] if c["type"] == "Ready")
        assert "It has no admin. Adopting it changes nothing of it now." in ready["message"]

    async def test_an_observer_of_nothing_is_stalled(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, managementPolicies=["Observe"])
        await tenants.until(slug, Ready="NotFound", Stalled="NotFound")
        assert await platform.find(slug) is None


class TestPause:
    async def test_a_paused_object_changes_nothing_and_says_so(self, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, displayName="Acme")
        await tenants.until(slug, Ready="Active")
        await tenants.annotate(slug, paused="true")
        await tenants.change(slug, displayName="Acme Shoes")
        body = await tenants.until(slug, Synced="Paused")
        assert body["status"]["observedGeneration"] < body["metadata"]["generation"]
        assert (await platform.find(slug)).display_name == "Acme"
        await tenants.annotate(slug, paused=None)
        await tenants.until(slug, Ready="Active", Synced="Synced")
        assert (await platform.find(slug)).display_name == "Acme Shoes"


class TestFirstAdmin:
    async def test_an_invited_person_finds_a_token_and_joins(self, kube, operator, tenants, platform, slug) -> None:
        await tenants.create(slug, ownerEmail="Zoe@Example.com")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        named = body["status"]["firstAdmin"]
        assert (named["email"], named["state"], named["secretNamespace"]) == (
            "zoe@example.com",
            "invited",
            "aerostic-invitations",
        )
        secret = await kube.api.get(f"{SECRETS}/{named['secretName']}")
        [owner] = secret["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Tenant", body["metadata"]["uid"])
        data = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        assert data["token"] not in str(body)

        request = auth_pb.AcceptInvitationRequest(token=data["token"], name="Zoe", password="correct horse")
        await platform.auth_rpc.anonymous().call(platform.invitations.AcceptInvitation, request)

        async def has_joined():
            return (await tenants.get(slug))["status"]["firstAdmin"] == {"email": "zoe@example.com", "state": "joined"}

        await tenants.wait(has_joined)
        assert await kube.api.find(f"{SECRETS}/{named['secretName']}") is None

    async def test_a_lost_token_is_replaced(self, kube, operator, tenants, slug) -> None:
        await tenants.create(slug, ownerEmail=f"{uuid.uuid4().hex}@example.com")
        name = (await tenants.until(slug, Ready="Active"))["status"]["firstAdmin"]["secretName"]
        old = await kube.api.get(f"{SECRETS}/{name}")
        await kube.api.delete(f"{SECRETS}/{name}")

        async def is_back():
            return await kube.api.find(f"{SECRETS}/{name}") is not None

        await tenants.wait(is_back)
        assert (await kube.api.get(f"{SECRETS}/{name}"))["data"]["token"] != old["data"]["token"]

    async def test_the_secret_goes_with_the_object(self, kube, operator, tenants, slug) -> None:
        await tenants.create(slug, ownerEmail=f"{uuid.uuid4().hex}@example.com")
        name = (await tenants.until(slug, Ready="Active"))["status"]["firstAdmin"]["secretName"]
        await tenants.delete(slug)

        async def is_gone():
            return await kube.api.find(f"{SECRETS}/{name}") is None

        await tenants.wait(is_gone)


class TestCalm:
    async def test_comparing_what_is_as_described_writes_nothing(self, operator, tenants, slug) -> None:
        await tenants.create(slug, displayName="Acme", ownerEmail=f"{uuid.uuid4().hex}@example.com")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        compared = await operator.metric("aerostic_operator_surveyed_seconds")

        async def is_compared_again():
            return await operator.metric("aerostic_operator_surveyed_seconds") > compared + 2

        await tenants.wait(is_compared_again)
        assert (await tenants.get(slug))["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]

    async def test_every_field_of_the_status_is_declared(self, kube, operator, tenants, slug) -> None:
        """What is not declared is dropped by the API server, and the operator would write it again and again."""
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        definition = await kube.api.get(f"{definitions}/tenants.aerostic.io")
        [version] = definition["spec"]["versions"]
        declared = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        await tenants.create(slug, displayName="Acme", ownerEmail=f"{uuid.uuid4().hex}@example.com")
        body = await tenants.until(slug, Ready="Active", Synced="Synced")
        unused = {"differences", "lastReverted", "workers"}  # there is no drift, and there are no workers of its own
        assert declared.keys() - body["status"].keys() == unused
