from hypothesis import given
from hypothesis import strategies as st

from serve.limits import TokenBuckets, retry_after


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    rate=st.floats(0.1, 20),
    burst=st.integers(1, 5),
)
def test_in_no_stretch_of_time_is_more_let_in_than_the_burst_and_the_rate_allow(
    gaps: list[float], rate: float, burst: int
):
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    let_in = []
    for gap in gaps:
        clock.now += gap
        if buckets.take("a", requests_per_s=rate, burst=burst) == 0:
            let_in.append(clock.now)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            allowed = burst + (let_in[last] - begin) * rate
            assert last - first + 1 <= allowed + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 5), early=st.floats(0.1, 0.9))
def test_who_waits_as_long_as_told_is_let_in_and_who_comes_early_is_not(
    rate: float, burst: int, early: float
):
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    waits = [buckets.take("a", requests_per_s=rate, burst=burst) for _ in range(burst + 1)]
    assert waits[:burst] == [0] * burst
    clock.now += waits[-1] * early
    assert buckets.take("a", requests_per_s=rate, burst=burst) > 0
    clock.now += waits[-1] * (1 - early)
    assert buckets.take("a", requests_per_s=rate, burst=burst) == 0


def test_callers_have_buckets_of_their_own_and_only_the_last_seen_are_remembered():
    buckets = TokenBuckets(clock=Clock(), most_callers=2)
    for caller in ("a", "b", "c"):
        assert buckets.take(caller, requests_per_s=1, burst=1) == 0
    assert buckets.take("c", requests_per_s=1, burst=1) > 0
    assert buckets.take("a", requests_per_s=1, burst=1) == 0


def test_a_client_is_told_to_wait_at_least_a_whole_second():
    assert retry_after(0.01) == {"Retry-After": "1"}
    assert retry_after(2.2) == {"Retry-After": "3"}
