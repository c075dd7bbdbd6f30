"""What Meta says of a number and its token, on the object that describes it: live, in words, and written once."""

import time
from dataclasses import replace
from types import SimpleNamespace

import asyncpg
import pytest
import pytest_asyncio
from aerostic.tenants.v1.provisioning_service_pb2 import ListNumberRecordsRequest

from aerostic_operator import objects
from aerostic_operator.whatsapp_accounts import health
from aerostic_operator.whatsapp_accounts.plan import Number
from kit.crypto import KeyRing
from kit.db import Database
from meta_emulator.numbers import Wish, create, issue_token
from svc_tenants.checker import Checker
from svc_tenants.graph import GraphClient

SECRETS = "/api/v1/namespaces/default/secrets"
DAY = 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(operators, kube):
    # So slow that an object's own turn does not come: what is noticed, all objects' survey has noticed.
    async with operators(AEROSTIC_OPERATOR_RESYNC_SECONDS="0.5") as operator:
        yield operator


@pytest_asyncio.fixture
async def look(platform, emulator):
    """svc-tenants asks Meta about all numbers, now."""
    db = await Database.connect(platform.databases["tenants"].app_url, name="checker of the operator's tests")
    graph = GraphClient(
        emulator.url,
        "v24.0",
        app_id=emulator.settings.app_id,
        app_secret=emulator.settings.app_secret.get_secret_value(),
    )
    checker = Checker(db, graph, KeyRing({"k": b"k" * 32}), seconds=600)

    async def look():
        connection = await asyncpg.connect(platform.databases["tenants"].superuser_url)
        try:
            await connection.execute("UPDATE whatsapp_accounts SET check_after = now()")
        finally:
            await connection.close()
        await checker.look_at_all_due()

    yield look
    await graph.close()
    await db.close()


@pytest_asyncio.fixture
async def number(kube, emulator, tenants, accounts, operator, slug):
    """A number of Meta's that an object has connected."""
    number, token = create(emulator, Wish(registered=True))
    await tenants.create(slug)
    await tenants.until(slug, Ready="Active")

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

    await write(token.value)
    await accounts.create(
        slug,
        {
            "tenantRef": {"name": slug},
            "wabaId": number.waba_id,
            "phoneNumberId": number.id,
            "accessTokenSecretRef": {"name": slug},
        },
    )
    body = await accounts.until(slug, Ready="Connected", CredentialsValid="Valid", QualityDegraded="Green")
    return SimpleNamespace(at_meta=number, token=token, renew=renew, body=body)


@pytest.fixture
def becomes(look, accounts, slug):
    async def becomes(**reasons):
        """What the object shows once svc-tenants has asked Meta."""
        await look()
        return await accounts.until(slug, **reasons)

    return becomes


async def reasons_of(accounts, slug, *awaited):
    return [reason for reason, _ in await accounts.until_told(slug, *awaited)]


async def test_a_connected_number_shows_what_meta_says_of_it(number) -> None:
    status = number.body["status"]
    assert (status["state"], status["numberStatus"], status["nameStatus"]) == ("ready", "CONNECTED", "APPROVED")
    assert (status["qualityRating"], status["messagingLimit"]) == ("GREEN", "TIER_UNLIMITED")
    assert "tokenExpireTime" not in status


async def test_quality_that_drops_is_shown_and_told_once_and_leaves_it_ready(accounts, number, slug, becomes) -> None:
    number.at_meta.quality_rating, number.at_meta.messaging_limit = "RED", "TIER_2K"
    body = await becomes(QualityDegraded="Red", Ready="Connected")
    assert (body["status"]["qualityRating"], body["status"]["messagingLimit"]) == ("RED", "TIER_2K")
    assert objects.condition(body, "QualityDegraded")["status"] == "True"
    assert objects.condition(body, "Ready")["status"] == "True"
    number.at_meta.quality_rating = "GREEN"
    await becomes(QualityDegraded="Green")
    changes = ("QualityDropped", "QualityRose", "MessagingLimitChanged")
    told = await reasons_of(accounts, slug, *changes)
    assert [told.count(each) for each in changes] == [1, 1, 1]


