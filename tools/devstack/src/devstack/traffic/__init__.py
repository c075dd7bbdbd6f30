"""Open-loop traffic for a product under test, and the audit of what became of it.

async with Traffic.on(stack, Load(webhooks=100, answers=30)) as traffic:
    recovery = await traffic.recovery_after(lambda: stack.kill("messaging-inbox"))
    found = await traffic.finish()
found.assert_nothing_lost()

`meta` plays Meta's webhooks and `team` the agents, each repeating what was not acknowledged; `watch` reads the live
stream; `ledger` notes what was acknowledged when; `audit` compares that with PostgreSQL and with what the emulator saw.
"""

from devstack.traffic.audit import Audit as Audit
from devstack.traffic.ledger import Ledger as Ledger
from devstack.traffic.run import VICTIMS as VICTIMS
from devstack.traffic.run import Load as Load
from devstack.traffic.run import Recovery as Recovery
from devstack.traffic.run import Traffic as Traffic
