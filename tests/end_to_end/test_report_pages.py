"""The pages that evaluations write, in a real headless Chromium of a phone's width."""

from importlib.resources import files

import numpy as np
import pytest
from playwright.sync_api import Browser

from pinsage.evaluation.page_tables import metric_section
from pinsage.evaluation.plots import Series, log_chart
from pinsage.evaluation.protocol import EvaluationConfig
from pinsage.evaluation.reproduction import Findings, Outcome, summarize
from pinsage.evaluation.reproduction_page import as_page

pytestmark = pytest.mark.browser

PROTOCOL = {
    "data": "books", "split": "test", "pairs": 4, "pairs_are": "all of the split",
    "candidates": 9, "candidates_are": "all items", "seeds": [0], "num_layers": 2,
    "num_neighbors": 50, "projected_width": 8, "embedding_width": 4, "loss": "max_margin",
    "epochs": 2, "minibatch_size": 64, "max_hard_negatives": 6, "mrr_scale": 100,
}  # fmt: skip


def test_names_of_methods_are_whole_beside_the_ladder_and_leave_room_in_its_table(
    browser: Browser,
) -> None:
    content = "image_embedding_of_a_large_network"
    hits = Outcome({"hit_rate@10": np.array([[1.0, 0.0, 1.0, 1.0]])}, None, [])
    ladder = dict.fromkeys([content, "mean-pooling-hard", "mean-pooling-xent"], hits)
    summary = summarize(
        Findings(ladder, {}, {}, [content]), np.arange(4), protocol=PROTOCOL, samples=9, seed=0
    )
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_content(as_page(summary))
    left = page.locator("svg.ladder").bounding_box()
    assert left is not None
    for name in page.locator("svg.ladder text[text-anchor=end]").all():
        box = name.bounding_box()
        assert box is not None
        assert box["x"] >= left["x"]
    head = page.locator("tbody th").first.bounding_box()
    assert head is not None
    assert head["width"] < 390 / 2
    page.close()


def test_tables_are_whole_where_the_window_has_room(browser: Browser) -> None:
    ks = EvaluationConfig().ks
    metrics = {f"{name}@{k}": 0.5 for name in ("hit_rate", "recall", "ndcg") for k in ks}
    metrics |= {"scaled_mrr": 0.5, "mrr": 0.5}
    names = ("pinsage", "transitions")
    report = {
        "protocol": PROTOCOL | {"seed": 0, "queries": 4, "intervals": "95%"},
        "metrics": dict.fromkeys(names, metrics),
        "chance": metrics,
        "intervals": {name: {metric: [0.4, 0.6] for metric in metrics} for name in names},
    }
    style = files("pinsage.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    page.set_content(f"<style>{style}</style><main>{metric_section(report)}</main>")
    cut = "all => all.map(one => one.scrollWidth - one.clientWidth)"
    assert page.locator(".scroll").evaluate_all(cut) == [0, 0]
    page.close()


def test_places_of_an_axis_end_inside_the_picture(browser: Browser) -> None:
    line = Series("ours", 0, [1.0, 100_000.0], [0.0, 1.0])
    chart = log_chart([line], x_ticks=[1.0, 100_000.0], names=("K", "hit-rate"))
    style = files("pinsage.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_content(f"<style>{style}</style><main>{chart}</main>")
    drawn = page.locator("svg").bounding_box()
    last = page.locator("text.middle", has_text="100000").bounding_box()
    assert drawn is not None
    assert last is not None
    assert last["x"] + last["width"] <= drawn["x"] + drawn["width"]
    page.close()
