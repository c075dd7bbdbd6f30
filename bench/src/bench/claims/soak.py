"""Soak: whether memory and open files of our processes grow over an hour of a third of Meta's worst rate."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import figures, meter, product
from bench.inbound import WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.results import Row, at_most, stated
from devstack.stack import Stack

RATE = WORST_CASE_RATE / 3
_SEGMENT_SECONDS = 60.0
# Caches and pools fill in the beginning. What matters is whether memory goes on growing after that.
_WARM_SHARE = 0.25
_MIB_PER_HOUR_MAX = 8.0
"""Of all our processes together: what the allocators of a dozen of them move about by themselves."""
_FILES_PER_HOUR_MAX = 5
"""Pools of connections open one more now and then, up to their bounds."""
# PostgreSQL fills the buffers that it was given once, and NATS its caches; what may not grow is ours.
_ENGINES = frozenset({"postgres", "nats"})


@dataclass(frozen=True, slots=True)
class Look:
    """What the processes had at a moment."""

    hours: float
    mib: dict[str, float]
    """Allocated."""
    files: dict[str, int]


async def measure(options: Options) -> list[Row]:
    segments, seconds = (6, 10.0) if options.quick else (options.minutes, _SEGMENT_SECONDS)
    async with product.started() as stack, product.shop(stack) as shop, product.database(stack) as db:
        webhooks = Webhooks(stack, db, [shop])
        await webhooks.add_customers()
        looks = await _soak(stack, webhooks, segments, seconds)
        resident = meter.memory_mib(stack)
    return rows(looks, seconds * segments / 60, resident=resident)


async def _soak(stack: Stack, webhooks: Webhooks, segments: int, seconds: float) -> list[Look]:
    """A look after each segment. In segments, so that no more messages wait for their statuses than one needs."""
    began = time.monotonic()
    looks: list[Look] = []
    for _ in range(segments):
        await webhooks.at_rate(RATE, seconds)
        hours = (time.monotonic() - began) / 3600
        looks.append(Look(hours, meter.own_memory_mib(stack), meter.open_files(stack)))
    return looks


def rows(looks: Sequence[Look], minutes: float, *, resident: Mapping[str, float]) -> list[Row]:
    """Growth is the slope of the line through what was seen after the warm-up."""
    warm = looks[int(len(looks) * _WARM_SHARE) :]
    mib = _slopes(warm, lambda look: look.mib)
    files = _slopes(warm, lambda look: look.files)
    return [
        at_most(
            "soak",
            f"growth of what our processes allocate, {minutes:.0f} minutes of {RATE:.0f}/s less a quarter to warm up",
            "MiB/h",
            value=sum(mib.values()),
            most=_MIB_PER_HOUR_MAX,
            byProcess=mib,
            looks={name: [look.mib[name] for look in looks] for name in _ours(looks[-1].mib)},
        ),
        at_most(
            "soak",
            "growth of their open files",
            "/h",
            value=sum(files.values()),
            most=_FILES_PER_HOUR_MAX,
            byProcess=files,
        ),
        stated(
            "soak",
            "resident memory of the whole stack at the end",
            "MiB",
            value=sum(resident.values()),
            byProcess=dict(resident),
        ),
    ]


def _slopes(looks: Sequence[Look], of: Callable[[Look], Mapping[str, float]]) -> dict[str, float]:
    """Per hour, by process of ours."""
    hours = [look.hours for look in looks]
    return {name: figures.slope(hours, [of(look)[name] for look in looks]) for name in _ours(of(looks[-1]))}


def _ours(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in _ENGINES}
