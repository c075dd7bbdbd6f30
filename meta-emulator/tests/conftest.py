"""A real emulator on a real port, a real callback that checks signatures, and time moved by hand."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meta_emulator import app, lifecycle
from meta_emulator.clock import ManualClock
from meta_emulator.emulator import Emulator
from meta_emulator.settings import Settings

SECRET = "test_app_secret"
VERIFY_TOKEN = "vibe"
DEADLINE_SECONDS = 20


@dataclass
class Post:
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def is_signed(self) -> bool:
        expected = hmac.new(SECRET.encode(), self.body, hashlib.sha256).hexdigest()
        return self.headers.get("X-Hub-Signature-256") == f"sha256={expected}"

    @property
    def values(self) -> list[dict[str, Any]]:
        return [change["value"] for entry in self.json["entry"] for change in entry["changes"]]


@dataclass
class Callback:
    """The application: keeps what it is sent, answers as told."""

    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    delay: float = 0.0
    verify_token: str = VERIFY_TOKEN
    challenge_answer: str | None = None
    url: str = ""
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=200 * 2**20)
        application.router.add_post("/hook", self._post)
        application.router.add_get("/hook", self._get)
        self.runner, port = await listen(application)
        self.url = f"http://127.0.0.1:{port}/hook"

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self.delay)
        self.posts.append(Post(body, dict(request.headers)))
        return web.Response(status=self.answers.pop(0) if self.answers else 200, text="noted")

    async def _get(self, request: web.Request) -> web.Response:
        if request.query["hub.mode"] != "subscribe" or request.query["hub.verify_token"] != self.verify_token:
            return web.Response(status=403)
        return web.Response(text=self.challenge_answer or request.query["hub.challenge"])

    def values(self) -> list[dict[str, Any]]:
        return [value for post in self.posts for value in post.values]

    def statuses(self) -> list[dict[str, Any]]:
        return [status for value in self.values() for status in value.get("statuses", [])]

    def messages(self) -> list[dict[str, Any]]:
        return [message for value in self.values() for message in value.get("messages", [])]


async def listen(application: web.Application) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


@dataclass
class Number:
    id: str
    waba_id: str
    token: str
    digits: str

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Rig:
    settings: Settings
    callback: Callback
    http: aiohttp.ClientSession
    clock: ManualClock
    em: Emulator
    base: str = ""
    runner: web.AppRunner | None = None

    @property
    def secret(self) -> str:
        return self.settings.app_secret.get_secret_value()

    @property
    def app_token(self) -> str:
        return f"{self.settings.app_id}|{self.secret}"

    async def start(self) -> None:
        await lifecycle.start(self.em)
        self.runner, port = await listen(app.build(self.em))
        self.base = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        self.em.feed.close()
        if self.runner is not None:
            await self.runner.cleanup()
        await lifecycle.stop(self.em)
        assert self.em.crash is None, self.em.crash

    async def start_anew(self) -> None:
        self.em = Emulator(self.settings, clock=self.clock)
        await self.start()

    async def restart(self) -> None:
        await self.stop()
        await self.start_anew()

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.base + path, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text[:1] in {"{", "["} else text

    async def control(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        status, answer = await self.call(method, f"/_emulator{path}", json=body)
        wanted = {expect} if expect else {200, 201}
        assert status in wanted, (status, answer)
        return answer

    async def number(self, **wish: Any) -> Number:
        made = await self.control("POST", "/numbers", {"subscribed": True, **wish})
        digits = "".join(c for c in made["displayPhoneNumber"] if c.isdigit())
        return Number(made["phoneNumberId"], made["wabaId"], made["accessToken"], digits)

    async def post_message(self, number: Number, **body: Any) -> tuple[int, Any]:
        request = {"messaging_product": "whatsapp", **body}
        return await self.call("POST", f"/v24.0/{number.id}/messages", headers=number.auth, json=request)

    async def send_text(self, number: Number, to: str = "+491701234567", text: str = "Hello", **more: Any) -> str:
        status, answer = await self.post_message(number, to=to, type="text", text={"body": text}, **more)
        assert status == 200, answer
        return answer["messages"][0]["id"]

    async def hears(self, number: Number, wa_id: str = "491701234567", **more: Any) -> dict[str, Any]:
        """A customer writes; opens the window."""
        message = more.pop("message", {"type": "text", "text": {"body": "Is it in stock?"}})
        sender = {"waId": wa_id, "name": "Ana", **more}
        body = {"phoneNumberId": number.id, "from": sender, "message": message}
        return await self.control("POST", "/inbound", body)

    async def sent(self, number: Number) -> list[dict[str, Any]]:
        return (await self.control("GET", f"/messages?phoneNumberId={number.id}"))["messages"]

    async def settle(self) -> None:
        """Everything that is due has happened, and every webhook that could go has been answered."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                due = [when for when, _ in self.em.schedule.pending() if when <= self.clock.now()]
                if not due and not self.em.queue.senders and not self.em.queue.updates and not self.em.queue.ready:
                    return
                await asyncio.sleep(0.001)

    async def pass_time(self, seconds: float = 1.0, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(seconds)
            await self.settle()

    async def until(self, is_met: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not is_met():  # noqa: ASYNC110 -- what is watched lives in the emulator and has no event
                await asyncio.sleep(0.001)


MakeRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def make_rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeRig]:
    for name in ("APP_SECRET", "VERIFY_TOKEN", "STATE_FILE", "CALLBACK_URL"):
        monkeypatch.delenv(f"AEROSTIC_EMULATOR_{name}", raising=False)
    rigs: list[Rig] = []
    callback = Callback()
    await callback.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS)) as http:

        async def make(**changes: Any) -> Rig:
            delays = [f"{step}_delay_seconds" for step in ("sent", "delivered", "read", "failed")]
            one_second = dict.fromkeys(delays, (1.0, 1.0))
            chosen = {"callback_url": callback.url, "app_secret": SECRET, "verify_token": VERIFY_TOKEN, "seed": 7}
            settings = Settings(**(one_second | chosen | changes))
            clock = ManualClock()
            rig = Rig(settings, callback, http, clock, Emulator(settings, clock=clock))
            await rig.start()
            rigs.append(rig)
            return rig

        yield make
        for rig in rigs:
            await rig.stop()
    assert callback.runner is not None
    await callback.runner.cleanup()


@pytest.fixture
async def rig(make_rig: MakeRig) -> Rig:
    return await make_rig()


@pytest.fixture
async def number(rig: Rig) -> Number:
    return await rig.number()
