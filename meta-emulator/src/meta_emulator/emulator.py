"""The running emulator: its state, clock and queues in one place, handed to every verb as first argument."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from meta_emulator.behaviour import Behaviour, Behaviours
from meta_emulator.clock import Clock, SystemClock
from meta_emulator.feed import Feed
from meta_emulator.limits import Limits
from meta_emulator.media_bytes import MediaBytes
from meta_emulator.metrics import Metrics
from meta_emulator.model import Chat, Customer, Delivery, Message, Number, Update, Waba, World
from meta_emulator.schedule import Schedule
from meta_emulator.settings import Settings


@dataclass
class WebhookQueue:
    """Updates to be packed, POSTs ready to go (again), and the tasks that send them."""

    updates: deque[Update] = field(default_factory=deque)
    ready: deque[Delivery] = field(default_factory=deque)
    senders: set[asyncio.Task[None]] = field(default_factory=set)


@dataclass
class Index:
    """Look-ups derived from the world, rebuilt when it is loaded."""

    customers: dict[str, str] = field(default_factory=dict)
    user_ids: dict[tuple[str, str], str] = field(default_factory=dict)
    sent: dict[str, deque[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World) -> "Index":
        index = cls()
        for customer in world.customers.values():
            index.customers[customer.digits] = customer.id
            index.user_ids.update(dict.fromkeys(customer.user_ids.items(), customer.id))
        for message in world.messages.values():
            if message.outbound:
                index.sent.setdefault(message.number_id, deque()).append(message.wamid)
        return index


class Emulator:
    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.random = Random(settings.seed)
        self.world = World()
        self.index = Index()
        self.behaviours = Behaviours(settings.behaviour())
        self.limits = Limits()
        self.schedule = Schedule(self.clock)
        self.queue = WebhookQueue()
        self.feed = Feed()
        self.metrics = Metrics()
        self.media_bytes = MediaBytes(settings.state_file)
        self.link_cache: dict[str, tuple[str, float]] = {}
        self.is_dirty = False
        self.stopping = asyncio.Event()
        self.crash: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        """Client for webhooks and for media links; opened on first use, inside the running loop."""
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            self._http = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        return self._http

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background. An exception there is a bug: it stops the emulator instead of passing unseen."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            self.crash = self.crash or crash
            self.stopping.set()

    async def cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close_http(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    def now(self) -> float:
        return self.clock.now()

    def adopt(self, world: World) -> None:
        """Make `world` the state: at start from the file, or empty on reset."""
        self.world = world
        self.index = Index.of(world)
        self.behaviours.set_everywhere(world.behaviour)
        self.limits.clear()

    def behaviour(self, number: Number) -> Behaviour:
        return self.behaviours.of(number)

    def waba_of(self, number: Number) -> Waba:
        return self.world.wabas[number.waba_id]

    def number_of(self, message: Message) -> Number:
        return self.world.numbers[message.number_id]

    def customer_of(self, message: Message) -> Customer:
        return self.world.customers[message.customer_id]

    def chat(self, number: Number, customer: Customer) -> Chat:
        key = f"{number.id}:{customer.id}"
        found = self.world.chats.get(key)
        if found is None:
            found = self.world.chats[key] = Chat(number_id=number.id, customer_id=customer.id)
        return found

    @property
    def callback_url(self) -> str:
        return self.world.callback_url or self.settings.callback_url

    @property
    def verify_token(self) -> str:
        return self.world.verify_token or self.settings.verify_token.get_secret_value()

    def draw(self, span: tuple[float, float]) -> float:
        return self.random.uniform(*span)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability
