"""What `python -m ray_jobs.plan` foresees, against what the smoke recipe publishes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pinsage.base.config import load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.plan import plan
from pinsage.cluster.plan_facts import Costs, GraphSize
from pinsage.cluster.plan_nodes import NodePrice, NodeType, place, place_one, read_nodes
from pinsage.cluster.run_config import RunConfig
from ray_jobs.plan import parse_arguments
from tests.runs import ROOT, SMOKE, start_job

SIZE = GraphSize(items=10**6, contexts=3 * 10**5, edges=10**7, pairs=10**6, content_width=64)
CLUSTER = """
head_node_type: head
max_workers: 9
available_node_types:
  head: {node_config: {InstanceType: r7i.2xlarge}}
  stores: {max_workers: 4, node_config: {InstanceType: r7i.4xlarge}}
  trainers: {node_config: {InstanceType: g6.4xlarge}}
"""


def needs(size: GraphSize, *settings: str) -> dict:
    config = load_config(RunConfig, SMOKE, settings)
    return {one.stage: one for one in plan(config, size, cores=2)}


@pytest.mark.parametrize("field", ["items", "contexts", "edges", "pairs", "content_width"])
def test_no_stage_needs_less_for_a_larger_graph(field: str) -> None:
    larger = needs(replace(SIZE, **{field: 2 * getattr(SIZE, field)}))
    for stage, need in needs(SIZE).items():
        for what in ("own_bytes", "disk_bytes", "scratch_bytes", "wire_bytes", "core_s"):
            assert getattr(larger[stage], what) >= getattr(need, what), (stage, what)


def test_the_table_takes_what_its_columns_take() -> None:
    made = needs(SIZE, "walk.num_neighbors=10", "hard_negatives=null")["walk"]
    assert made.disk_bytes == 10**6 * 10 * 8


def test_edges_that_walks_choose_by_chance_take_more_memory_and_disk() -> None:
    size = replace(SIZE, edges=10**9)
    plain, weighted = needs(size), needs(size, "data.edges.0.weight=w")
    faded = needs(size, "data.edges.0.timestamp=t", "walk.choice.half_life=1")
    biased = needs(size, "walk.choice.degree_power=0.5")
    for chosen in (weighted, faded, biased):
        assert chosen["walk"].own_bytes - plain["walk"].own_bytes == 24 * 10**9
    blind = needs(size, "data.edges.0.weight=w", "walk.choice.by_weight=false")
    assert blind["walk"] == plain["walk"]
    for told in (weighted, faded):
        assert told["ingest"].disk_bytes - plain["ingest"].disk_bytes == 8 * 10**9
        assert told["ingest"].own_bytes > plain["ingest"].own_bytes
    assert biased["ingest"] == plain["ingest"]


def test_cutting_minibatches_into_parts_takes_less_memory_and_no_less_work() -> None:
    whole, cut = needs(SIZE)["train"], needs(SIZE, "train.accumulate=4")["train"]
    assert cut.shared_bytes < whole.shared_bytes
    assert cut.own_bytes < whole.own_bytes
    assert cut.flops >= whole.flops


def test_evaluation_is_foreseen_to_hold_what_its_baselines_hold() -> None:
    structure = "graph.structure={width: 128}"
    alone = needs(SIZE, structure, "evaluate.baselines=[popularity]")["evaluate"]
    matrices = SIZE.items * (SIZE.content_width + 128) * 4
    features = "evaluate.baselines=[popularity, features]"
    featured = needs(SIZE, structure, features)["evaluate"]
    assert featured.own_bytes - alone.own_bytes == matrices
    packed = SIZE.edges * 12
    default = needs(SIZE, structure)["evaluate"]
    assert matrices + packed < default.own_bytes - alone.own_bytes < 1.2 * (matrices + packed)
    assert default.core_s > featured.core_s > alone.core_s
    # Several shards are put together in memory, one is mapped.
    cosine = "evaluate.baselines=[item_cosine]"
    mapped, copied = (needs(SIZE, cosine, f"graph.num_shards={n}")["evaluate"] for n in (1, 2))
    assert copied.own_bytes - mapped.own_bytes >= SIZE.edges * 8
    assert mapped.mapped_bytes - copied.mapped_bytes >= SIZE.edges * 8


@pytest.mark.parametrize("kind", ["als", "bpr"])
def test_a_factorization_is_foreseen_to_take_memory_to_fit_and_to_rank(kind: str) -> None:
    widths = f"evaluate.{kind}.factors=[64, 512]"
    alone = needs(SIZE, "evaluate.baselines=[popularity]")["evaluate"]
    ranked = needs(SIZE, f"evaluate.baselines=[popularity, {kind}]", widths)["evaluate"]
    assert ranked.own_bytes - alone.own_bytes > SIZE.items * 512 * 4
    assert ranked.disk_bytes - alone.disk_bytes >= SIZE.items * 512 * 4
    # With many edges, it is fitting that takes the most.
    many = replace(SIZE, edges=10**9)
    fitted = needs(many, f"evaluate.baselines=[{kind}]", widths)["evaluate"]
    assert fitted.own_bytes > many.edges * 24


def test_combined_is_foreseen_as_a_second_pipeline() -> None:
    structure, combined = "graph.structure={width: 128}", "evaluate.baselines=[combined]"
    alone = needs(SIZE, structure, "evaluate.baselines=[popularity]")
    both = needs(SIZE, structure, combined)["evaluate"]
    # It trains: that takes more memory than ranking.
    assert both.own_bytes - alone["evaluate"].own_bytes > 10**9
    again = sum(alone[stage].core_s for stage in ("ingest", "walk"))
    assert both.core_s > again
    assert both.disk_bytes > alone["walk"].disk_bytes
    # Without structural features the graph and the walks are those of the run itself.
    shared = needs(SIZE, combined)["evaluate"]
    assert shared.disk_bytes < both.disk_bytes - alone["walk"].disk_bytes


def test_walks_are_shared_out_and_other_stages_are_not() -> None:
    price = NodePrice(cores=8, memory_gib=1, gbit=10, dollars=1)
    node = NodeType("stores", "small", 3, price)
    large = needs(replace(SIZE, edges=10**9))
    walk = place_one(large["walk"], node, Costs())
    assert walk.count > 1
    assert f"wants {walk.count} nodes, cluster.yaml allows 3" in walk.problem
    assert "on one machine" in place_one(large["index"], node, Costs()).problem
    assert place_one(needs(SIZE)["index"], replace(node, price=price.model_copy(
        update={"memory_gib": 64})), Costs()).problem == ""  # fmt: skip


def test_nodes_are_read_from_a_cluster_yaml_and_priced(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(CLUSTER)
    nodes = read_nodes(cluster, ROOT / "deploy" / "prices.yaml")
    assert [(node.name, node.most) for node in nodes] == [
        ("head", 1),
        ("stores", 4),
        ("trainers", 9),
    ]
    placed = {one.need.stage: one for one in place(list(needs(SIZE).values()), nodes)}
    assert [placed[stage].node.name for stage in ("ingest", "walk", "train")] == [
        "head", "stores", "trainers",
    ]  # fmt: skip
    assert all(one.dollars == pytest.approx(one.hours * one.count * one.node.price.dollars)
               for one in placed.values())  # fmt: skip
    cluster.write_text(CLUSTER.replace("g6.4xlarge", "z9.large"))
    with pytest.raises(ConfigError, match=r"no z9\.large"):
        read_nodes(cluster, ROOT / "deploy" / "prices.yaml")


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/cluster-gcp.yaml"])
def test_the_clusters_that_are_bundled_have_prices(name: str) -> None:
    nodes = read_nodes(ROOT / name, ROOT / "deploy" / "prices.yaml")
    assert [node.name for node in nodes] == ["head", "stores", "trainers"]
    assert all(node.price.gpus == (node.name == "trainers") for node in nodes)


@pytest.mark.parametrize("text", ["name: smoke", "available_node_types: {head: 1}", "- 1", "\xff"])
def test_a_file_that_describes_no_cluster_is_told_of(tmp_path: Path, text: str) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(text, encoding="latin-1")
    for files in ((cluster, ROOT / "deploy" / "prices.yaml"), (ROOT / "cluster.yaml", cluster)):
        with pytest.raises(ConfigError, match=str(cluster)):
            read_nodes(*files)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "many"])
def test_a_size_that_is_no_number_is_refused_by_its_flag(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", "--config", "any.yaml", f"--edges={text}"])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert f"argument --edges: wanted a number such as 1000000 or 1e6, found '{text}'" in (
        capsys.readouterr().err
    )


def test_the_command_ends_with_1_where_memory_will_not_do(tmp_path: Path) -> None:
    sizes = ["--contexts", "1e9", "--edges", "18e9", "--width", "4352"]
    arguments = ["--config", str(SMOKE), "--set", f"output={tmp_path}"]
    job = start_job("ray_jobs.plan", *arguments, "--items", "2e9", *sizes)
    text, errors = job.communicate(timeout=120)
    assert (job.returncode, "does NOT fit here" in text) == (1, True), errors
    job = start_job("ray_jobs.plan", *arguments, "--json", "--items", "1000", "--contexts", "100",
                    "--edges", "5000", "--width", "8")  # fmt: skip
    text, errors = job.communicate(timeout=120)
    assert (job.returncode, len(json.loads(text)["needs"])) == (0, 6), errors
    job = start_job("ray_jobs.plan", *arguments)
    _, errors = job.communicate(timeout=120)
    assert (job.returncode, "--items" in errors) == (2, True)
