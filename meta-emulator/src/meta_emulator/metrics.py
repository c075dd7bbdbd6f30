"""Counters and gauges in the Prometheus text format."""

from collections import Counter
from collections.abc import Callable

_HELP = {
    "meta_emulator_requests_total": "Graph API requests by edge and HTTP status.",
    "meta_emulator_sends_total": "Send requests by result: accepted, or the error code.",
    "meta_emulator_statuses_total": "Status updates by status.",
    "meta_emulator_inbound_total": "Messages from customers by type.",
    "meta_emulator_webhook_posts_total": "POSTs to the callback by answer.",
    "meta_emulator_webhook_updates_total": "Updates packed into POSTs that were answered 200.",
    "meta_emulator_webhook_retries_total": "POSTs that were put off for another try.",
    "meta_emulator_webhooks_dropped_total": "POSTs given up after the retry horizon.",
}


class Metrics:
    def __init__(self) -> None:
        self._counters: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        assert name in _HELP, name
        self._counters[name, tuple(sorted(labels.items()))] += amount

    def total(self, name: str, **labels: str) -> int:
        """Sum over all label sets that include `labels`."""
        wanted = labels.items()
        return sum(n for (of, has), n in self._counters.items() if of == name and wanted <= dict(has).items())

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        self._gauges[name] = (description, read)

    def render(self) -> str:
        lines = []
        for name, description in _HELP.items():
            lines += [f"# HELP {name} {description}", f"# TYPE {name} counter"]
            for (of, labels), value in sorted(self._counters.items()):
                if of == name:
                    lines.append(f"{name}{_labels(labels)} {value}")
        for name, (description, read) in self._gauges.items():
            lines += [f"# HELP {name} {description}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{k}="{_escape(v)}"' for k, v in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
