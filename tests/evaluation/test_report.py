import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from pinsage.base.artifacts import Draft
from pinsage.base.errors import DataError
from pinsage.evaluation import (
    EmbeddingCosine,
    EvaluationConfig,
    FeatureCosine,
    ItemFacts,
    Popularity,
    evaluate,
    write_report,
)
from pinsage.evaluation.baselines import Transitions
from pinsage.evaluation.headline import summary
from pinsage.evaluation.page import render_page
from pinsage.evaluation.wording import edges_sentence
from pinsage.graph import Pairs

NUM_ITEMS = 40
HOSTILE = '<script>alert("x")</script> & <b>bold</b>'
METRICS = {f"{name}@{k}" for name in ("hit_rate", "recall", "ndcg") for k in (2, 5)}
METRICS |= {"scaled_mrr", "mrr"}
OF_LISTS = {"mean_popularity@10", "diversity@10"}
OF_ALL_LISTS = {"coverage@10", "gini@10", "largest_share@10"}
EVERY_SHEET = EvaluationConfig(ks=(2, 5), num_sheets=NUM_ITEMS, bootstrap_samples=50, map_items=0)


def one_of_each_community(noise):
    """Items n and n + 20 belong together; the less noise, the easier to see."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 16))
    vectors = np.concatenate([centers, centers]) + rng.normal(size=(40, 16)) * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def methods():
    return {
        "pinsage": EmbeddingCosine(one_of_each_community(0.1)),
        "text": FeatureCosine(one_of_each_community(2.0)),
        "popularity": Popularity(np.arange(NUM_ITEMS)),
    }


@pytest.fixture
def run(methods):
    """Evaluate with the arguments of this file, some of them changed."""

    def evaluate_with(
        *, config=None, cold=None, seed=0, methods=methods, pairs=None, train=None, on_progress=None
    ):
        queries = np.arange(NUM_ITEMS)
        return evaluate(
            methods,
            pairs=Pairs(queries, (queries + 20) % NUM_ITEMS) if pairs is None else pairs,
            items=ItemFacts(
                titles=[f"{HOSTILE} {n}" for n in range(NUM_ITEMS)],
                images=[None] * NUM_ITEMS,
                degrees=np.arange(NUM_ITEMS),
                content=one_of_each_community(0.5).__getitem__,
                cold=cold,
            ),
            data=f"books {HOSTILE}",
            config=config
            or EvaluationConfig(ks=(2, 5), num_sheets=3, bootstrap_samples=50, map_items=0),
            seed=seed,
            train=train,
            on_progress=on_progress,
        )

    return evaluate_with


def test_the_report_has_every_part_for_every_method(run, methods):
    report = run()
    assert {name: set(found) for name, found in report["metrics"].items()} == dict.fromkeys(
        methods, METRICS | OF_LISTS | OF_ALL_LISTS
    )
    assert {name: set(found) for name, found in report["intervals"].items()} == dict.fromkeys(
        methods, METRICS | OF_LISTS
    )
    assert {name: set(found) for name, found in report["paired"].items()} == dict.fromkeys(
        ["text", "popularity"], METRICS
    )
    assert set(report["similarity"]) == {"pinsage", "text"}
    assert len(report["sheets"]) == 3
    assert all(set(sheet["columns"]) == set(methods) for sheet in report["sheets"])
    assert report["protocol"]["candidates"] == NUM_ITEMS - 1


def test_the_better_method_wins_and_the_summary_says_so(run):
    report = run()
    metrics = report["metrics"]
    assert metrics["pinsage"]["hit_rate@2"] == 1.0
    assert metrics["pinsage"]["hit_rate@2"] > metrics["text"]["hit_rate@2"]
    assert report["summary"][0].startswith(
        "PinSage is clearly ahead of all others at hit-rate@2 (1.0000)"
    )
    assert report["paired"]["popularity"]["hit_rate@5"]["low"] > 0


def test_what_chance_gets_is_told_and_a_k_above_half_of_the_candidates_is_not_spoken_of(run):
    report = run(config=EvaluationConfig(ks=(2, 19, 20, NUM_ITEMS), map_items=0))
    chance = report["chance"]
    wanted = pytest.approx([2 / 39, 19 / 39, 20 / 39, 1])
    assert [chance[f"hit_rate@{k}"] for k in (2, 19, 20, 40)] == wanted
    assert chance["mrr"] == pytest.approx(np.mean(1 / np.arange(1, 40)))
    assert set(chance) == set(report["paired"]["text"])
    for sentence in report["summary"][:2]:
        assert "hit-rate@2 (" in sentence
        assert "hit-rate@19 (" in sentence
        assert "hit-rate@20" not in sentence
    assert report["summary"][2] == (
        "Not compared here, since chance gets more than half: hit-rate@20 (0.5128 by chance), "
        "hit-rate@40 (1.0000 by chance) and scaled MRR (1.0000 by chance)."
    )
    (first,) = run(config=EvaluationConfig(ks=(30,), map_items=0))["summary"]
    assert first.startswith("With so few candidates nothing is compared, since chance gets more")
    assert "By chance</th><td>0.0513</td>" in render_page(report)
    sampled = run(config=EvaluationConfig(ks=(2,), candidates=15, map_items=0))
    assert sampled["chance"]["hit_rate@2"] == 2 / 16


def test_items_without_edges_are_counted_and_many_of_them_told(run):
    report = run()
    # Item 0 has no edge, and is a query once and a positive once.
    assert report["protocol"]["pairs_without_edges"] == 2
    assert "no edge" not in " ".join(report["summary"])
    (told,) = edges_sentence({"pairs_without_edges": 4, "pairs": 40})
    assert told.startswith("In 4 of 40 pairs, an item has no edge")


@pytest.mark.parametrize(("train_pairs", "seen"), [(0, 0), (1, 2), (2, 4)])
def test_pairs_that_are_train_pairs_in_either_order_are_counted_and_many_of_them_told(
    run, train_pairs, seen
):
    # Items n and n + 20 are a pair, and so are n + 20 and n.
    train = Pairs(np.arange(train_pairs), np.arange(train_pairs) + 20)
    report = run(train=train)
    assert report["protocol"]["pairs_seen_in_train"] == seen
    said = "4 of 40 pairs are train pairs too" in report["summary"][-1]
    assert said == (seen == 4)
    assert f"{seen} of the pairs are train pairs too" in render_page(report)
    assert run()["protocol"]["pairs_seen_in_train"] is None
    assert "train pairs too" not in render_page(run())


def test_one_that_is_as_good_is_named_and_so_is_one_that_is_better(run, methods):
    both = {"pinsage": methods["pinsage"], "text": methods["pinsage"]}
    report = run(methods=both | {"popularity": methods["popularity"]})
    assert report["summary"][0].startswith(
        "PinSage is level with Text cosine at hit-rate@2 (1.0000) and hit-rate@5 (1.0000)."
    )
    turned = {"pinsage": methods["text"], "text": methods["pinsage"]}
    worse = run(methods=turned)
    found = worse["metrics"]["pinsage"]["hit_rate@2"]
    assert worse["summary"][0].startswith(
        f"PinSage is clearly behind Text cosine at hit-rate@2 ({found:.4f})"
    )


def test_a_highest_value_that_is_not_clear_is_said_not_to_be(run):
    pairs = Pairs(np.array([3, 4, 5]), np.array([23, 24, 25]))
    first = run(pairs=pairs)["summary"][0]
    assert "clearly ahead" not in first
    assert first.startswith("PinSage is highest, not clearly above all others, at hit-rate@2 (1.0")


def test_the_headline_tells_every_metric_once_the_clearest_first():
    def gap(low, high, p):
        return {"difference": (low + high) / 2, "low": low, "high": high, "p": p}

    ahead, even, behind = gap(0.1, 0.3, 0.001), gap(-0.1, 0.3, 0.3), gap(-0.3, -0.1, 0.001)
    rows = {"a": (0.5, 0.4, 0.3), "b": (0.5, 0.4, 0.3), "c": (0.4, 0.5, 0.3), "d": (0.3, 0.5, 0.4)}
    metrics = {
        name: {metric: row[n] for metric, row in rows.items()}
        for n, name in enumerate(("pinsage", "als", "bpr"))
    }
    paired = {
        "als": {"d": behind, "c": even, "b": even, "a": ahead},
        "bpr": {"d": even, "c": ahead, "b": ahead, "a": ahead},
    }
    first = summary(metrics, paired, ["d", "c", "b", "a"], dict.fromkeys(rows, 0.1))[0]
    assert first == (
        "PinSage is clearly ahead of all others at a (0.5000); highest, not clearly above ALS, at "
        "b (0.5000); level with ALS at c (0.4000); clearly behind ALS at d (0.3000)."
    )


def test_one_query_makes_nothing_clear(run):
    report = run(pairs=Pairs(np.array([3]), np.array([23])))
    assert report["paired"]["popularity"]["hit_rate@2"]["low"] == 1.0
    assert "clearly ahead" not in report["summary"][1]
    assert "not clearly different at hit-rate@2" in report["summary"][1]
    assert 'class="ahead"' not in render_page(report)
    assert 'class="ahead"' in render_page(run())


def test_pairs_of_held_out_contexts_are_drawn_and_flipped_by_context(run):
    # 40 pairs of 4 contexts: however clear by query, 4 contexts agree by chance with p = 1/8.
    queries = np.arange(NUM_ITEMS)
    contexts = queries // 10
    pairs = Pairs(queries, (queries + 20) % NUM_ITEMS, contexts)
    cold = queries < 20
    by_query, by_context = run(cold=cold), run(cold=cold, pairs=pairs)
    assert by_context["metrics"] == by_query["metrics"]
    for metric in ("hit_rate@2", "recall@2"):
        p, by_chance = (
            found["paired"]["popularity"][metric]["p"] for found in (by_query, by_context)
        )
        assert p < 0.001
        assert by_chance == pytest.approx(1 / 8, abs=0.03)
    assert by_context["cold"]["either"]["paired"]["popularity"]["mrr"]["p"] > 0.1
    protocol = by_context["protocol"]
    assert (protocol["held_out_contexts"], by_query["protocol"]["held_out_contexts"]) == (4, None)
    assert protocol["intervals"] == "95%, bootstrap over held-out contexts"
    assert "All 40 pairs come from 4 held-out contexts" in " ".join(by_context["summary"])
    assert "40 distinct queries, from 4 held-out contexts;" in render_page(by_context)
    sampled = run(pairs=pairs, config=EvaluationConfig(ks=(2,), max_pairs=1, map_items=0))
    assert sampled["protocol"]["held_out_contexts"] == 1


def test_values_lie_inside_their_intervals(run):
    report = run()
    for name, found in report["intervals"].items():
        for metric, (low, high) in found.items():
            assert low <= report["metrics"][name][metric] <= high


def test_popularity_shows_little_of_the_catalog_and_the_most_popular_items(run):
    metrics = run()["metrics"]
    # Ten items for most, and an eleventh for queries that are among the ten.
    assert metrics["popularity"]["coverage@10"] == 11 / NUM_ITEMS
    assert metrics["popularity"]["mean_popularity@10"] > metrics["pinsage"]["mean_popularity@10"]


def test_what_a_method_does_not_know_is_in_no_list_of_the_report(run, methods):
    # Item 0 was followed by 1 and by 2, items 3 and 4 by 1; nothing else is known.
    train = Pairs(np.array([0, 0, 3, 4]), np.array([1, 2, 1, 1]))
    some = Transitions(train, NUM_ITEMS)
    report = run(methods=methods | {"transitions": some}, config=EVERY_SHEET)
    metrics, ranges = report["metrics"]["transitions"], report["intervals"]["transitions"]
    assert metrics["coverage@10"] == 2 / NUM_ITEMS
    assert metrics["largest_share@10"] == 3 / NUM_ITEMS
    # Degrees are ids: lists of mean 1.5, 1 and 1; one alone has two items.
    assert metrics["mean_popularity@10"] == pytest.approx(3.5 / 3)
    assert 1 <= ranges["mean_popularity@10"][0] <= ranges["mean_popularity@10"][1] <= 1.5
    assert ranges["diversity@10"] == [metrics["diversity@10"]] * 2
    shown = {
        sheet["query"]["item_id"]: [item["item_id"] for item in sheet["columns"]["transitions"]]
        for sheet in report["sheets"]
    }
    assert shown == {item: [] for item in range(NUM_ITEMS)} | {0: [1, 2], 3: [1], 4: [1]}
    assert "Knows of no item." in render_page(report)


def test_a_method_that_knows_nothing_has_no_mean_over_its_lists(run, methods):
    none = Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
    report = run(methods=methods | {"transitions": Transitions(none, NUM_ITEMS)})
    metrics = report["metrics"]["transitions"]
    assert not OF_LISTS & (set(metrics) | set(report["intervals"]["transitions"]))
    assert [metrics[name] for name in sorted(OF_ALL_LISTS)] == [0, 0, 0]
    assert metrics["hit_rate@5"] == 5 / (NUM_ITEMS - 1)
    assert "<td>none</td>" in render_page(report)
    json.dumps(report, allow_nan=False)


def test_numbers_are_stated_in_one_form(run):
    assert run()["statements"]["pinsage"][0] == (
        f"hit-rate@2 = 1.0000 (books {HOSTILE}, test, 39 candidates, seed 0)"
    )


def test_sheets_mark_the_held_out_answer_and_never_show_the_query(run):
    for sheet in run()["sheets"]:
        query = sheet["query"]["item_id"]
        answers = sheet["columns"]["pinsage"]
        assert [a["item_id"] for a in answers if a["held_out"]] == [(query + 20) % NUM_ITEMS]
        assert query not in [answer["item_id"] for answer in answers]


def test_the_same_seed_gives_the_same_report_and_another_seed_other_sheets(run):
    assert run() == run()
    assert run(seed=1)["sheets"] != run()["sheets"]


def test_a_sample_of_pairs_is_said_to_be_one(run):
    config = EvaluationConfig(ks=(2,), max_pairs=7, map_items=0)
    report = run(config=config)
    protocol = report["protocol"]
    assert (protocol["pairs"], protocol["pairs_in_split"]) == (7, NUM_ITEMS)
    assert protocol["pairs_are"] == "all of a random sample of queries"
    assert "7 pairs, all of a random sample of queries" in render_page(report)


def test_a_sampled_pool_is_said_to_be_one_and_all_items_are_a_sample_of_all(run):
    report = run(config=EvaluationConfig(ks=(2, 5), candidates=15, num_sheets=3, map_items=0))
    assert report["protocol"]["candidates_are"] == "a random sample"
    assert "a random sample of 15 of 40 items" in report["protocol"]["candidate_pool"]
    assert not {name for name in report["metrics"]["text"] if name.startswith(("recall", "ndcg"))}
    assert report["statements"]["text"][0].endswith("test, 16 sampled candidates, seed 0)")
    assert report["metrics"]["popularity"]["coverage@10"] == 11 / 15
    everything = run(
        config=EvaluationConfig(ks=(2, 5), candidates=NUM_ITEMS, num_sheets=3, map_items=0)
    )
    assert everything == run(config=EvaluationConfig(ks=(2, 5), num_sheets=3, map_items=0))


def test_the_gap_to_each_rival_has_an_interval_and_a_p_value(run):
    paired = run()["paired"]
    for found in paired.values():
        for gap in found.values():
            assert gap["low"] <= gap["difference"] <= gap["high"]
            assert 0 < gap["p"] <= 1
    assert paired["popularity"]["ndcg@5"]["p"] < 0.01


def test_pairs_with_cold_items_are_looked_at_by_themselves(run):
    cold = np.isin(np.arange(NUM_ITEMS), [3, 30])
    report = run(cold=cold)
    section = report["cold"]
    assert section["items"] == 2
    # The partners of 3 and 30 are 23 and 10: each is once a query and once a positive.
    assert [section[kind]["pairs"] for kind in ("positive", "query", "either")] == [2, 2, 4]
    queries = np.array([23, 10])
    alone = run(pairs=Pairs(queries, (queries + 20) % NUM_ITEMS))
    found = section["positive"]["metrics"]["text"]
    assert found == {metric: alone["metrics"]["text"][metric] for metric in found}
    ratio = section["either"]["ratio"]["popularity"]["mrr"]
    ours, theirs = (section["either"]["metrics"][m]["mrr"] for m in ("pinsage", "popularity"))
    assert ratio == ours / theirs
    assert report["summary"][-1].startswith(
        "Of 2 pairs whose answer is one of 2 items that training did not see, PinSage finds 1.0000"
    )
    assert "cold" not in run()
    assert run(cold=np.zeros(NUM_ITEMS, bool))["cold"]["either"] == {"pairs": 0, "queries": 0}


def test_of_cold_pairs_ratios_are_said_only_where_the_difference_is_clear(run):
    few = run(cold=np.isin(np.arange(NUM_ITEMS), [3, 30]))["summary"][-1]
    assert few.endswith("at hit-rate@5: not clearly different from Text cosine and Popularity.")
    many = run(cold=np.ones(NUM_ITEMS, bool))["summary"][-1]
    assert re.search(r"5: [\d.]+ times Text cosine and [\d.]+ times Popularity\.$", many)


def test_without_ours_there_is_nothing_to_pair(run, methods):
    report = run(methods={"text": methods["text"]})
    assert report["paired"] == {}
    assert report["summary"][0].startswith("Highest, untested, at hit-rate@2 (")
    assert report["summary"][0].endswith(": Text cosine.")
    assert "By chance" in render_page(report)


def test_infinite_scores_and_embeddings_without_spread_still_make_valid_json(run, scorer_of):
    scores = np.full((NUM_ITEMS, NUM_ITEMS), -np.inf)
    same = EmbeddingCosine(np.ones((NUM_ITEMS, 2), np.float32))
    report = run(methods={"pinsage": same, "never": scorer_of(scores)})
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report
    assert report["similarity"]["pinsage"]["kurtosis"] is None
    assert report["metrics"]["never"]["hit_rate@5"] == 5 / (NUM_ITEMS - 1)
    assert "excess kurtosis none" in render_page(report)


def test_cold_items_alone_and_one_pair_are_enough(run):
    cold = EmbeddingCosine(np.zeros((NUM_ITEMS, 2), np.float32))
    report = run(methods={"pinsage": cold}, pairs=Pairs(np.array([3]), np.array([5])))
    assert report["metrics"]["pinsage"]["hit_rate@2"] == 2 / (NUM_ITEMS - 1)
    assert report["similarity"] == {}
    assert "Spread of similarity" not in render_page(report)


def test_progress_counts_the_queries_of_all_methods(run):
    told = []
    run(on_progress=lambda done, total, label: told.append((done, total, label)))
    steps = [(40, "PinSage"), (80, "Text cosine"), (81, "Popularity"), (120, "Popularity")]
    assert told == [(done, 120, label) for done, label in steps]


def test_both_files_are_written_whole(run, tmp_path):
    report = run()
    write_report(report, Draft(tmp_path))
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert (tmp_path / "report.html").read_text() == render_page(report)


def test_nan_is_refused_rather_than_written(run, tmp_path):
    report = run()
    report["metrics"]["pinsage"]["mrr"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(report, Draft(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_valid_svg_with_a_line_for_each_method(run):
    charts = re.findall(r'<svg class="chart".*?</svg>', render_page(run()), re.DOTALL)
    assert [len(ElementTree.fromstring(chart).findall("g")) for chart in charts] == [3, 2]


def test_a_split_without_pairs_says_what_to_do(run):
    none = np.empty(0, np.int64)
    with pytest.raises(DataError, match=r"no test pairs.*data\.pairs"):
        run(pairs=Pairs(none, none))


def test_a_scorer_of_another_catalog_is_named(run):
    with pytest.raises(ValueError, match="wanted text to score 40 items, found 41"):
        run(methods={"text": FeatureCosine(np.ones((41, 2), np.float32))})


def test_a_pool_whose_only_item_may_be_the_query_is_refused():
    with pytest.raises(ValidationError, match=r"candidates\n.*greater than or equal to 2"):
        EvaluationConfig(candidates=1)


def test_ks_are_sorted_and_counted_once():
    assert EvaluationConfig(ks=[50, 10, 50]).ks == (10, 50)
    assert EvaluationConfig().ks == (10, 50, 100, 500)
