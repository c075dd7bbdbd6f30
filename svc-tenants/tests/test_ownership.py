"""A number belongs to one tenant at a time, whoever asks and in whatever order."""

import asyncio
import uuid

import pytest
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as pb
from grpc import StatusCode

from kit.errors import RemoteError


async def test_two_tenants_connect_the_same_number_at_once_and_one_wins(installation, meta):
    number = meta.number()
    tenants = [await installation.tenant(), await installation.tenant()]
    both_are_past_the_checks = asyncio.Barrier(2)

    async def meet(request):
        if meta.calls.count("POST subscribed_apps") <= 2:
            await both_are_past_the_checks.wait()

    meta.answer("POST subscribed_apps", meet)
    calls = (installation.connect(tenant_id, number) for tenant_id in tenants)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    [winner] = [tenants[n] for n, outcome in enumerate(outcomes) if not isinstance(outcome, RemoteError)]
    [error] = [outcome for outcome in outcomes if isinstance(outcome, RemoteError)]
    assert (error.code, error.reason) == (StatusCode.ALREADY_EXISTS, "NUMBER_TAKEN")
    [loser] = [tenant_id for tenant_id in tenants if tenant_id != winner]
    await installation.assert_nothing_connected(loser)
    assert (await installation.resolve(number.number.id))[number.number.id].tenant_id == str(winner)
    assert (await installation.credentials(number.number.id)).tenant_id == str(winner)


async def test_one_tenant_connects_the_same_number_twice_at_once(installation, meta, tenant_id):
    number = meta.number()
    made = await asyncio.gather(*(installation.connect(tenant_id, number) for _ in range(4)))
    assert len({account.id for account in made}) == 1
    assert (await installation.credentials(number.number.id)).token_version == 4
    kinds = await installation.events(tenant_id)
    assert sorted(kinds[1:]) == ["tenants.whatsappaccount.connected", *["tenants.whatsappaccount.updated"] * 3]
    assert kinds[1] == "tenants.whatsappaccount.connected"


async def test_a_taken_number_is_refused_before_anything_changes_at_meta(installation, meta, tenant_id):
    number = meta.number()
    owner = await installation.tenant()
    await installation.connect(owner, number)
    meta.calls.clear()
    error = await installation.refusal(installation.connect(tenant_id, number, access_token=number.new_token()))
    assert (error.code, error.reason) == (StatusCode.ALREADY_EXISTS, "NUMBER_TAKEN")
    assert str(owner) not in f"{error.message} {error.metadata}"
    assert "POST subscribed_apps" not in meta.calls
    await installation.assert_nothing_connected(tenant_id)
    assert (await installation.credentials(number.number.id)).token_version == 1


async def test_whoever_cannot_use_a_number_does_not_learn_that_it_is_taken(installation, meta, tenant_id):
    number = meta.number()
    await installation.connect(await installation.tenant(), number)
    stranger = meta.number()
    changes = {"access_token": stranger.token.value}
    error = await installation.refusal(installation.connect(tenant_id, number, **changes))
    assert error.reason == "META_REFUSED"


async def test_a_number_moves_and_comes_back_as_itself(installation, meta):
    number = meta.number()
    first, second = await installation.tenant(), await installation.tenant()
    account = await installation.connect(first, number)
    await installation.disconnect(first, account.id)
    moved = await installation.connect(second, number)
    assert moved.id != account.id
    assert (await installation.refusal(installation.connect(first, number))).reason == "NUMBER_TAKEN"
    await installation.disconnect(second, moved.id)
    back = await installation.connect(first, number)
    assert (back.id, back.create_time) == (account.id, account.create_time)
    assert (await installation.credentials(number.number.id)).token_version == 2
    assert await installation.listed(first) == [back]
    assert await installation.listed(second) == []
    assert (await installation.events(first))[1:] == [
        f"tenants.whatsappaccount.{verb}" for verb in ("connected", "disconnected", "connected")
    ]


