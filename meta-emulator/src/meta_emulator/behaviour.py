"""How the stand-in behaves: timing, limits, chaos. Defaults from the settings, overridden for all or per number."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from meta_emulator.model import Json, Number

Seconds = Annotated[float, Meta(ge=0, le=30 * 86400)]
Span = tuple[Seconds, Seconds]
Probability = Annotated[float, Meta(ge=0, le=1)]


class Behaviour(Struct, kw_only=True, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Every knob. A span [a, b] is drawn from evenly, in seconds. Units stand in the names."""

    sent_delay_seconds: Span
    delivered_delay_seconds: Span
    read_delay_seconds: Span
    failed_delay_seconds: Span
    response_delay_seconds: Span
    read_probability: Probability
    skip_delivered_probability: Probability
    duplicate_probability: Probability
    reorder_probability: Probability
    reorder_delay_seconds: Span
    extra_keys: bool
    webhook_batch_size: Annotated[int, Meta(ge=1, le=1000)]
    webhook_version: Literal["v23.0", "v24.0"]
    closed_window: Literal["async", "sync"]
    throughput_per_second: Annotated[int, Meta(ge=1, le=1000)]
    inbound_counts_in_throughput: bool
    pair_limit: bool
    pair_burst: Annotated[int, Meta(ge=1, le=10_000)]
    pair_refill_seconds: Annotated[float, Meta(gt=0, le=3600)]
    rate_limit_http_status: Literal[400, 429]
    bill_service_messages: bool
    fetch_links: bool

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the first value of a span must not exceed the second")


def override(current: Behaviour, changes: Json) -> Behaviour:
    """`current` with the given JSON (camelCase) laid over it; msgspec.ValidationError names what is wrong."""
    merged: dict[str, Any] = {**msgspec.to_builtins(current), **changes}
    return msgspec.convert(merged, Behaviour)


class Behaviours:
    """Effective behaviour per number, computed once per change."""

    def __init__(self, defaults: Behaviour) -> None:
        self._defaults = defaults
        self._everywhere = defaults
        self._numbers: dict[str, Behaviour] = {}

    @property
    def everywhere(self) -> Behaviour:
        return self._everywhere

    def set_everywhere(self, changes: Json) -> None:
        self._everywhere = override(self._defaults, changes)
        self._numbers.clear()

    def forget(self, number_id: str) -> None:
        self._numbers.pop(number_id, None)

    def of(self, number: Number) -> Behaviour:
        if not number.behaviour:
            return self._everywhere
        found = self._numbers.get(number.id)
        if found is None:
            found = self._numbers[number.id] = override(self._everywhere, number.behaviour)
        return found
