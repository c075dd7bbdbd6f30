"""The slowest process decides about a recovery."""

from bench.claims import recovery
from devstack.traffic import Recovery


def test_one_slow_process_misses_the_target():
    found = {"nats": Recovery(0.9, 0.2, 2.0), "postgres": Recovery(0.1, 1.9, 5.5)}
    first, caught_up, _, audit, _ = recovery.rows(found, problems=0, unknown=1)
    assert (first.value, first.met) == (0.9, True)
    assert (caught_up.value, caught_up.met) == (5.5, False)
    assert audit.met


def test_what_the_audit_finds_is_a_miss():
    rows = recovery.rows({"nats": Recovery(0.9, 0.2, 2.0)}, problems=1, unknown=0)
    assert [row.met for row in rows if "audit" in row.measure] == [False]
