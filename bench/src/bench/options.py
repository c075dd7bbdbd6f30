"""How thoroughly to measure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Quick runs are for a look at a change; figures for others come from full ones."""

    quick: bool = False
    minutes: int = 60
    """How long a soak lasts."""

    @property
    def rounds(self) -> int:
        """Pairs of subject and reference."""
        return 2 if self.quick else 4

    def seconds(self, full: float, *, least: float = 2.0) -> float:
        """How long to measure something that takes so long in a full run, and so long at least."""
        return max(least, full / 10) if self.quick else full
