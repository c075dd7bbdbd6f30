"""Recovery: how long after a SIGKILL of each process webhooks and answers are accepted again, and nothing is late."""

from functools import partial

from bench import product
from bench.options import Options
from bench.results import Row, at_most, stated
from devstack.traffic import VICTIMS, Load, Recovery, Traffic

LOAD = Load(webhooks=60, answers=20, customers=60)
_FIRST_SECONDS_MAX = 1.5
_CAUGHT_UP_SECONDS_MAX = 5.0
_QUICK_VICTIMS = ("webhooks-ingest", "messaging-inbox", "nats", "postgres")


async def measure(options: Options) -> list[Row]:
    victims = _QUICK_VICTIMS if options.quick else VICTIMS
    found: dict[str, Recovery] = {}
    async with product.started() as stack, Traffic.on(stack, LOAD) as traffic:
        await traffic.flows()
        for victim in victims:
            found[victim] = await traffic.recovery_after(partial(stack.kill, victim))
            await stack.until_ready(victim)
        audit = await traffic.finish(seconds=180)
    return rows(found, problems=len(audit.problems()), unknown=len(audit.unknown))


def rows(found: dict[str, Recovery], *, problems: int, unknown: int) -> list[Row]:
    """The slowest of the processes counts; the others stand beside it."""
    first = {victim: each.first_webhook for victim, each in found.items()}
    caught_up = {victim: each.caught_up for victim, each in found.items()}
    answers = {victim: each.first_answer for victim, each in found.items()}
    where = f"{LOAD.webhooks:.0f} webhooks and {LOAD.answers:.0f} answers a second"
    return [
        at_most(
            "recovery",
            f"SIGKILL of any of {len(found)} processes → first 200 to a webhook, slowest ({where})",
            "s",
            value=max(first.values()),
            most=_FIRST_SECONDS_MAX,
            byProcess=first,
        ),
        at_most(
            "recovery",
            "→ nothing takes longer than a second to the browser, slowest",
            "s",
            value=max(caught_up.values()),
            most=_CAUGHT_UP_SECONDS_MAX,
            byProcess=caught_up,
        ),
        stated("recovery", "→ first message accepted, slowest", "s", value=max(answers.values()), byProcess=answers),
        at_most("recovery", "kinds of loss or repetition that the audit found", "", value=problems, most=0),
        stated("recovery", "messages marked unknown", "", value=unknown),
    ]
