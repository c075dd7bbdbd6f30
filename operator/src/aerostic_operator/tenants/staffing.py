"""Whether a Tenant has workers of its own, and how they are getting on: the part of the plan that comes last.

The order of its steps matters to nobody: wherever a tenant's own workers are not there, shared workers stand in.
"""

from dataclasses import replace

from aerostic_operator.conditions import Verdict
from aerostic_operator.tenants.model import Desired, Dismiss, Plan, Record, Staff, Worker, Workers


def staffed(now: Plan, desired: Desired, record: Record | None, workers: Workers) -> Plan:
    """The plan with what its workers need; `now` has no action of its own."""
    wants = (
        record is not None
        and now.is_bound
        and not desired.is_deleting
        and not record.is_being_erased
        and record.isolation == "dedicated"
    )
    if record is None or not wants:
        return replace(now, action=Dismiss(workers.present)) if workers.present else now
    now = replace(now, standing=workers.standing)
    if workers.stale and not workers.refusal:
        now = replace(now, action=Staff(record.tenant_id, workers.stale, workers.present))
    elif workers.surplus:
        now = replace(now, action=Dismiss(workers.surplus))
    if now.verdict.phase != "ready" or not now.verdict.is_synced:
        return now
    return replace(now, verdict=_verdict(now.verdict, workers))


def _verdict(verdict: Verdict, workers: Workers) -> Verdict:
    """The tenant works in any case, so it is ready; what its workers lack stands beside that."""
    told = verdict.message
    if not workers.are_offered:
        text = f"{told} This installation runs no workers for single tenants: shared workers stand in."
        return replace(verdict, message=text)
    if workers.refusal:
        text = f"{told} Kubernetes refuses its own workers, and shared workers stand in: {workers.refusal}"
        return replace(verdict, reason="WorkersRefused", message=text, pending="stalled")
    late = [each for each in workers.standing if not each.is_rolled_out]
    absent = [each for each in late if each.available == 0]
    stuck = [each for each in late if each.is_stuck]
    if stuck:
        stand_in = "Shared workers stand in for its own" if absent else "Its own workers are not up to date"
        text = f"{told} {stand_in}: {_words(stuck)}."
        return replace(verdict, reason="WorkersStalled", message=text, pending="stalled")
    if absent or not workers.standing:
        text = f"{told} Shared workers stand in until its own are there{_told(absent)}."
        return replace(verdict, reason="WorkersStarting", message=text, pending="working")
    if late:
        text = f"{told} Its own workers are being brought up to date{_told(late)}."
        return replace(verdict, reason="WorkersUpdating", message=text, pending="working")
    return replace(verdict, message=f"{told} Workers of its own serve it.")


def _told(late: list[Worker]) -> str:
    return f": {_words(late)}" if late else ""


def _words(late: list[Worker]) -> str:
    return "; ".join(_word(each) for each in late)


def _word(worker: Worker) -> str:
    why = f" ({worker.trouble.rstrip('.')})" if worker.trouble else ""
    return f"{worker.name} has {worker.available} of {worker.desired}{why}"
