"""Ids of another workspace do not exist, in whatever place of whatever call: the calls come from the contracts."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg
import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor

from devstack.workspace import Workspace, refusal, until
from gateway.transcode.routes import WHOLE_BODY, Binding, bindings
from kit import access

PNG = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + bytes(64)
TEMPLATE = {"name": "hello_world", "language": "en_US"}
# What a request needs beside the id in question, so that nothing but that id can be what is refused.
BODIES = {
    "SendMessage": {"text": {"body": "Let me in"}},
    "SendMessage image.media_id": {"image": {}},
    "StartConversation": {"to": "+16505550710", "template": TEMPLATE},
    "CloseConversation": {},
    "RetryMedia": {},
}
# Where the id is no resource that the call is about. None: accepted, and shows nothing.
OTHERWISE = {
    ("StartConversation", "whatsapp_account_id"): (400, "NUMBER_NOT_CONNECTED"),
    ("ListConversations", "contact_id"): None,
    ("Login", "tenant_id"): (403, "NOT_A_MEMBER"),
}


@dataclass(frozen=True)
class Place:
    """A field of a call that takes an id."""

    binding: Binding
    field: str
    """With dots, as the proto names it."""

    @property
    def method(self) -> str:
        return self.binding.method.descriptor.name

    @property
    def kind(self) -> str:
        """What the id names, such as "conversation_id"."""
        name = self.field.rpartition(".")[2]
        return {"reply_to_message_id": "message_id"}.get(name, name)

    def __str__(self) -> str:
        return f"{self.binding.verb} {self.binding.template.text} {self.field}"


def places() -> list[Place]:
    """Of every call that users of a workspace may make. Super admins name workspaces by purpose."""
    return [
        Place(binding, field)
        for binding in bindings(access.all_methods())
        if not binding.method.permission.startswith("platform.")
        for field in ids_in(binding.method.descriptor.input_type)
    ]


def ids_in(descriptor: Descriptor) -> Iterator[str]:
    for field in descriptor.fields:
        if field.GetOptions().Extensions[validate_pb2.field].string.uuid:
            yield field.name
        elif field.message_type is not None and not field.message_type.full_name.startswith("google."):
            yield from (f"{field.name}.{below}" for below in ids_in(field.message_type))


@dataclass(frozen=True)
class Pair:
    """Two workspaces with one of everything each."""

    owner: Workspace
    stranger: Workspace
    owned: dict[str, str]
    strange: dict[str, str]


@pytest.fixture(scope="module")
async def pair(product):
    urls = product.url("gateway"), product.url("meta-emulator")
    async with Workspace.create(*urls) as owner, Workspace.create(*urls) as stranger:
        pair = Pair(owner, stranger, await one_of_everything(owner), await one_of_everything(stranger))
        await not_checked_meanwhile(product, pair)
        await until(at_rest(product, pair), "nothing of what was made being under way")
        yield pair


async def not_checked_meanwhile(product, pair: Pair) -> None:
    """A number that was just connected is looked at again at any moment of the next ten minutes, which is noted."""
    database = await asyncpg.connect(product.database("tenants").superuser_url)
    await database.execute(
        "UPDATE whatsapp_accounts SET check_after = now() + interval '1 day' WHERE tenant_id = ANY($1)",
        [uuid.UUID(pair.owner.tenant_id), uuid.UUID(pair.stranger.tenant_id)],
    )
    await database.close()


def at_rest(product, pair: Pair):
    """Whether all is as it was at the look before: a message that is read already may still be noted as accepted."""
    seen: dict[str, str] = {}

    async def look() -> bool | None:
        nonlocal seen
        before, seen = seen, await everything(product, pair)
        if before == seen:
            return True
        await asyncio.sleep(1)
        return None

    return look


async def one_of_everything(shop: Workspace) -> dict[str, str]:
    await shop.customer_writes("16505550700", "Private")
    conversation = await shop.conversation_with("16505550700")
    [message] = await shop.messages(conversation["id"])
    headers = {"Authorization": f"Bearer {shop.token}", "Content-Type": "image/png"}
    async with shop.http.post(f"{shop.api}/v1/media", data=PNG, headers=headers) as response:
        media = await response.json()
    answer = await shop.answer(conversation["id"], "For you alone")
    await shop.message_reaches(answer["id"], "read")
    return {
        "conversation_id": conversation["id"],
        "contact_id": conversation["contact"]["id"],
        "message_id": message["id"],
        "media_id": media["id"],
        "whatsapp_account_id": shop.account["id"],
        "tenant_id": shop.tenant_id,
    }


@pytest.mark.parametrize("place", places(), ids=str)
async def test_an_id_of_another_workspace_does_not_exist(product, pair: Pair, place: Place) -> None:
    assert place.kind in pair.owned, f"one_of_everything() must make what {place.field} names"
    before = await everything(product, pair)
    refused = await refusal(call(pair.stranger, place, foreign=pair.owned[place.kind], own=pair.strange))
    expected = OTHERWISE.get((place.method, place.field), (404, f"{place.kind.removesuffix('_id').upper()}_NOT_FOUND"))
    assert (refused and (refused.status, refused.code)) == expected
    # No trace of the owner's in what is told, and the same as for an id that nobody has.
    unknown = await refusal(call(pair.stranger, place, foreign=str(uuid.uuid4()), own=pair.strange))
    if refused and place.method != "Login":
        assert unknown is not None
        told, elsewhere = ({**each.problem, "requestId": "", "detail": ""} for each in (refused, unknown))
        assert told == elsewhere
    assert await everything(product, pair) == before, "nothing may change, on either side"


def test_the_calls_are_all_there() -> None:
    assert {
        "SendMessage",
        "GetMessage",
        "GetContact",
        "DownloadMedia",
        "DeleteWhatsAppAccount",
        "CloseConversation",
    } <= {place.method for place in places()}
    assert len(places()) >= 15


async def call(stranger: Workspace, place: Place, *, foreign: str, own: dict[str, str]) -> object:
    """The call with one id that is not the caller's; all others are."""
    binding = place.binding
    path = binding.template.text
    for variable in binding.template.variables:
        path = path.replace(f"{{{variable}}}", foreign if variable == place.field else own[variable])
    if binding.body == WHOLE_BODY:
        body = login(stranger) if place.method == "Login" else body_of(place, foreign)
        if place.method == "Login":
            body["tenantId"] = foreign
        return await stranger.call(binding.verb, path, body)
    if place.field not in binding.template.variables:
        path += f"?{json_name(place.field)}={foreign}"
    answer = await stranger.call(binding.verb, path)
    assert not any(answer.values()), f"{place} shows {answer}"
    return answer


