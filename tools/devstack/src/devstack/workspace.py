"""A workspace and its customers, driven from outside: REST on one side, the emulator's phone on the other.

async with Workspace.create(api_url, emulator_url) as shop:
await shop.customer("16505550100").write("Is it in stock?")
conversation = await shop.until(shop.conversation_of("16505550100"))
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import aiohttp

Json = dict[str, Any]
T = TypeVar("T")

WAIT_SECONDS = 60.0
"""For what must happen. Generous, since it only matters when something is broken."""


class Refused(Exception):
    """The product answered a problem."""

    def __init__(self, status: int, problem: Json, headers: dict[str, str]) -> None:
        super().__init__(f"{status} {json.dumps(problem)}")
        self.status = status
        self.problem = problem
        self.code: str = problem.get("code", "")
        self.headers = headers


async def refusal(call: Awaitable[object]) -> Refused | None:
    """The problem that a call meets; None where it is accepted."""
    try:
        await call
    except Refused as refused:
        return refused
    return None


@dataclass(slots=True)
class Workspace:
    """One tenant with one admin and, after `connect`, a number."""

    http: aiohttp.ClientSession
    api: str
    emulator: str
    token: str = ""
    refresh_token: str = ""
    tenant_id: str = ""
    email: str = ""
    password: str = ""
    number: Json = field(default_factory=dict)
    account: Json = field(default_factory=dict)
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    @asynccontextmanager
    async def create(cls, api: str, emulator: str, *, throughput: int | None = None) -> AsyncIterator[Self]:
        """Register a workspace and connect a number of the emulator."""
        async with cls.registered(api, emulator) as workspace:
            await workspace.connect(throughput=throughput)
            yield workspace

    @classmethod
    @asynccontextmanager
    async def registered(cls, api: str, emulator: str) -> AsyncIterator[Self]:
        """Register a workspace without a number."""
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            workspace = cls(http, api, emulator)
            workspace.email = f"admin-{secrets.token_hex(8)}@example.com"
            workspace.password = secrets.token_urlsafe(12)
            body = {"workspaceName": f"Shop {secrets.token_hex(3)}", "name": "Admin", "email": workspace.email}
            session = await workspace.post("/v1/auth/register", {**body, "password": workspace.password})
            workspace.token, workspace.refresh_token = session["accessToken"], session["refreshToken"]
            workspace.tenant_id = session["workspace"]["id"]
            yield workspace

    async def connect(self, *, throughput: int | None = None) -> Json:
        """Get a number from the emulator and connect it."""
        wanted = {"throughput": throughput} if throughput else {}
        self.number = await self.control("POST", "/_emulator/numbers", wanted)
        credentials = {key: self.number[key] for key in ("wabaId", "phoneNumberId", "accessToken")}
        self.account = await self.post("/v1/whatsapp-accounts", credentials)
        return self.account

    @property
    def phone_number_id(self) -> str:
        return str(self.number["phoneNumberId"])

    async def refresh(self, stale: str) -> None:
        """Get a new access token in place of one that was refused; once, however many calls met the refusal."""
        async with self._refreshing:
            if self.token == stale:
                body = {"refreshToken": self.refresh_token}
                session = await self._request("POST", f"{self.api}/v1/auth/refresh", body, {})
                self.token, self.refresh_token = session["accessToken"], session["refreshToken"]

    # The customers' side

    async def customer_writes(self, wa_id: str, text: str, *, name: str = "Customer") -> str:
        """Gives the wamid."""
        return await self.customer_sends(wa_id, {"type": "text", "text": {"body": text}}, name=name)

    async def customer_sends(self, wa_id: str, message: Json, *, name: str = "Customer") -> str:
        """`message` as in Meta's messages[]. Gives the wamid."""
        sender = {"waId": wa_id, "name": name}
        body = {"phoneNumberId": self.phone_number_id, "from": sender, "message": message}
        return str((await self.control("POST", "/_emulator/inbound", body))["wamid"])

    async def phone_shows(self) -> list[Json]:
        """What the business has sent, in order."""
        answer = await self.control("GET", f"/_emulator/messages?phoneNumberId={self.phone_number_id}")
        return list(answer["messages"])

    # The team's side

    async def conversations(self) -> list[Json]:
        return list((await self.get("/v1/conversations?pageSize=200"))["conversations"])

    async def messages(self, conversation_id: str) -> list[Json]:
        """All messages, oldest first."""
        found: list[Json] = []
        page = ""
        while True:
            query = f"pageSize=200&pageToken={page}" if page else "pageSize=200"
            answer = await self.get(f"/v1/conversations/{conversation_id}/messages?{query}")
            found += answer["messages"]
            page = answer.get("nextPageToken", "")
            if not page:
                return found[::-1]

    async def conversation_with(self, wa_id: str) -> Json:
        """The open conversation with this customer; waits until it is there."""

        async def find() -> Json | None:
            matches = [c for c in await self.conversations() if c["contact"]["waId"] == wa_id and c["state"] == "open"]
            return matches[0] if matches else None

        return await until(find, f"a conversation with {wa_id}")

    async def answer(self, conversation_id: str, text: str, **more: Any) -> Json:
        return await self.post(f"/v1/conversations/{conversation_id}/messages", {"text": {"body": text}, **more})

    async def message_reaches(self, message_id: str, *statuses: str) -> Json:
        """Wait until the message has one of these statuses."""

        async def find() -> Json | None:
            message = await self.get(f"/v1/messages/{message_id}")
            return message if message["status"] in statuses else None

        return await until(find, f"{message_id} becoming {' or '.join(statuses)}")

    @asynccontextmanager
    async def stream(self, *, last_event_id: str = "") -> AsyncIterator["LiveStream"]:
        """The live stream, connected when this yields."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            **({"Last-Event-ID": last_event_id} if last_event_id else {}),
        }
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.http.get(f"{self.api}/v1/stream", headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise Refused(response.status, await response.json(content_type=None), dict(response.headers))
            live = LiveStream(response)
            reading = asyncio.create_task(live.read())
            try:
                yield live
            finally:
                reading.cancel()

    # HTTP

    async def get(self, path: str) -> Json:
        return await self.call("GET", path)

    async def post(self, path: str, body: Json) -> Json:
        return await self.call("POST", path, body)

    async def call(self, method: str, path: str, body: Json | None = None, **options: Any) -> Json:
        """A REST call as this workspace's admin. Raises Refused for a problem."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return await self._request(method, f"{self.api}{path}", body, {**headers, **options.pop("headers", {})})

    async def control(self, method: str, path: str, body: Json | None = None) -> Json:
        """A call to the emulator's control API."""
        return await self._request(method, f"{self.emulator}{path}", body, {})

    async def _request(self, method: str, url: str, body: Json | None, headers: dict[str, str]) -> Json:
        async with self.http.request(method, url, json=body, headers=headers) as response:
            raw = await response.read()
            answer = json.loads(raw) if raw else {}
            if response.status >= 400:
                raise Refused(response.status, answer, dict(response.headers))
            return dict(answer)


class LiveStream:
    """What one connection to /v1/stream has brought."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.events: list[tuple[str, str, Json]] = []
        """Id, kind and data of each event."""

    async def read(self) -> None:
        current: dict[str, str] = {}
        async for raw in self._response.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                current[name] = value
            elif "data" in current:
                told = json.loads(current["data"])
                self.events.append((current.get("id", ""), current.get("event", ""), told.get("data", told)))
                current = {}

    @property
    def is_over(self) -> bool:
        """Whether the server has ended it."""
        return self._response.content.at_eof()

    def of_kind(self, kind: str) -> list[Json]:
        return [data for _, each, data in self.events if each == kind]

    async def until(self, condition: Callable[[Self], bool], what: str) -> None:
        async def check() -> bool | None:
            return condition(self) or None

        await until(check, what)


async def until(find: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = WAIT_SECONDS) -> T:
    """Look until something is found; fails with its name when it does not come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if (found := await find()) is not None:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")
