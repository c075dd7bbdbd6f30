"""Failed log-ins, counted per account and per address: after some free tries each further one must wait longer."""

import hashlib
from datetime import timedelta

from kit.db import Tx
from svc_auth.errors import LoginThrottled

FREE_FAILURES = {"email": 5, "address": 30}
"""An address may be an office full of people; an account is one person."""
_FORGET_AFTER = timedelta(hours=1)
_WAIT_MAX_SECONDS = 900

_BLOCKED = """
    SELECT max(extract(epoch FROM blocked_until - now())) FROM login_failures
    WHERE subject = ANY($1) AND blocked_until > now()
"""
# Failures of an hour ago are forgotten; beyond the free ones each doubles the wait, up to a quarter of an hour.
_COUNT = """
    INSERT INTO login_failures AS f (subject, failures) VALUES ($1, 1)
    ON CONFLICT (subject) DO UPDATE SET
        failures = CASE WHEN f.first_at < now() - $3::interval THEN 1 ELSE f.failures + 1 END,
        first_at = CASE WHEN f.first_at < now() - $3::interval THEN now() ELSE f.first_at END,
        blocked_until = CASE
            WHEN f.first_at >= now() - $3::interval AND f.failures + 1 >= $2
            THEN now() + make_interval(secs => least($4, 2 ^ least(f.failures + 1 - $2, 20)))
        END
"""
_FORGIVE = "DELETE FROM login_failures WHERE subject = $1"
_SWEEP = "DELETE FROM login_failures WHERE first_at < now() - $1::interval AND coalesce(blocked_until, now()) <= now()"


async def require_free(tx: Tx, email: str, address: str) -> None:
    """Raises LoginThrottled while either of the two must wait."""
    seconds = await tx.fetchval(_BLOCKED, [subject for _, subject in _subjects(email, address)])
    if seconds is not None:
        raise LoginThrottled(float(seconds))


async def count_failure(tx: Tx, email: str, address: str) -> None:
    for kind, subject in _subjects(email, address):
        await tx.execute(_COUNT, subject, FREE_FAILURES[kind], _FORGET_AFTER, _WAIT_MAX_SECONDS)


async def forgive(tx: Tx, email: str) -> None:
    """The account proved itself; its address may still be guessing at others."""
    await tx.execute(_FORGIVE, _email_subject(email))


async def sweep(tx: Tx) -> None:
    await tx.execute(_SWEEP, _FORGET_AFTER)


def _subjects(email: str, address: str) -> list[tuple[str, str]]:
    found = [("email", _email_subject(email))]
    return [*found, ("address", f"address:{address}")] if address else found


def _email_subject(email: str) -> str:
    # People type passwords into the e-mail field: what they typed is not kept.
    return f"email:{hashlib.sha256(email.encode()).hexdigest()}"
