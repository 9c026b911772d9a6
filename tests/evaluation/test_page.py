"""The page of a small report that has every part, and of reports that lack some."""

import json
import re
from html.parser import HTMLParser

import pytest

from pinsage.evaluation.page import render_page
from pinsage.evaluation.plots import Series, density_chart

HOSTILE = '<script>alert("x")</script> & <b>bold</b>'
METRICS = {
    "hit_rate@2": 0.5,
    "scaled_mrr": 0.4,
    "recall@2": 0.45,
    "ndcg@2": 0.35,
    "coverage@10": 0.25,
    "largest_share@10": 0.015,
    "gini@10": 0.6,
    "diversity@10": 0.7,
    "mean_popularity@10": 12.5,
}
MEANS = ("hit_rate@2", "scaled_mrr", "recall@2", "ndcg@2", "diversity@10")
GAP = {"difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.0004}


def item(number, image=None, **more):
    return {"item_id": number, "title": f"{HOSTILE} {number}", "image": image, "degree": 3, **more}


@pytest.fixture
def report():
    metrics = {"pinsage": METRICS, HOSTILE: METRICS | {"hit_rate@2": 0.3}}
    intervals = {name: {metric: [0.1, 0.9] for metric in MEANS} for name in metrics}
    paired = {HOSTILE: dict.fromkeys(MEANS[:4], GAP)}
    answers = [item(2, score=0.5, held_out=True), item(3, score=None, held_out=False)]
    of_cold = {
        "pairs": 7,
        "queries": 5,
        "metrics": metrics,
        "intervals": intervals,
        "paired": paired,
        "ratio": {HOSTILE: {"hit_rate@2": 1.667}},
    }
    return {
        "summary": ["PinSage leads at hit-rate@2."],
        "protocol": {
            "data": HOSTILE, "split": "test", "pairs": 9, "pairs_in_split": 9,
            "pairs_are": "all of the split", "queries": 6, "items": 40, "candidates": 39,
            "candidate_pool": "every item but the query", "ties": "exact", "mrr_scale": 100,
            "intervals": "95%", "bootstrap_samples": 50, "list_length": 10, "mean_degree": 4.5,
            "pairs_without_edges": 1, "pairs_seen_in_train": 2,
            "seed": 0, "p_values": "two-sided sign-flip test",
        },
        "metrics": metrics,
        "chance": dict.fromkeys(METRICS, 0.0256),
        "statements": {"pinsage": ["hit-rate@2 = 0.5"]},
        "intervals": intervals,
        "paired": paired,
        "curves": {"k": [1, 2], "hit_rate": {name: [0.2, 0.4] for name in metrics}},
        "sheets": [{"query": item(1), "columns": dict.fromkeys(metrics, answers)}],
        "similarity": {},
        "map": {
            "how": "t-SNE of 2 random items",
            "points": [item(n, x=0.1 * n, y=0.2, near=[1 - n]) for n in (0, 1)],
        },
        "cold": {"items": 2, "positive": of_cold, "query": {"pairs": 0}, "either": {"pairs": 0}},
    }  # fmt: skip


class Balance(HTMLParser):
    """Checks that what is opened is closed, and notes every address and id."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids, self.scripts = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Opened and closed at once, as SVG allows."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page):
    found = Balance()
    found.feed(page)
    assert found.open == []
    return found


def test_the_page_is_whole_escaped_and_asks_for_nothing_elsewhere(report):
    page = render_page(report)
    found = read(page)
    assert {"#" + name for name in found.ids} == set(found.addresses)
    # The map's points and the page's own; nothing of the data became a script.
    assert found.scripts == 2
    assert "<script>alert" not in page
    assert (
        "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt; 2" in page
    )
    assert not re.search(r"url\(|@import", page)


def test_the_map_s_points_survive_their_way_through_the_page(report):
    points = re.search(r"data-points>(.*?)</script>", render_page(report), re.DOTALL)
    assert json.loads(points.group(1)) == report["map"]["points"]


def test_pictures_are_shown_from_the_page_or_the_web_and_from_nowhere_else(report):
    images = {
        "data:image/png;base64,AAAA": 1,
        "https://example.org/a.jpg?x=1&y=2": 1,
        "javascript:alert(1)": 0,
        "file:///etc/passwd": 0,
    }
    for image, shown in images.items():
        report["sheets"][0]["query"]["image"] = image
        page = render_page(report)
        assert page.count("<img ") == shown
    report["sheets"][0]["query"]["image"] = 'https://x/"onerror="alert(1)'
    assert '"onerror=' not in render_page(report)


def test_every_metric_is_shown_with_its_meaning_and_its_interval(report):
    page = render_page(report)
    for shown in ("NDCG@2", "recall@2", "25.0%", "1.5%", "12.5", "0.1000 to 0.9000", "p &lt; .001"):
        assert shown in page
    assert "share of the catalog that is in anybody&#x27;s first K" in page
    assert "2 of the pairs are train pairs too" in page
    assert "ours is 1.67 times it" in page
    (first, second) = re.findall(r'<tr class="chance">.*?</tr>', page)
    assert first.count("<td>0.0256</td>") == second.count("<td>0.0256</td>") == 2
    report["cold"]["positive"]["paired"][HOSTILE]["hit_rate@2"] = GAP | {"p": 0.5}
    assert "times it" not in render_page(report)


def test_one_is_counted_as_one(report):
    report["protocol"] |= {"pairs": 1, "queries": 1}
    report["cold"]["positive"] |= {"pairs": 1, "queries": 1}
    page = render_page(report)
    for text in ("1 pair, ", "1 pair of 1 query;", "1 distinct query;", "mean over 1 query,"):
        assert text in page
    assert not re.search(r"\b1 (pairs|queries)", page)


def test_what_a_report_lacks_leaves_no_trace(report):
    for part in ("cold", "map"):
        del report[part]
    report["paired"], report["sheets"] = {}, []
    for values in report["metrics"].values():
        for metric in [name for name in values if not name.startswith("hit_rate")]:
            values.pop(metric, None)
    found = read(render_page(report))
    assert found.ids == ["found", "figures", "words", "protocol"]
    assert found.scripts == 1


def test_as_many_methods_as_there_are_have_lines_that_differ(report):
    names = ["pinsage", *(f"m{n}" for n in range(12))]
    report["metrics"] = dict.fromkeys(names, METRICS)
    report["intervals"] = dict.fromkeys(names, report["intervals"]["pinsage"])
    report["curves"]["hit_rate"] = {name: [0.2, 0.4] for name in names}
    report["cold"], report["sheets"] = None, []
    legend = re.search(r'<ul class="legend">(.*?)</ul>', render_page(report)).group(1)
    lines = re.findall(r'<path class="line (c\d)" d="[^"]*"([^/]*)/>', legend)
    assert len(lines) == len(set(lines)) == len(names)


def test_curves_that_are_narrow_still_have_places_on_their_axis():
    narrow = Series("all alike", 0, [0.9625, 0.9875], [0.0, 40.0])
    chart = density_chart([narrow], names=("cosine", "density"))
    assert ">0.963</text>" in chart
    assert ">0.988</text>" in chart


def test_a_title_of_any_length_and_direction_leaves_room_for_the_rest(report):
    title = "\u202eevil " * 1000
    report["sheets"][0]["query"]["title"] = title
    page = render_page(report)
    assert f'<bdi>{title}</bdi></h3><span class="soft">in 3 contexts</span>' in page
    assert re.search(r"\.query h3[^{]*\{[^}]*-webkit-line-clamp", page)
