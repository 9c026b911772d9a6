"""The tables of a reproduction, from outcomes whose answers are known."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from pinsage.base.artifacts import Draft
from pinsage.evaluation.reproduction import Findings, Outcome, summarize
from pinsage.evaluation.reproduction_page import as_markdown, as_page, write_reproduction

QUERIES = np.repeat(np.arange(150), 2)
PROTOCOL = {
    "data": "made <up>", "split": "test", "pairs": 300, "pairs_are": "all of the split",
    "candidates": 999, "candidates_are": "all items", "seeds": [0, 1], "num_layers": 2,
    "num_neighbors": 50, "projected_width": 8, "embedding_width": 4, "loss": "max_margin",
    "epochs": 2, "minibatch_size": 64, "max_hard_negatives": 6, "mrr_scale": 100,
}  # fmt: skip


def outcome(rate, *, seeds=2, kurtosis=1.0, step_s=0.5, steps=40, looks=()):
    rng = np.random.default_rng(int(1_000 * rate))
    hits = (rng.random((seeds, 300)) < rate).astype(np.float64)
    return Outcome(
        values={"hit_rate@10": hits, "hit_rate@500": hits, "scaled_mrr": hits / 2},
        similarity={
            "edges": [-1.0, 0.0, 1.0], "density": [0.25, 0.75], "kurtosis": kurtosis,
            "mean": 0.1, "standard_deviation": 0.2,
        },
        paces=[
            {"steps": steps, "minibatch_size": 64, "step_s": step_s, "validations": list(looks)}
            for _ in range(seeds)
        ] if steps else [],
    )  # fmt: skip


@pytest.fixture
def findings():
    return Findings(
        ladder={
            "visual": outcome(0.1, seeds=1, steps=0, kurtosis=1.2),
            "combined": outcome(0.3),
            "max-pooling": outcome(0.5),
            "mean-pooling": outcome(0.2),
            "mean-pooling-xent": outcome(0.1),
            "mean-pooling-hard": outcome(0.6),
            "pinsage": outcome(0.9, kurtosis=0.4),
        },
        neighbors={"T = 10": outcome(0.4), "T = 20": outcome(0.9)},
        minibatches={
            "512": outcome(0.5, looks=[[10, 0.5], [20, 0.99], [40, 1.0]]),
            "2048": outcome(0.5, step_s=2.0, looks=[[10, 0.8], [40, 0.9]]),
        },
        content=["visual"],
    )


@pytest.fixture
def summary(findings):
    return summarize(findings, QUERIES, protocol=PROTOCOL, samples=200, seed=0)


def test_what_does_not_hold_is_said_first_and_what_holds_after(summary):
    said = summary["sentences"]["table1"]
    assert [sentence.split(":")[0] for sentence in said if "does not hold" in sentence] == [
        "mean-pooling above max-pooling"
    ]
    assert "mean-pooling above max-pooling" in said[0]
    assert len(said) == 6


def test_a_ladder_without_some_methods_has_fewer_steps(findings):
    ladder = {name: findings.ladder[name] for name in ("visual", "pinsage")}
    few = Findings(ladder, {}, {}, ["visual"])
    summary = summarize(few, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    assert summary["table1"]["steps"] == []
    assert {"table3", "table4"} & set(summary) == set()


def test_convergence_is_the_first_look_at_a_quality_that_all_sizes_reach(summary):
    assert summary["table3"]["512"]["steps"] == 20
    assert summary["table3"]["2048"]["steps"] == 40
    assert summary["table3"]["512"]["total_s"] == pytest.approx(10)
    assert "Minibatches of 512 pairs" in summary["sentences"]["table3"][0]
    assert "in the paper 2048 is the fastest" in summary["sentences"]["table3"][0]


def test_times_below_a_second_are_told_by_two_digits(findings):
    quick = {
        name: outcome(0.5, step_s=step_s, looks=[[4, 0.5]])
        for name, step_s in (("512", 0.0081), ("2048", 0.02))
    }
    some = Findings(findings.ladder, {}, quick, [])
    found = summarize(some, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    assert "in the least time (0.032 s)" in found["sentences"]["table3"][0]
    assert "| 512 | 8.1 ms | 4 | 0.032 s |" in as_markdown(found)


def test_sizes_that_find_nothing_have_no_fastest(findings):
    nothing = {name: outcome(0.0, looks=[[10, 0.0], [20, 0.0]]) for name in ("512", "2048")}
    some = Findings(findings.ladder, {}, nothing | {"64": outcome(0.5, looks=[[10, 0.5]])}, [])
    found = summarize(some, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    assert found["sentences"]["table3"] == [
        "Minibatches of 512 and 2048 pairs found nothing on valid pairs, so there is no quality "
        "that all sizes reach."
    ]
    assert found["table3"]["64"]["steps"] == found["table3"]["512"]["steps"] == 40
    assert found["table3"]["64"]["total_s"] is None


def test_sizes_without_a_log_are_left_out_of_what_all_reach(findings):
    some = findings.minibatches | {"64": outcome(0.5, step_s=None)}
    unlogged = Findings(findings.ladder, {}, some, [])
    found = summarize(unlogged, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    assert found["table3"].pop("64") == {
        "step_s": None, "steps": 40, "total_s": None, "best_validation": None,
    }  # fmt: skip
    alone = Findings(findings.ladder, {}, findings.minibatches, [])
    without = summarize(alone, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    assert found["table3"] == without["table3"]
    assert found["sentences"]["table3"] == [
        "No log says how good minibatches of 64 pairs became, so they are left out.",
        *without["sentences"]["table3"],
    ]
    assert "| 64 |  | 40 |  |  |" in as_markdown(
        summarize(unlogged, QUERIES, protocol=PROTOCOL, samples=50, seed=0)
    )


def test_the_caption_says_of_what_the_intervals_are(findings, summary):
    text = as_markdown(summary)
    assert "over queries and seeds, those of content over queries alone;" in text
    assert "over queries and seeds; the last" in text.partition("## Table 4")[2]
    one = PROTOCOL | {"seeds": [0]}
    text = as_markdown(summarize(findings, QUERIES, protocol=one, samples=50, seed=0))
    assert text.count("Means from one seed with 95% intervals over queries;") == 2
    assert "over queries and seeds" not in text
    rings = PROTOCOL | {"held_out_contexts": 26}
    text = as_markdown(summarize(findings, QUERIES, protocol=rings, samples=50, seed=0))
    assert "95% intervals over held-out contexts and seeds" in text


def test_the_wider_spread_of_cosines_is_found(summary):
    assert summary["sentences"]["figure4"] == [
        "Kurtosis 1.20 of visual and 0.40 of pinsage: the paper's order, pinsage's the lowest, "
        "holds."
    ]


def test_training_takes_its_steps_at_the_median_pace(summary):
    assert summary["table1"]["training"]["pinsage"] == {"steps": 40, "seconds": 20.0}
    assert "visual" not in summary["table1"]["training"]


def test_markdown_has_every_table_with_its_intervals(summary):
    text = as_markdown(summary)
    for title in ("Table 1", "Table 3", "Table 4", "Figure 4"):
        assert f"## {title}" in text
    row = next(line for line in text.splitlines() if line.startswith("| pinsage | "))
    assert row.count("[") == 3
    assert row.endswith("| 20 s | 67% / 0.59 |")


def test_a_long_name_of_a_group_is_cut_in_the_figure_and_whole_on_pointing_at_it(findings):
    name = "image_embedding_of_resnet_50"
    ladder = {name: findings.ladder["visual"], "pinsage": findings.ladder["pinsage"]}
    few = summarize(
        Findings(ladder, {}, {}, [name]), QUERIES, protocol=PROTOCOL, samples=50, seed=0
    )
    figure = as_page(few).partition('<svg class="ladder')[2].partition("</svg>")[0]
    assert f">image_embedding_ ...<title>{name}</title></text>" in figure


def test_all_files_are_written_and_the_page_is_whole(summary, tmp_path):
    write_reproduction(summary, Draft(tmp_path))
    assert json.loads((tmp_path / "reproduce.json").read_text()) == summary
    assert (tmp_path / "ladder.svg").read_text().count("<title>") == 14
    page = (tmp_path / "reproduce.html").read_text()
    assert "made &lt;up&gt;" in page
    opened = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "path", "circle"}:
                opened.append(tag)

        def handle_endtag(self, tag):
            if tag not in {"path", "circle"}:
                assert opened.pop() == tag

    Balanced().feed(page)
    assert not opened
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
