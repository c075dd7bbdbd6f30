"""What others do to the product, for a while: engines that are down, a Meta that is slow, refuses or loses answers."""

import asyncio
import contextlib
import os
import signal

import pytest

from devstack.stack import Stack
from devstack.traffic import Load, Traffic

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

LOAD = Load(webhooks=20, answers=8, customers=20)
LONG = pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="runs by `make chaos`")
OUTAGE_SECONDS = float(os.environ.get("AEROSTIC_CHAOS_OUTAGE_SECONDS", "3"))


async def finish(traffic: Traffic) -> None:
    await traffic.flows(seconds=120)
    found = await traffic.finish(seconds=180)
    print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()


@pytest.mark.parametrize("engine", ["nats", "postgres"])
async def test_an_engine_that_is_down_for_a_while_costs_nothing(disturbed: Stack, engine: str) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        await traffic.flows()
        await disturbed.take_down(engine)
        await asyncio.sleep(OUTAGE_SECONDS)
        await disturbed.bring_back(engine)
        await disturbed.until_ready(engine)
        await finish(traffic)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=LONG) for name in ("messaging-inbox", "messaging-sender", "webhooks-ingest", "nats")],
)
async def test_a_process_that_hangs_for_a_while_costs_nothing(disturbed: Stack, name: str) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        await traffic.flows()
        pid = disturbed.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(OUTAGE_SECONDS)
        finally:
            # The supervisor ends a NATS that does not answer for long, and starts it again.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await finish(traffic)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after_accept", "times": 10},
        pytest.param({"kind": "send_error", "code": 130429, "times": 30}, marks=LONG),
        pytest.param({"kind": "send_error", "code": 131000, "times": 30}, marks=LONG),
        pytest.param({"kind": "drop_before_accept", "times": 10}, marks=LONG),
        pytest.param({"kind": "delay", "seconds": 1.0, "times": 60}, marks=LONG),
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('code', '')}".strip("-") if isinstance(fault, dict) else None,
)
async def test_whatever_meta_answers_each_message_goes_once_or_is_marked(disturbed: Stack, fault: dict) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        await traffic.flows()
        await traffic.shop.control(
            "POST", "/_emulator/faults", {**fault, "phoneNumberId": traffic.shop.phone_number_id}
        )
        await traffic.flows()
        await finish(traffic)


async def test_a_token_revoked_in_the_middle_stops_the_number_until_it_is_connected_anew(disturbed: Stack) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        shop = traffic.shop
        await traffic.flows()
        number = f"/_emulator/numbers/{shop.phone_number_id}/tokens"
        await shop.control("DELETE", number)
        await asyncio.sleep(1)
        token = (await shop.control("POST", number, {}))["accessToken"]
        credentials = {"wabaId": shop.number["wabaId"], "phoneNumberId": shop.phone_number_id, "accessToken": token}
        await shop.post("/v1/whatsapp-accounts", credentials)
        await finish(traffic)
