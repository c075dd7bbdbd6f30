"""The rate of raw POSTs with aiohttp, body and answer as with Meta's send endpoint: what dispatch is held against."""

import asyncio
import itertools
import time
import uuid

import aiohttp

from bench import children
from bench.children import Json, Tell


async def work(spec: Json, _tell: Tell) -> Json:
    url = f"http://127.0.0.1:{spec['port']}/v24.0/"
    headers = {"Authorization": "Bearer token-of-the-bench"}
    numbers = itertools.cycle(spec["numbers"])
    done = 0
    ends_at = time.monotonic() + spec["seconds"]

    async def post_on(http: aiohttp.ClientSession) -> None:
        nonlocal done
        while time.monotonic() < ends_at:
            body = {
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": "+16505550100",
                "type": "text",
                "text": {"body": "Yes, it is in stock, and we send it to Lisbon for 12 euros.", "preview_url": False},
                "biz_opaque_callback_data": str(uuid.uuid4()),
            }
            async with http.post(f"{url}{next(numbers)}/messages", json=body, headers=headers) as answer:
                await answer.json()
            done += 1

    connector = aiohttp.TCPConnector(limit=spec["connections"])
    async with aiohttp.ClientSession(connector=connector) as http:
        began, cpu_before = time.monotonic(), time.process_time()
        await asyncio.gather(*(post_on(http) for _ in range(spec["connections"])))
    return {
        "perSecond": done / (time.monotonic() - began),
        "microseconds": (time.process_time() - cpu_before) / done * 1e6,
    }


if __name__ == "__main__":
    children.main(work)
