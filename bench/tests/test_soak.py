"""When a soak calls memory growing."""

from bench.claims.soak import Look, rows


def looks(gateway: list[float], *, files: int = 20) -> list[Look]:
    """One a minute. PostgreSQL's memory grows all the time."""
    return [
        Look(minute / 60, {"gateway": mib, "postgres": 100.0 * minute}, {"gateway": files, "postgres": minute})
        for minute, mib in enumerate(gateway)
    ]


def test_filling_caches_in_the_first_quarter_is_no_growth() -> None:
    growth, open_files, _ = rows(looks([100.0 + min(minute, 15) for minute in range(60)]), 60, resident={})
    assert growth.met is True
    assert abs(growth.value) < 0.01
    assert open_files.value == 0


def test_a_leak_of_a_few_hundred_kib_a_minute_is_found() -> None:
    growth, *_ = rows(looks([100.0 + 0.3 * minute for minute in range(60)]), 60, resident={})
    assert growth.met is False
    assert growth.details["byProcess"].keys() == {"gateway"}


def test_connections_that_stay_open_are_found() -> None:
    leaking = [Look(each.hours, each.mib, {"gateway": number}) for number, each in enumerate(looks([100.0] * 60))]
    _, open_files, _ = rows(leaking, 60, resident={})
    assert open_files.met is False
