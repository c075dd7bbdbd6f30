"""Durable intake: webhooks answered 200 after the fsynced acknowledgement, beside a server that keeps nothing."""

import asyncio
from typing import Any

from bench import children, product
from bench.figures import paired
from bench.options import Options
from bench.results import Row, by_ratio, stated
from devstack.ports import PortClaims

CONNECTIONS = 64
_PER_SECOND_MAX = 40_000


async def measure(options: Options) -> list[Row]:
    seconds = options.seconds(10)
    claims = PortClaims()
    async with product.started(services="webhooks-ingest") as stack:
        bare_port = claims.claim()
        spec = {**product.webhooks(stack), "kind": "inbound", "customers": 5000}
        spec |= {"connections": CONNECTIONS, "seconds": seconds, "most": int(_PER_SECOND_MAX * seconds)}
        told: dict[str, list[dict[str, Any]]] = {"product": [], "bare": []}

        bare_cores, load_cores = children.apart(2)

        async def at(name: str, port: int, **more: Any) -> float:
            await asyncio.sleep(1)
            run = f"{name}{len(told[name])}"
            result = await children.run("loads.webhooks", {**spec, **more, "port": port, "run": run})
            if set(result["statuses"]) != {"200"}:
                raise children.LoadFailed(f"not only 200: {result['statuses']}")
            told[name].append(result)
            return float(result["perSecond"])

        async with children.started(
            "references.asgi", {"secret": spec["secret"], "port": bare_port, "cores": bare_cores}
        ) as bare:
            await bare.told()
            figures = await paired(
                lambda: at("product", product.port(stack, "webhooks-ingest")),
                lambda: at("bare", bare_port, cores=load_cores),
                rounds=options.rounds,
            )
    claims.release()
    took = sum(each["answered"] / each["perSecond"] for each in told["product"])
    share = sum(each["loadCpuSeconds"] for each in told["product"]) / took
    return [
        by_ratio(
            "intake",
            "webhooks/s answered after the fsynced ack, 64 connections",
            "/s",
            value=figures.subject,
            reference=figures.reference,
            ratio=figures.ratio,
            least=0.50,
        ),
        stated("intake", "p99 of an answer meanwhile", "ms", value=max(each["p99"] for each in told["product"])),
        stated("intake", "load generator's share of a core", "", value=share),
    ]
