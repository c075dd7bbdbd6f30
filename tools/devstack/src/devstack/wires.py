"""Wires between processes of a test stack that can be cut, or go silent as when a cable is pulled.

async with Wire.into(stack, "AEROSTIC_NATS_PORT") as wire:   # before the stack starts
    async with stack:
        wire.cut()       # every connection through it is reset; new ones are taken
        wire.silence()   # nothing passes, nobody is told
        wire.restore()   # what waited passes, as TCP does once the cable is back
        wire.lead_to(80) # new connections end elsewhere
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from devstack.ports import LOOPBACK
from devstack.stack import Stack

_CHUNK_BYTES = 64 * 1024


class Wire:
    """Passes on what comes to `port`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._connections: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def into(cls, stack: Stack, port_setting: str) -> AsyncIterator[Self]:
        """Lead everybody who would connect to this port through the wire; processes started from now on do."""
        wire = cls(int(stack.settings[port_setting]))
        server = await asyncio.start_server(wire._connected, LOOPBACK, 0)
        wire.port = int(server.sockets[0].getsockname()[1])
        direct, detour = f"{LOOPBACK}:{wire._target}", f"{LOOPBACK}:{wire.port}"
        for name, value in stack.settings.items():
            stack.settings[name] = value.replace(direct, detour)
        try:
            yield wire
        finally:
            server.close()
            wire.restore()
            wire.cut()
            for task in wire._tasks:
                task.cancel()
            await asyncio.gather(*wire._tasks, return_exceptions=True)

    def lead_to(self, port: int) -> None:
        """Whoever connects from now on reaches another port; what is connected stays."""
        self._target = port

    def cut(self) -> int:
        """Reset every connection. Gives how many ends that were."""
        for writer in list(self._connections):
            writer.transport.abort()
        return len(self._connections)

    def silence(self) -> None:
        self._passing.clear()

    def restore(self) -> None:
        self._passing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._connections |= ends
        there = asyncio.create_task(self._pass(reader, far_writer))
        back = asyncio.create_task(self._pass(far_reader, writer))
        for task in (there, back):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()
        self._connections -= ends

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._passing.wait()
                writer.write(chunk)
                await writer.drain()