def body_of(place: Place, foreign: str) -> dict:
    body = BODIES.get(f"{place.method} {place.field}", BODIES.get(place.method))
    assert body is not None, f"BODIES must have a body for {place.method}"
    filled = {name: dict(value) if isinstance(value, dict) else value for name, value in body.items()}
    if place.field not in place.binding.template.variables:
        *above, last = [json_name(name) for name in place.field.split(".")]
        owner = filled
        for name in above:
            owner = owner[name]
        owner[last] = foreign
    return filled


def login(stranger: Workspace) -> dict:
    return {"email": stranger.email, "password": stranger.password}


def json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


async def everything(product, pair: Pair) -> dict[str, str]:
    """A digest of every row of both workspaces, in every table of every service. Usage is counted from what these tell,
    a moment later.
    """
    digests: dict[str, str] = {}
    for service in ("auth", "tenants", "messaging"):
        database = await asyncpg.connect(product.database(service).superuser_url)
        try:
            tables = await database.fetch(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
                "AND column_name = 'tenant_id' AND table_name !~ '^(outbox|tenant_usage)'"
            )
            for (table,) in tables:
                digests[f"{service}.{table}"] = await database.fetchval(
                    f"SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table} t "
                    "WHERE tenant_id = ANY($1)",
                    [uuid.UUID(pair.owner.tenant_id), uuid.UUID(pair.stranger.tenant_id)],
                )
        finally:
            await database.close()
    assert len(digests) > 10
    return digests