async def test_a_token_that_ends_soon_is_told_and_a_new_one_settles_it(accounts, number, slug, becomes) -> None:
    number.token.expires_at = time.time() + 3 * DAY
    body = await becomes(CredentialsValid="ExpiresSoon", Ready="Connected")
    assert objects.condition(body, "CredentialsValid")["status"] == "True"
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(number.token.expires_at))
    assert (body["status"]["tokenExpireTime"], body["status"]["state"]) == (moment, "attention")
    assert (await reasons_of(accounts, slug, "TokenExpiresSoon")).count("TokenExpiresSoon") == 1
    await number.renew()
    body = await accounts.until(slug, CredentialsValid="Valid")
    assert "tokenExpireTime" not in body["status"]
    assert body["status"]["state"] == "ready"


async def test_a_revoked_token_is_told_and_a_new_secret_is_taken(accounts, number, slug, becomes) -> None:
    number.token.revoked_at = time.time()
    body = await becomes(Ready="CheckFailed", Stalled="CheckFailed", CredentialsValid="Refused")
    assert "The session was invalidated explicitly" in objects.condition(body, "CredentialsValid")["message"]
    assert number.token.value not in str(body)
    await number.renew()
    body = await accounts.until(slug, Ready="Connected", CredentialsValid="Valid", Stalled="Settled")
    assert body["status"]["tokenVersion"] == 2


async def test_a_restricted_number_is_not_ready_until_meta_lets_it_go(number, becomes) -> None:
    number.at_meta.status = "RESTRICTED"
    body = await becomes(Ready="CheckFailed", CredentialsValid="Valid")
    assert body["status"]["numberStatus"] == "RESTRICTED"
    assert "RESTRICTED" in objects.condition(body, "Ready")["message"]
    number.at_meta.status = ""
    await becomes(Ready="Connected")


async def test_looks_that_find_nothing_new_write_nothing(operator, accounts, number, slug, look) -> None:
    surveyed, before = 'aerostic_operator_surveyed_seconds{kind="WhatsAppAccount"', await accounts.get(slug)
    for _ in range(3):
        await look()
        moment = await operator.metric(surveyed)

        async def is_surveyed(moment=moment):
            return await operator.metric(surveyed) > moment

        await accounts.wait(is_surveyed)
    assert (await accounts.get(slug))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_all_numbers_are_read_by_pages(platform, number) -> None:
    request, found = ListNumberRecordsRequest(page_size=1), []
    while True:
        page = await platform.rpc.service("operator").call(platform.provisioning.ListNumberRecords, request)
        found += page.records
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    ids = [record.account.phone_number_id for record in found]
    assert number.at_meta.id in ids
    assert len(set(ids)) == len(ids)


def shown(number, **status):
    """An object that shows the number as it is."""
    told = [
        {"type": each.type, "status": each.status, "reason": each.reason, "message": each.message}
        for each in health.conditions(number)
    ]
    verdict = health.connected(number)
    told.append({"type": "Ready", "status": "True", "reason": verdict.reason, "message": verdict.message})
    known = {"accountId": number.account_id, "tokenVersion": number.token_version, "secretVersion": "1"}
    fields = {name: value for name, value in health.fields(number).items() if value is not None}
    return {"metadata": {}, "spec": {}, "status": {**known, **fields, "conditions": told, **status}}


NUMBER = Number("a", "1", 1, display_phone_number="+1", quality_rating="GREEN", state="ready", messages_per_second=80)


@pytest.mark.parametrize(
    "changed",
    [
        {"quality_rating": "RED"},
        {"messaging_limit": "TIER_2K"},
        {"number_status": "FLAGGED"},
        {"token_expire_time": "2030-01-01T00:00:00Z"},
        {"failed_checks": ("number: RESTRICTED",)},
        {"token_failures": ("gone",)},
        {"token_warnings": ("soon",)},
        {"token_version": 2},
        {"account_id": "b"},
    ],
)
def test_each_difference_is_seen(changed) -> None:
    assert not health.is_stale(shown(NUMBER), NUMBER)
    assert health.is_stale(shown(NUMBER), replace(NUMBER, **changed))


def test_a_number_that_is_gone_is_seen_and_one_that_was_never_connected_is_not() -> None:
    assert health.is_stale(shown(NUMBER), None)
    assert not health.is_stale(shown(NUMBER, accountId=""), NUMBER)


@pytest.mark.parametrize(("rating", "status"), [("GREEN", "False"), ("YELLOW", "True"), ("NA", "Unknown")])
def test_quality_as_a_condition(rating, status) -> None:
    quality = {each.type: each for each in health.conditions(replace(NUMBER, quality_rating=rating))}
    assert quality["QualityDegraded"].status == status
    assert {each.status for each in health.conditions(None)} == {"Unknown"}
