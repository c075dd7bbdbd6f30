"""What is written together."""

from dataclasses import dataclass, field

from svc_messaging.inbox import parse
from svc_messaging.inbox.items import Told, Unusable, Written
from svc_messaging.inbox.numbers import Owner


@dataclass(slots=True)
class Batch:
    """Items with the place in the stream that each came from, and whose numbers they are about."""

    owners: dict[str, Owner]
    written: list[tuple[Written, int]] = field(default_factory=list)
    told: list[tuple[Told, int]] = field(default_factory=list)
    unusable: list[tuple[Unusable, int]] = field(default_factory=list)

    def add(self, item: Written | Told | Unusable, sequence: int) -> None:
        """Items of numbers that nobody has connected are set aside."""
        if isinstance(item, Unusable):
            self.unusable.append((item, sequence))
        elif item.number not in self.owners:
            self.unusable.append((parse.of_unknown_number(item), sequence))
        elif isinstance(item, Written):
            self.written.append((item, sequence))
        else:
            self.told.append((item, sequence))
