"""WhatsApp accounts by kubectl: connected with a Secret's token, renewed, drifting, going."""

from types import SimpleNamespace

import pytest
import pytest_asyncio
from aerostic.tenants.v1 import provisioning_service_pb2 as pb

from devkube.api import ApiError
from kit.errors import RemoteError
from meta_emulator.numbers import Wish, create, issue_token

SECRETS = "/api/v1/namespaces/default/secrets"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(operators, kube):
    # Every account is compared within ten surveys.
    async with operators(AEROSTIC_OPERATOR_RESYNC_SECONDS="0.1") as operator:
        yield operator


@pytest.fixture
async def number(kube, emulator, tenants, platform, operator, slug):
    """A number of Meta's, its token in a Secret, and a workspace for it."""
    number, token = create(emulator, Wish(registered=True))
    await tenants.create(slug)
    body = await tenants.until(slug, Ready="Active")

    async def write(value):
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": slug},
            "stringData": {"accessToken": value},
        }
        await kube.api.apply(f"{SECRETS}/{slug}", secret)

    async def renew():
        await write(issue_token(emulator, number).value)

    async def record():
        request = pb.GetNumberRecordRequest(tenant_id=body["status"]["tenantId"], phone_number_id=number.id)
        return await call("GetNumberRecord", request)

    async def connect():
        """As the workspace's admin does, with a token of his own."""
        request = pb.ConnectNumberRequest(
            tenant_id=body["status"]["tenantId"],
            waba_id=number.waba_id,
            phone_number_id=number.id,
            access_token=issue_token(emulator, number).value,
        )
        return await call("ConnectNumber", request)

    async def disconnect():
        request = pb.DisconnectNumberRequest(tenant_id=body["status"]["tenantId"], phone_number_id=number.id)
        return await call("DisconnectNumber", request)

    async def call(name, request):
        return await platform.rpc.service("operator").call(getattr(platform.provisioning, name), request)

    await write(token.value)
    spec = {
        "tenantRef": {"name": slug},
        "wabaId": number.waba_id,
        "phoneNumberId": number.id,
        "accessTokenSecretRef": {"name": slug},
    }
    return SimpleNamespace(
        spec=spec, token=token.value, write=write, renew=renew, record=record, connect=connect, disconnect=disconnect
    )


async def test_a_described_number_is_connected_and_shown(kube, accounts, number, slug) -> None:
    await accounts.create(slug, number.spec)
    body = await accounts.until(slug, Ready="Connected", Synced="Synced")
    record = await number.record()
    status = body["status"]
    assert (status["accountId"], status["tokenVersion"]) == (record.account.id, record.token_version)
    assert status["displayPhoneNumber"] == record.account.display_phone_number
    assert status["messagesPerSecond"] == record.account.messages_per_second
    assert status["observedGeneration"] == body["metadata"]["generation"]
    assert number.token not in str(body)
    assert number.token not in str(await accounts.until_told(slug, "Connected"))


async def test_a_changed_secret_is_noticed(accounts, number, slug) -> None:
    await accounts.create(slug, number.spec)
    first = (await accounts.until(slug, Ready="Connected"))["status"]["tokenVersion"]
    await number.renew()

    async def is_renewed():
        return (await accounts.get(slug))["status"]["tokenVersion"] > first

    await accounts.wait(is_renewed)
    await accounts.until(slug, Ready="Connected", Synced="Synced")


async def test_metas_refusal_is_told_in_its_words(accounts, number, slug) -> None:
    await number.write("EAA-not-a-token")
    await accounts.create(slug, number.spec)
    await accounts.until(slug, Ready="MetaRefused", Stalled="MetaRefused")

    async def is_not_ours():
        # Between being tried once more and being refused once more it may be there.
        return "secretVersion" not in (await accounts.get(slug))["status"]

    await accounts.wait(is_not_ours)
    await number.write(number.token)
    await accounts.annotate(slug, checked="now")
    await accounts.until(slug, Ready="Connected")


async def test_what_is_missing_is_named_and_waited_for(kube, accounts, number, slug) -> None:
    await kube.api.delete(f"{SECRETS}/{slug}")
    await accounts.create(slug, number.spec)
    await accounts.until(slug, Ready="SecretNotFound", Stalled="SecretNotFound")
    await accounts.create(f"{slug}-2", {**number.spec, "tenantRef": {"name": "nobody-here"}})
    await accounts.until(f"{slug}-2", Ready="TenantNotFound", Stalled="TenantNotFound")
    await number.write(number.token)
    await accounts.until(slug, Ready="Connected")


async def test_no_token_goes_to_a_workspace_that_is_not_the_tenants(accounts, tenants, platform, number, slug) -> None:
    theirs = f"{slug}-theirs"
    tenant_id = await platform.register(theirs)
    await tenants.until(theirs, Ready="Active")
    await accounts.create(slug, {**number.spec, "tenantRef": {"name": theirs}})
    await accounts.until(slug, Ready="TenantNotBound", Stalled="TenantNotBound")
    await tenants.change(theirs, managementPolicies=["*"])
    await tenants.until(theirs, Ready="AdoptionPreview")
    request = pb.GetNumberRecordRequest(tenant_id=tenant_id, phone_number_id=number.spec["phoneNumberId"])
    find = platform.provisioning.GetNumberRecord
    with pytest.raises(RemoteError) as refused:
        await platform.rpc.service("operator").call(find, request)
    assert refused.value.reason == "WHATSAPP_ACCOUNT_NOT_FOUND"
    await tenants.annotate(theirs, adopt="true")
    await accounts.until(slug, Ready="Connected")
    assert (await platform.rpc.service("operator").call(find, request)).account.state == "ready"


