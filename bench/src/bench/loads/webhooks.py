"""Webhooks at the intake, as Meta would send them: as fast as they are answered, or at a rate whatever happens."""

import itertools
import time
from collections.abc import Iterator

from bench import children
from bench.children import Json, Tell
from bench.figures import Spread
from bench.http_client import Load, Request
from bench.webhooks import Sender, Sent, statuses, worst_case


def requests(spec: Json) -> Iterator[Request]:
    """`kind`: "inbound", "statuses" or "mix" (Meta's worst case)."""
    sender = Sender(spec["secret"].encode(), [(number, waba) for number, waba in spec["places"]])
    sent = [Sent(*each) for each in spec.get("sent", [])]
    at, run, customers = int(time.time()), spec["run"], spec["customers"]
    match spec["kind"]:
        case "inbound":
            return (sender.inbound(each, run=run, customers=customers, at=at) for each in itertools.count())
        case "statuses":
            return statuses(sender, sent, at=at)
        case _:
            return worst_case(sender, sent, run=run, customers=customers, at=at)


async def work(spec: Json, tell: Tell) -> Json:
    ready = requests(spec)
    if not spec.get("rate"):
        # Made before the clock starts, so that making them takes nothing from the machine.
        ready = iter(list(itertools.islice(ready, spec["most"])))
    load = Load("127.0.0.1", spec["port"], connections=spec["connections"], next_request=lambda: next(ready))
    await load.open()
    cpu_before = time.process_time()
    tell({"began": time.time()})
    rate = 0.0
    if spec.get("rate"):
        await load.open_loop(spec["rate"], spec["seconds"])
    else:
        rate = await load.closed_loop(spec["seconds"], most=spec["most"])
    await load.close()
    milliseconds = [each * 1000 for each in load.seconds]
    spread = Spread.of(milliseconds)
    return {
        "perSecond": rate,
        "answered": len(milliseconds),
        "statuses": {str(status): count for status, count in load.statuses.items()},
        "p50": spread.p50,
        "p99": spread.p99,
        "p999": spread.p999,
        "most": spread.most,
        "ended": time.time(),
        "named": load.named if spec.get("tellsNamed") else {},
        "loadCpuSeconds": time.process_time() - cpu_before,
    }


if __name__ == "__main__":
    children.main(work)
