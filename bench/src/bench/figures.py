"""The arithmetic of measuring: percentiles, paired rounds, medians of ratios."""

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    if not 0 < share <= 1:
        raise ValueError("share must be above 0 and at most 1")
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in five words."""

    count: int
    p50: float
    p99: float
    p999: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError for no values."""
        ordered = sorted(values)
        return cls(len(ordered), *(percentile(ordered, share) for share in (0.5, 0.99, 0.999, 1.0)))


@dataclass(frozen=True, slots=True)
class Paired:
    """Rounds of subject and reference that ran side by side."""

    subjects: tuple[float, ...]
    references: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: what disturbs one round disturbs both of its halves."""
        return statistics.median(s / r for s, r in zip(self.subjects, self.references, strict=True))

    @property
    def subject(self) -> float:
        return statistics.median(self.subjects)

    @property
    def reference(self) -> float:
        return statistics.median(self.references)


def order(rounds: int) -> str:
    """Who runs when: A B B A A B B A …, so that a machine that slows down or warms up favours neither."""
    if rounds < 1:
        raise ValueError("there must be a round")
    return "".join("AB" if number % 2 == 0 else "BA" for number in range(rounds))


Measure = Callable[[], Awaitable[float]]


async def paired(subject: Measure, reference: Measure, *, rounds: int) -> Paired:
    """Measure both in turn, A being the subject."""
    results: dict[str, list[float]] = {"A": [], "B": []}
    for turn in order(rounds):
        results[turn].append(await (subject if turn == "A" else reference)())
    return Paired(tuple(results["A"]), tuple(results["B"]))


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of the line through these points: how much a value grows from one unit of `at` to the next (least squares)."""
    return statistics.linear_regression(at, values).slope


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The largest number of moments in any half-open window (t - seconds, t]. The moments are in order."""
    most, first = 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