class TestResolving:
    async def test_it_names_the_owners_of_those_that_are_connected(self, installation, meta):
        numbers, tenants = [meta.number(), meta.number()], [await installation.tenant(), await installation.tenant()]
        accounts = [await installation.connect(*pair) for pair in zip(tenants, numbers, strict=True)]
        await installation.suspend(tenants[1])
        found = await installation.resolve(*(number.number.id for number in numbers), "1234567890", "a\0b")
        assert found == {
            number.number.id: pb.ResolvedNumber(
                phone_number_id=number.number.id,
                tenant_id=str(tenant_id),
                whatsapp_account_id=account.id,
                waba_id=account.waba_id,
                display_phone_number=account.display_phone_number,
                tenant_state=state,
            )
            for number, tenant_id, account, state in zip(
                numbers, tenants, accounts, ["active", "suspended"], strict=True
            )
        }

    async def test_a_disconnected_number_is_nobodys(self, installation, meta, tenant_id):
        number = meta.number()
        account = await installation.connect(tenant_id, number)
        await installation.disconnect(tenant_id, account.id)
        assert await installation.resolve(number.number.id) == {}

    async def test_more_numbers_than_fit_are_refused(self, installation):
        error = await installation.refusal(installation.resolve(*(str(number) for number in range(501))))
        assert (error.reason, error.violations[0].field) == ("INVALID_REQUEST", "phoneNumberIds")


class TestNumbersOfATenant:
    async def test_they_are_its_own_as_resolving_shows_them(self, installation, meta, tenant_id):
        own, others = [meta.number(), meta.number()], meta.number()
        accounts = [await installation.connect(tenant_id, number) for number in own]
        await installation.connect(await installation.tenant(), others)
        answer = await installation.numbers(tenant_id)
        resolved = await installation.resolve(*(number.number.id for number in own))
        assert list(answer.numbers) == [resolved[account.phone_number_id] for account in accounts]
        assert answer.tenant_state == "active"

    async def test_a_suspended_tenant_shows_its_numbers_and_that_it_is_suspended(self, installation, meta, tenant_id):
        account = await installation.connect(tenant_id, meta.number())
        await installation.suspend(tenant_id)
        answer = await installation.numbers(tenant_id)
        assert answer.tenant_state == "suspended"
        assert [(each.whatsapp_account_id, each.tenant_state) for each in answer.numbers] == [(account.id, "suspended")]

    async def test_a_disconnected_number_is_gone(self, installation, meta, tenant_id):
        account = await installation.connect(tenant_id, meta.number())
        await installation.disconnect(tenant_id, account.id)
        assert list((await installation.numbers(tenant_id)).numbers) == []

    async def test_a_tenant_that_nobody_made_is_not_found(self, installation):
        error = await installation.refusal(installation.numbers(uuid.uuid4()))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")


class TestCredentials:
    async def test_they_are_those_of_the_number(self, installation, meta, tenant_id):
        number = meta.number(throughput=1000)
        await installation.connect(tenant_id, number)
        assert await installation.credentials(number.number.id) == pb.SendingCredentials(
            phone_number_id=number.number.id,
            tenant_id=str(tenant_id),
            access_token=number.token.value,
            messages_per_second=1000,
            tenant_state="active",
            token_version=1,
        )

    async def test_they_tell_that_the_tenant_is_suspended(self, installation, meta, tenant_id):
        number = meta.number()
        await installation.connect(tenant_id, number)
        await installation.suspend(tenant_id)
        assert (await installation.credentials(number.number.id)).tenant_state == "suspended"

    @pytest.mark.parametrize("phone_number_id", ["1234567890", "no number", "a\0b"])
    async def test_a_number_that_nobody_has_is_not_connected(self, installation, phone_number_id):
        error = await installation.refusal(installation.credentials(phone_number_id))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "NUMBER_NOT_CONNECTED")

    async def test_a_disconnected_number_is_not_connected(self, installation, meta, tenant_id):
        number = meta.number()
        account = await installation.connect(tenant_id, number)
        await installation.disconnect(tenant_id, account.id)
        error = await installation.refusal(installation.credentials(number.number.id))
        assert error.reason == "NUMBER_NOT_CONNECTED"
