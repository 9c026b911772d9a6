"""The stages' metrics: on the board, in the code, and in what Prometheus would read."""

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from pinsage.cluster import metrics
from pinsage.cluster.metrics import METRICS, count, count_up_to, gauge
from tests.runs import ROOT

BOARD = ROOT / "deploy" / "grafana" / "pipeline.json"

_EXPORTED_WITHIN_S = 90


def named_on_the_board() -> set[str]:
    return set(re.findall(r"ray_pinsage_(\w+)", BOARD.read_text(encoding="utf-8")))


def queries_of_the_board() -> list[str]:
    panels = json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_board_shows_every_metric_and_no_other() -> None:
    assert named_on_the_board() == set(METRICS)


def test_panels_of_the_board_ask_one_thing_each_and_do_not_overlap() -> None:
    panels = json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels) > 15
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)


def test_every_metric_is_told_somewhere() -> None:
    code = "".join(
        path.read_text(encoding="utf-8").partition("_told: dict")[2] or path.read_text("utf-8")
        for path in Path(metrics.__file__).parent.glob("*.py")
    )
    assert [name for name in METRICS if f'("{name}"' not in code] == []


def test_nothing_is_counted_where_ray_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    count("train_steps_total", 1, rank="0")
    gauge("no such metric", 1.0)


def tell_everything() -> None:
    for name, metric in METRICS.items():
        tags = dict.fromkeys(metric.tags, "told")
        if metric.kind == "gauge":
            gauge(name, 2.5, **tags)
        else:
            count_up_to(name, 1.5, **tags)
            count_up_to(name, 4.0, **tags)


def exported() -> dict[str, dict[str, float]]:
    """Name to its labels, each with the value of the sample that has it."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        families = text_string_to_metric_families(reply.read().decode())
    return {
        sample.name.removeprefix("ray_pinsage_"): dict.fromkeys(sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if all(sample.labels.get(tag) == "told" for tag in tags_of(sample.name))
    }


def tags_of(name: str) -> tuple[str, ...]:
    metric = METRICS.get(name.removeprefix("ray_pinsage_"))
    return ("no metric of ours",) if metric is None else metric.tags


@pytest.mark.ray
def test_a_worker_s_metrics_come_out_of_ray_s_exporter_as_the_board_asks_for_them(
    local_ray: None,
) -> None:
    teller = ray.remote(num_cpus=0)(tell_everything)
    ray.get(teller.remote(), timeout=60)
    deadline = time.monotonic() + _EXPORTED_WITHIN_S
    found: dict[str, dict[str, float]] = {}
    while found.keys() < METRICS.keys() and time.monotonic() < deadline:
        time.sleep(1)
        found = exported()
    assert found.keys() == METRICS.keys()
    assert found["train_loss"]["rank"] == 2.5
    assert found["train_steps_total"]["rank"] == 4.0
    for query in queries_of_the_board():
        names = re.findall(r"ray_pinsage_(\w+)", query)
        asked = re.findall(r'(\w+)=~?"', query) + re.findall(r"by \((\w+)\)", query)
        for label in asked:
            assert any(label in found[name] for name in names), query
