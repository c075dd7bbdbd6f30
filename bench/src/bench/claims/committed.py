"""Committed end to end: webhooks stored in PostgreSQL, events included, beside single-row commits of 1 KB."""

from bench import product
from bench.figures import paired
from bench.inbound import WORST_CASE_RATE, Webhooks
from bench.options import Options
from bench.references.pgbench import CLIENTS, Commits
from bench.results import Row, at_most, by_ratio, stated


async def measure(options: Options) -> list[Row]:
    seconds = options.seconds(10)
    async with product.started() as stack, product.shop(stack) as shop, product.database(stack) as db:
        commits = Commits(stack.postgres)
        await commits.prepare()
        mix = Webhooks(stack, db, [shop])
        await mix.add_customers()
        figures = await paired(
            lambda: mix.saturated(seconds), lambda: commits.per_second(seconds), rounds=options.rounds
        )
        messages = Webhooks(stack, db, [shop], kind="inbound")
        alone = await paired(
            lambda: messages.saturated(seconds), lambda: commits.per_second(seconds), rounds=options.rounds
        )
        steady = await mix.at_rate(WORST_CASE_RATE, options.seconds(60))
    return [
        by_ratio(
            "committed",
            f"webhooks (10 statuses to 1 message) stored/s; reference: 1 KB commits of pgbench, {CLIENTS} clients",
            "/s",
            value=figures.subject,
            reference=figures.reference,
            ratio=figures.ratio,
            least=0.60,
        ),
        stated("committed", "inbound messages alone stored/s", "/s", value=alone.subject, reference=alone.reference),
        at_most("committed", f"receipt → committed at {WORST_CASE_RATE}/s, p99", "ms", value=steady.lags.p99, most=150),
        stated("committed", "the same, p50", "ms", value=steady.lags.p50),
    ]
