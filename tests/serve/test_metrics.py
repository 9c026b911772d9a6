import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.metrics import Metrics
from tests.serve.fakes import KEYS, NUM_ITEMS

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "server.json"


@pytest.fixture
def metrics() -> Metrics:
    """Every metric with a value."""
    made = Metrics()
    made.answered("/v1/items", "GET", 200, 0.004)
    made.served("abc", {"published": 7, "live": 2})
    made.searched("plain")
    made.rechecked(1.0)
    return made


def read(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return read(metrics.written().decode())


def test_every_metric_and_label_that_the_board_asks_for_exists(metrics: Metrics):
    families = text_string_to_metric_families(metrics.written().decode())
    labels: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = set()
    for query in queries:
        found = re.findall(r"(pinsage_\w+)\{((?:[^{}\"]|\"[^\"]*\")*)\}", query)
        assert found, query
        for name, selectors in found:
            asked.add(name)
            chosen = re.findall(r"(\w+)=~?\"", selectors)
            grouped = re.findall(r"by \(([\w, ]+)\)", query)
            wanted = {*chosen, *(label.strip() for part in grouped for label in part.split(","))}
            # Prometheus itself adds these two.
            assert wanted - {"job", "instance"} <= labels[name], query
    ours = {name for name in labels if name.startswith("pinsage_")}
    families_asked = {re.sub(r"_(bucket|total)$", "", name) for name in asked}
    families_ours = {re.sub(r"_(bucket|total|sum|count|created)$", "", name) for name in ours}
    assert families_asked == families_ours


def test_panels_of_the_board_do_not_overlap():
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_a_switch_leaves_one_generation_at_one(metrics: Metrics):
    metrics.served("def", {"published": 9})
    found = samples(metrics)
    assert found["pinsage_generation_info", "abc"] == 0
    assert found["pinsage_generation_info", "def"] == 1
    assert found["pinsage_items", "published"] == 9


def test_the_running_recall_starts_at_the_first_comparison_and_moves_towards_the_next():
    metrics = Metrics()
    metrics.rechecked(0.5)
    assert samples(metrics)["pinsage_recall",] == 0.5
    for _ in range(200):
        metrics.rechecked(1.0)
    found = samples(metrics)
    assert 0.99 < found["pinsage_recall",] < 1
    assert found["pinsage_rechecks_total",] == 201


def test_a_server_tells_what_it_serves_and_how_often_it_searches(generation: Generation):
    with TestClient(build_api(generation, ServeConfig())) as client:
        before = read(client.get("/metrics").text)
        client.get(f"/v1/items/{KEYS[0]}/similar")
        client.get(f"/v1/items/{KEYS[0]}/similar", params={"filter": '{"year": 1801}'})
        after = read(client.get("/metrics").text)
    assert after["pinsage_generation_info", generation.parts.digest] == 1
    assert after["pinsage_items", "published"] == NUM_ITEMS
    strategies = [name for name in after if name[0] == "pinsage_searches_total"]
    counted = {name[1]: after[name] - before.get(name, 0) for name in strategies}
    assert sum(counted.values()) == 2
    assert len([number for number in counted.values() if number]) == 2
