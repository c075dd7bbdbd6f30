"""Calls of the REST API: each of the given requests in turn, as fast as they are answered."""

import itertools

from bench import children
from bench.children import Json, Tell
from bench.figures import Spread
from bench.http_client import Load, Request


def request(call: Json, token: str) -> bytes:
    body: bytes = call.get("body", "").encode()
    head = f"{call['method']} {call['path']} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


async def work(spec: Json, _tell: Tell) -> Json:
    ready: list[Request] = [(request(call, spec["token"]), "") for call in spec["calls"]]
    requests = itertools.cycle(ready)
    load = Load("127.0.0.1", spec["port"], connections=spec["connections"], next_request=lambda: next(requests))
    await load.open()
    per_second = await load.closed_loop(spec["seconds"])
    await load.close()
    spread = Spread.of([each * 1000 for each in load.seconds])
    statuses = {str(status): count for status, count in load.statuses.items()}
    return {"perSecond": per_second, "p50": spread.p50, "p99": spread.p99, "statuses": statuses}


if __name__ == "__main__":
    children.main(work)