async def test_a_namespace_that_the_tenant_does_not_name_connects_nothing(accounts, tenants, number, slug) -> None:
    await tenants.change(slug, accountNamespaces=["another"])
    await accounts.create(slug, number.spec)
    await accounts.until(slug, Ready="NamespaceNotAllowed", Stalled="NamespaceNotAllowed")
    await tenants.change(slug, accountNamespaces=["another", "default"])
    await accounts.until(slug, Ready="Connected")


async def test_a_number_that_was_disconnected_elsewhere_is_connected_again(accounts, number, slug) -> None:
    await accounts.create(slug, number.spec)
    await accounts.until(slug, Ready="Connected")
    await number.disconnect()

    async def is_reverted():
        return "DriftReverted" in {reason for reason, _ in await accounts.events(slug)}

    await accounts.wait(is_reverted)
    assert (await number.record()).account.state == "ready"


async def test_another_token_is_only_reported_where_the_policy_says_so(accounts, number, slug) -> None:
    await accounts.create(slug, {**number.spec, "driftPolicy": "Report"})
    await accounts.until(slug, Ready="Connected")
    theirs = await number.connect()
    body = await accounts.until(slug, Ready="Drifted", Drifted="PlatformDiffers")
    assert body["status"]["differences"] == ["another token was connected elsewhere"]
    assert (await number.record()).token_version == theirs.token_version


async def test_a_number_that_an_admin_connected_is_adopted_by_consent_only(accounts, number, slug) -> None:
    theirs = await number.connect()
    await accounts.create(slug, number.spec)
    await accounts.until(slug, Ready="AdoptionPreview", Stalled="AdoptionPreview")
    assert (await number.record()).token_version == theirs.token_version
    await accounts.annotate(slug, adopt="true")
    body = await accounts.until(slug, Ready="Connected", Synced="Synced")
    assert body["status"]["accountId"] == theirs.account.id
    assert (await number.record()).token_version > theirs.token_version


async def test_a_number_that_deletion_disconnects_is_connected_once(accounts, number, slug) -> None:
    await accounts.create(slug, {**number.spec, "deletionPolicy": "Disconnect"})
    body = await accounts.until(slug, Ready="Connected", Synced="Synced")
    assert body["metadata"]["finalizers"] == ["aerostic.io/operator"]
    assert body["status"]["tokenVersion"] == (await number.record()).token_version == 1
    assert [reason for reason, _ in await accounts.until_told(slug, "Connected")].count("Connected") == 1


async def test_a_second_object_for_a_number_waits_and_the_number_outlives_the_first(accounts, number, slug) -> None:
    spec = {**number.spec, "deletionPolicy": "Disconnect"}
    first = await accounts.create(slug, spec)
    await accounts.until(slug, Ready="Connected")
    second, made = f"{slug}-2", first["metadata"]["creationTimestamp"]
    while (await accounts.create(second, spec))["metadata"]["creationTimestamp"] == made:
        # Of one second neither is the older one.
        await accounts.delete(second)
        await accounts.until_gone(second)
    await accounts.until(second, Ready="Conflict", Stalled="Conflict")
    await accounts.delete(slug)
    await accounts.until_gone(slug)
    assert (await number.record()).account.state == "ready"
    await accounts.until(second, Ready="AdoptionPreview")


@pytest.mark.parametrize("policy", ["Retain", "Disconnect"])
async def test_deletion_does_as_the_policy_says(accounts, number, slug, policy) -> None:
    await accounts.create(slug, {**number.spec, "deletionPolicy": policy})
    await accounts.until(slug, Ready="Connected")
    await accounts.delete(slug)
    await accounts.until_gone(slug)
    if policy == "Retain":
        assert (await number.record()).account.state == "ready"
        return
    with pytest.raises(RemoteError) as refused:
        await number.record()
    assert refused.value.reason == "WHATSAPP_ACCOUNT_NOT_FOUND"


async def test_comparing_what_is_connected_writes_nothing(operator, accounts, number, slug) -> None:
    await accounts.create(slug, number.spec)
    body = await accounts.until(slug, Ready="Connected")
    looked = 'aerostic_operator_reconciled_total{kind="WhatsAppAccount"'
    before = await operator.metric(looked)

    async def is_compared():
        return await operator.metric(looked) > before + 20

    await accounts.wait(is_compared)
    assert (await accounts.get(slug))["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]


@pytest.mark.parametrize("field", ["tenantRef", "phoneNumberId"])
async def test_what_names_the_number_is_immutable(accounts, number, slug, field) -> None:
    await accounts.create(slug, {**number.spec, "managementPolicies": ["Observe"]})
    other = {"tenantRef": {"name": "another"}, "phoneNumberId": "99999999"}
    with pytest.raises(ApiError) as refused:
        await accounts.change(slug, **{field: other[field]})
    assert f"{field} is immutable" in refused.value.message


async def test_a_token_in_the_spec_is_refused(kube, accounts, number, slug) -> None:
    with pytest.raises(ApiError) as refused:
        await accounts.create(slug, {**number.spec, "accessToken": number.token})
    assert 'unknown field "spec.accessToken"' in refused.value.message
