"""A workspace to try the product with, made through its own REST API. Idempotent: a second start finds it there."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from devstack.processes import PROCESSES
from devstack.stack import Stack
from devstack.units import StartFailed
from devstack.workspace import Json, Refused, Workspace

NEEDS = frozenset(process.name for process in PROCESSES)
"""The seed goes through every process; a part of the product is not seeded."""

_SHOP = "Demo Shop"
_CUSTOMER = {"waId": "16505551234", "name": "Ada Customer"}
_FIRST_MESSAGE = "Is it in stock?"
_SECONDS = 30


@dataclass(frozen=True)
class Seeded:
    """What the person at the terminal needs to know."""

    email: str
    password: str = field(repr=False)
    admin_email: str
    admin_password: str = field(repr=False)
    display_phone_number: str


async def seed(stack: Stack) -> Seeded:
    """Workspace, number, a first message from a customer, and a super admin. Raises StartFailed."""
    settings = stack.settings
    try:
        async with _in_the_demo_shop(stack) as shop:
            number = await _number(shop)
            await _connect(shop, number)
            await _first_message(shop, number)
            await make_super_admin(stack, shop)
    except Refused as refused:
        raise StartFailed(f"The demo workspace could not be made: {refused}") from refused
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StartFailed(f"The demo workspace could not be made: {error!r}") from error
    return Seeded(
        settings["AEROSTIC_DEMO_EMAIL"],
        settings["AEROSTIC_DEMO_PASSWORD"],
        settings["AEROSTIC_SUPER_ADMIN_EMAIL"],
        settings["AEROSTIC_SUPER_ADMIN_PASSWORD"],
        str(number["displayPhoneNumber"]),
    )


@asynccontextmanager
async def _in_the_demo_shop(stack: Stack) -> AsyncIterator[Workspace]:
    email, password = stack.settings["AEROSTIC_DEMO_EMAIL"], stack.settings["AEROSTIC_DEMO_PASSWORD"]
    credentials = {"email": email, "password": password}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as http:
        shop = Workspace(http, stack.url("gateway"), stack.url("meta-emulator"))
        try:
            session = await shop.post("/v1/auth/login", credentials)
        except Refused as refused:
            if refused.code != "CREDENTIALS_WRONG":
                raise
            person = {"workspaceName": _SHOP, "name": "Demo Admin"}
            session = await shop.post("/v1/auth/register", {**person, **credentials})
        shop.token = session["accessToken"]
        yield shop


async def _number(shop: Workspace) -> Json:
    known = (await shop.control("GET", "/_emulator/numbers"))["numbers"]
    for number in known:
        if number["verifiedName"] == _SHOP and number["accessToken"]:
            return dict(number)
    return await shop.control("POST", "/_emulator/numbers", {"verifiedName": _SHOP})


async def _connect(shop: Workspace, number: Json) -> None:
    accounts = (await shop.get("/v1/whatsapp-accounts")).get("whatsappAccounts", [])
    if not any(account["phoneNumberId"] == number["phoneNumberId"] for account in accounts):
        await shop.post(
            "/v1/whatsapp-accounts", {key: number[key] for key in ("wabaId", "phoneNumberId", "accessToken")}
        )


async def _first_message(shop: Workspace, number: Json) -> None:
    if (await shop.get("/v1/conversations")).get("conversations"):
        return
    message = {"type": "text", "text": {"body": _FIRST_MESSAGE}}
    body = {"phoneNumberId": number["phoneNumberId"], "from": _CUSTOMER, "message": message}
    await shop.control("POST", "/_emulator/inbound", body)


async def make_super_admin(stack: Stack, shop: Workspace) -> None:
    """The one that the settings name. Raises StartFailed."""
    settings = stack.settings
    email, password = settings["AEROSTIC_SUPER_ADMIN_EMAIL"], settings["AEROSTIC_SUPER_ADMIN_PASSWORD"]
    try:
        await Workspace(shop.http, shop.api, shop.emulator).post(
            "/v1/auth/login", {"email": email, "password": password}
        )
    except Refused as refused:
        if refused.code != "CREDENTIALS_WRONG":
            raise
    else:
        return
    auth = next(process for process in PROCESSES if process.name == "svc-auth")
    made = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "svc_auth", "create-super-admin", "--email", email, "--password-stdin"],
        input=password,
        env=stack.environment(auth),
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if made.returncode != 0:
        raise StartFailed(f"The super admin could not be made: {made.stdout.strip()} {made.stderr.strip()}")


def guide(stack: Stack, seeded: Seeded) -> str:
    """Where everything is, how to get in, and what to try first."""
    api, phone = stack.url("gateway"), stack.url("meta-emulator")
    login = json.dumps({"email": seeded.email, "password": seeded.password})
    rows = [
        ("REST API", api),
        ("API reference", f"{api}/docs"),
        ("Customer's phone", f"{phone}  (plays WhatsApp; the shop is {seeded.display_phone_number})"),
        ("Demo workspace", f"{seeded.email}   password {seeded.password}"),
        ("Super admin", f"{seeded.admin_email}   password {seeded.admin_password}"),
        ("Logs", f"make logs  ({stack.folder / 'logs'})"),
    ]
    table = "\n".join(f"  {name:<18} {value}" for name, value in rows)
    return f"""
{table}

  Try: a customer has asked "{_FIRST_MESSAGE}". In another shell, with the same answer to come on the phone page:
    TOKEN=$(curl -s {api}/v1/auth/login -H 'Content-Type: application/json' \\
      -d '{login}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["accessToken"])')
    curl -s {api}/v1/conversations -H "Authorization: Bearer $TOKEN"
    curl -sN {api}/v1/stream -H "Authorization: Bearer $TOKEN"     # live; write on the phone page meanwhile
    python3 examples/quickstart.py                                 # the whole way, step by step
"""


@asynccontextmanager
async def super_admin(stack: Stack) -> AsyncIterator[Workspace]:
    """Who runs the installation; a Workspace without a tenant."""
    settings = stack.settings
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as http:
        admin = Workspace(http, stack.url("gateway"), stack.url("meta-emulator"))
        await make_super_admin(stack, admin)
        admin.email, admin.password = (settings[f"AEROSTIC_SUPER_ADMIN_{name}"] for name in ("EMAIL", "PASSWORD"))
        session = await admin.post("/v1/auth/login", {"email": admin.email, "password": admin.password})
        admin.token, admin.refresh_token = session["accessToken"], session["refreshToken"]
        yield admin
