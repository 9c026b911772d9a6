import numpy as np
import pytest

from pinsage.evaluation.bootstrap import interval, resampled_means
from pinsage.evaluation.ladder import Step, compare, step_sentence

QUERIES = np.repeat(np.arange(200), 2)


def method(rate, seeds, *, spread=0.0, start=0):
    """Hits with some rate, which moves by `spread` from seed to seed."""
    rng = np.random.default_rng(start)
    rates = np.clip(rate + spread * rng.standard_normal((seeds, 1)), 0, 1)
    return {"hit_rate@10": (rng.random((seeds, 400)) < rates).astype(np.float64)}


def run(methods, steps=(), samples=300):
    return compare(methods, QUERIES, steps, samples=samples, seed=0)


def test_a_method_without_seeds_has_the_interval_of_its_queries():
    values = method(0.4, 1)
    found = run({"one": values})["metrics"]["one"]["hit_rate@10"]
    means = resampled_means(values["hit_rate@10"], QUERIES, samples=300, seed=0)
    assert (found["low"], found["high"]) == interval(means[:, 0])
    assert found["mean"] == pytest.approx(values["hit_rate@10"].mean())


def test_the_mean_is_over_seeds_and_pairs_and_lies_inside_its_interval():
    values = method(0.4, 5)
    found = run({"five": values})["metrics"]["five"]["hit_rate@10"]
    assert len(found["by_seed"]) == 5
    assert found["mean"] == pytest.approx(np.mean(found["by_seed"]))
    assert found["low"] < found["mean"] < found["high"]


def test_seeds_that_disagree_widen_the_interval():
    narrow, wide = (
        run({"m": method(0.4, 5, spread=spread)})["metrics"]["m"]["hit_rate@10"]
        for spread in (0.0, 0.2)
    )
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_a_clear_step_holds_and_its_reverse_is_told_as_such():
    methods = {"low": method(0.2, 3), "high": method(0.6, 3, start=1)}
    up, down = run(methods, [Step("high", "low"), Step("low", "high")])["steps"]
    assert up["holds"]
    assert up["metrics"]["hit_rate@10"]["verdict"] == "ahead"
    assert step_sentence(up).startswith("high above low: holds, at hit-rate@10 (+0.")
    assert "does not hold here: the reverse at hit-rate@10 (-0." in step_sentence(down)


@pytest.mark.parametrize(("queries", "found"), [(1, "even"), (5, "even"), (6, "ahead")])
def test_few_queries_make_no_order_clear(queries, found):
    methods = {"never": np.zeros((2, queries)), "always": np.ones((2, queries))}
    step = compare(
        {name: {"hit_rate@10": values} for name, values in methods.items()},
        np.arange(queries),
        [Step("always", "never")],
        samples=50,
        seed=0,
    )["steps"][0]
    assert step["metrics"]["hit_rate@10"]["verdict"] == found
    assert step["holds"] == (found == "ahead")


def test_a_method_against_itself_makes_no_difference():
    values = method(0.4, 4, spread=0.2)
    step = run({"a": values, "b": values}, [Step("a", "b")])["steps"][0]
    assert step["metrics"]["hit_rate@10"] == {
        "difference": 0,
        "low": 0,
        "high": 0,
        "verdict": "even",
    }
    assert "is not clear here: no clear difference at hit-rate@10" in step_sentence(step)


def test_a_step_may_hold_at_some_metrics_alone():
    low, high = method(0.2, 3), method(0.6, 3, start=1)
    methods = {
        "a": {"x": high["hit_rate@10"], "y": low["hit_rate@10"]},
        "b": {"x": low["hit_rate@10"], "y": low["hit_rate@10"]},
    }
    step = run(methods, [Step("a", "b")])["steps"][0]
    assert not step["holds"]
    assert "does not hold throughout: it holds at x" in step_sentence(step)


def test_methods_with_and_without_seeds_are_compared_alike():
    step = run({"a": method(0.6, 5), "b": method(0.2, 1)}, [Step("a", "b")])["steps"][0]
    assert step["holds"]


def test_a_metric_that_is_equal_for_all_methods_decides_no_order():
    everything = {"hit_rate@500": np.ones((3, 400))}
    methods = {"low": method(0.2, 3) | everything, "high": method(0.6, 3, start=1) | everything}
    found = run(methods, [Step("high", "low")])
    step = found["steps"][0]
    assert step["holds"]
    assert "hit-rate@500" not in step_sentence(step)
    assert found["metrics"]["low"]["hit_rate@500"]["mean"] == 1


def test_methods_that_are_equal_at_every_metric_are_even():
    everything = {"hit_rate@500": np.ones((3, 400))}
    step = run({"a": everything, "b": everything}, [Step("a", "b")])["steps"][0]
    assert not step["holds"]
    assert "is not clear here: no clear difference at hit-rate@500" in step_sentence(step)
