from hypothesis import given
from hypothesis import strategies as st

from meta_emulator.limits import Limits, PairBucket, SlidingSecond

gaps = st.lists(st.floats(0, 1.5, allow_nan=False), max_size=200)


@given(gaps=gaps, limit=st.integers(1, 10))
def test_no_sliding_second_admits_more_than_the_limit_and_none_is_refused_needlessly(gaps, limit):
    bucket, now, admitted = SlidingSecond(), 1_790_000_000.0, []
    for gap in gaps:
        now += gap
        recent = [when for when in admitted if when > now - 1.0]
        assert bucket.admits(now, limit) == (len(recent) < limit)
        if bucket.admits(now, limit):
            bucket.take(now)
            admitted.append(now)
    for end in admitted:
        assert sum(end - 1.0 < when <= end for when in admitted) <= limit


def test_eighty_messages_pass_and_the_next_waits_for_the_second_to_slide():
    bucket = SlidingSecond()
    for n in range(80):
        assert bucket.admits(n * 0.01, 80)
        bucket.take(n * 0.01)
    assert not bucket.admits(0.99, 80)
    assert bucket.admits(1.0, 80)
    bucket.take(1.0)
    assert not bucket.admits(1.005, 80)


@given(gaps=gaps, burst=st.integers(1, 45), refill=st.sampled_from([0.5, 6.0]))
def test_a_pair_never_gets_more_than_burst_plus_what_time_refilled(gaps, burst, refill):
    bucket, start, admitted = PairBucket(), 1_790_000_000.0, 0
    now = start
    for gap in gaps:
        now += gap
        if bucket.admits(now, burst, refill):
            bucket.take(now, refill)
            admitted += 1
        assert admitted <= burst + (now - start) / refill + 1e-3


def test_a_pair_gets_its_burst_then_one_per_refill():
    bucket, now = PairBucket(), 1_790_000_000.0
    for _ in range(45):
        assert bucket.admits(now, 45, 6.0)
        bucket.take(now, 6.0)
    assert not bucket.admits(now + 5.9, 45, 6.0)
    assert bucket.admits(now + 6.0, 45, 6.0)


def test_management_calls_are_counted_per_hour():
    limits = Limits()
    assert [limits.management_calls("w", t) for t in (0.0, 10.0, 3599.0, 3600.0, 3611.0)] == [1, 2, 3, 3, 3]
    assert limits.management_calls("other", 0.0) == 1
