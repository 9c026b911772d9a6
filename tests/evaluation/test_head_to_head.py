import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.evaluation.head_to_head import tally, wilson_interval

ORDER = {"pinsage": 0, "text": 1}


def test_sides_do_not_matter_to_the_count():
    (found,) = tally(
        [
            ("pinsage", "text", "left"),
            ("text", "pinsage", "right"),
            ("text", "pinsage", "left"),
            ("pinsage", "text", "equal"),
        ],
        ORDER,
    )
    assert (found.method, found.rival) == ("pinsage", "text")
    assert (found.wins, found.losses, found.equal, found.votes) == (2, 1, 1, 4)
    assert found.win_fraction == pytest.approx(2 / 3)


def test_draws_alone_have_no_fraction_and_pairs_keep_the_methods_order():
    found = tally([("old", "text", "equal"), ("text", "pinsage", "left")], ORDER)
    assert [(pair.method, pair.rival) for pair in found] == [("pinsage", "text"), ("text", "old")]
    assert (found[1].win_fraction, found[1].interval) == (None, None)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_s_bounds_solve_the_score_equation(counts):
    """Each bound is a share that lies just 1.96 of its own standard errors from the one seen."""
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    seen = successes / trials
    assert 0 <= low <= seen <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            error = (bound * (1 - bound) / trials) ** 0.5
            assert abs(seen - bound) == pytest.approx(1.959963984540054 * error, abs=1e-9)
