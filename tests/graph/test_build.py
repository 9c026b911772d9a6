"""The external build gives what a dictionary of edges gives, however it is cut or interrupted."""

import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinsage.base.artifacts import Draft, publish
from pinsage.base.errors import DataError
from pinsage.base.logs import Progress
from pinsage.graph import DataConfig, Graph
from pinsage.graph.build import BuildConfig
from pinsage.graph.edges import read_part
from pinsage.graph.ingest import ingest
from pinsage.graph.pieces import save_piece
from pinsage.graph.tasks import Threads
from pinsage.graph.times import TimeScale, in_order

NUM_ITEMS = 9
ITEM_KEYS = [f"i{number}" for number in range(NUM_ITEMS)]

edge_rows = st.lists(
    st.tuples(
        st.integers(0, NUM_ITEMS - 1),
        st.integers(0, 6),
        st.sampled_from([0.5, 1.0, 2.0]),
        st.integers(-5, 50),
    ),
    min_size=1,
    max_size=60,
)


def tables(folder, rows, *, row_group_size=1_000):
    """Write items, edges with weights and times, and pairs whose split is given."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item_id": ITEM_KEYS}), folder / "items.parquet")
    items, contexts, weights, days = zip(*rows, strict=True)
    columns = {
        "item_id": [ITEM_KEYS[item] for item in items],
        "context_id": list(contexts),
        "weight": list(weights),
        "day": list(days),
    }
    pq.write_table(pa.table(columns), folder / "edges.parquet", row_group_size=row_group_size)
    pairs = {
        "query_item": ITEM_KEYS[:3],
        "positive_item": ITEM_KEYS[1:4],
        "split": ["train", "valid", "test"],
    }
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    return DataConfig.model_validate({
        "items": {"path": str(folder / "items.parquet")},
        "edges": [
            {"path": str(folder / "edges.parquet"), "weight": "weight", "timestamp": "day"},
        ],
        "pairs": {"path": str(folder / "pairs.parquet"), "split": "split"},
    })


def published(folder, config, *, num_shards=1, build=None, tasks=None, order="given"):
    folder.mkdir(parents=True, exist_ok=True)
    directory = folder / f"{len(list(folder.iterdir())):012d}"
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        ingest(config, draft, num_shards=num_shards, seed=0, build=build, tasks=tasks, order=order)
    return Graph.open(directory, check_digests=True)


def merged(rows):
    """Context, item to the sum of weights and the newest day, in order."""
    edges = {}
    for item, context, weight, day in rows:
        total, newest = edges.get((context, item), (0.0, day))
        edges[context, item] = (total + weight, max(newest, day))
    return dict(sorted(edges.items()))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=edge_rows,
    rows_per_part=st.integers(7, 70),
    edges_per_bucket=st.integers(6, 70),
    num_shards=st.integers(1, 4),
    workers=st.integers(1, 2),
)
def test_the_build_merges_edges_as_a_dictionary_does(
    tmp_path_factory, rows, rows_per_part, edges_per_bucket, num_shards, workers
):
    folder = tmp_path_factory.mktemp("build")
    config = tables(folder / "tables", rows, row_group_size=7)
    build = BuildConfig(
        rows_per_part=rows_per_part, edges_per_bucket=edges_per_bucket, workers=workers
    )
    graph = published(folder / "graph", config, num_shards=num_shards, build=build)
    wanted = merged(rows)
    # Context ids are the ranks of their keys as text; one digit each here.
    codes = {context: code for code, context in enumerate(sorted({c for c, _ in wanted}))}
    whole = graph.adjacency()
    newest = max(day for _, day in wanted.values())
    by_context = [
        (codes[context], item, weight, newest - day)
        for (context, item), (weight, day) in wanted.items()
    ]
    by_item = sorted((item, code, weight, age) for code, item, weight, age in by_context)
    for rows_of_side, starts, cols, weights, ages in (
        (by_context, whole.context_starts, whole.context_items, *context_extras(whole)),
        (by_item, whole.item_starts, whole.item_contexts, *item_extras(whole)),
    ):
        owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        found = zip(owners.tolist(), cols.tolist(), weights.tolist(), ages.tolist(), strict=True)
        assert list(found) == rows_of_side
    assert graph.counts.repeated_edges == len(rows) - len(wanted)


def context_extras(whole):
    return whole.context_weights, whole.context_ages


def item_extras(whole):
    return whole.item_weights, whole.item_ages


@pytest.fixture(scope="module")
def timed_rows():
    draw = np.random.default_rng(3)
    count = 400
    return list(
        zip(
            draw.integers(NUM_ITEMS, size=count).tolist(),
            draw.integers(60, size=count).tolist(),
            draw.random(count).tolist(),
            draw.permutation(count).tolist(),
            strict=True,
        )
    )


SMALL = BuildConfig(rows_per_part=50, edges_per_bucket=60, workers=1)


class Stopped(Exception):
    """What an interrupted build ends with."""


class Interrupted:
    """Runs so many steps, then fails."""

    def __init__(self, steps):
        self.left = steps
        self.done = 0

    def __call__(self, progress):
        return self.run

    def run(self, step, numbers, name):
        for number in numbers:
            if self.left == self.done:
                raise Stopped
            step(number)
            self.done += 1


@pytest.mark.parametrize(("derive", "order"), [(False, "given"), (True, "locality")])
def test_a_build_stopped_after_any_step_goes_on_to_the_same_bytes(
    tmp_path, timed_rows, derive, order
):
    config = tables(tmp_path / "tables", timed_rows, row_group_size=50)
    if derive:
        config = config.model_copy(update={"pairs": None})
    unbroken = published(tmp_path / "unbroken", config, num_shards=2, build=SMALL, order=order)
    directory = tmp_path / "graph" / ("0" * 12)
    for steps in (3, 5, 9, 2, 10, 4, 1, 10**6):
        tasks = Interrupted(steps)
        try:
            with publish(directory, stage="graph", config={}, parents={}) as draft:
                ingest(config, draft, num_shards=2, seed=0, build=SMALL, tasks=tasks, order=order)
        except Stopped:
            assert tasks.done == steps
    resumed = Graph.open(directory, check_digests=True)
    assert resumed.artifact.manifest.files == unbroken.artifact.manifest.files


@pytest.mark.parametrize("derive", [False, True])
def test_a_build_opens_few_files_however_many_parts_there_are(tmp_path, timed_rows, derive):
    config = tables(tmp_path / "tables", timed_rows, row_group_size=10)
    if derive:
        config = config.model_copy(update={"pairs": None})
    whole = published(tmp_path / "whole", config, num_shards=2)
    parts = BuildConfig(rows_per_part=10, edges_per_bucket=50, workers=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 16, hard))
    try:
        cut = published(tmp_path / "cut", config, num_shards=2, build=parts)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cut.artifact.manifest.files == whole.artifact.manifest.files


def test_a_build_stopped_within_a_step_goes_on_to_the_same_bytes(tmp_path, timed_rows, monkeypatch):
    config = tables(tmp_path / "tables", timed_rows, row_group_size=50)
    unbroken = published(tmp_path / "unbroken", config, num_shards=2, build=SMALL)
    draft = Draft(tmp_path / "draft")

    def stop_before_the_second_piece(folder, *content):
        if folder.parent.name == "placed":
            raise Stopped
        save_piece(folder, *content)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr("pinsage.graph.build_steps.save_piece", stop_before_the_second_piece)
        ingest(config, draft, num_shards=2, seed=0, build=SMALL)
    ingest(config, draft, num_shards=2, seed=0, build=SMALL)
    for name in unbroken.artifact.manifest.files:
        assert (draft.path / name).read_bytes() == (unbroken.artifact.path / name).read_bytes()


def test_finished_steps_are_not_done_again(tmp_path, timed_rows, monkeypatch):
    config = tables(tmp_path / "tables", timed_rows, row_group_size=50)
    draft = Draft(tmp_path / "draft")
    with pytest.raises(Stopped):
        ingest(config, draft, num_shards=1, seed=0, build=SMALL, tasks=Interrupted(5))
    read = []

    def counted(part, *arguments, **settings):
        read.append(part.row_groups.start)
        return read_part(part, *arguments, **settings)

    monkeypatch.setattr("pinsage.graph.build_steps.read_part", counted)
    ingest(config, draft, num_shards=1, seed=0, build=SMALL)
    assert sorted(read) == [5, 6, 7]


def test_unusable_tables_leave_nothing_behind(tmp_path, timed_rows):
    config = tables(tmp_path / "tables", [*timed_rows, (0, 0, -1.0, 0)])
    draft = Draft(tmp_path / "draft")
    with pytest.raises(DataError, match=r"'weight' is null, or not a finite number .* in 1"):
        ingest(config, draft, num_shards=1, seed=0, build=SMALL)
    assert not draft.path.exists()


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    data=st.data(),
)
def test_numbers_in_order_are_those_of_a_sort(values, cut, data):
    places = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    array = np.array(values, np.int64)
    found = in_order(lambda: [array[:cut], array[cut:]], places)
    assert found == [sorted(values)[place] for place in places]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_encoded_floats_are_ordered_as_the_floats_are(values):
    codes = TimeScale("float").encode(np.array(values))
    for first, second, code, other in zip(values, values[1:], codes, codes[1:], strict=False):
        assert (first < second, first == second) == (code < other, code == other)


def test_ages_of_timestamps_are_seconds_and_of_numbers_their_own_unit():
    newest = np.datetime64("2020-01-02", "us")
    times = np.array(["2020-01-01", "2020-01-02"], "datetime64[us]")
    scale = TimeScale("timestamp")
    code = int(scale.encode(np.array([newest]))[0])
    assert scale.ages(code, scale.encode(times)).tolist() == [86_400.0, 0.0]
    # Cold items may have edges that are newer than all of the graph's.
    assert scale.ages(code - 10**6, scale.encode(times)).tolist() == [86_399.0, 0.0]
    days = TimeScale("float")
    codes = days.encode(np.array([-1.5, 3.0]))
    assert days.ages(int(codes[1]), codes).tolist() == [4.5, 0.0]
    assert days.ages(int(codes[0]), codes).tolist() == [0.0, 0.0]


def test_ages_of_times_further_apart_than_int64_holds_are_their_true_ones():
    lowest, highest = -(2**63) + 1, 2**63 - 1
    ages = TimeScale("integer").ages(highest, np.array([lowest, 0, highest]))
    np.testing.assert_allclose(ages, [2.0**64, 2.0**63, 0.0])


def test_threads_stop_at_the_first_error():
    def step(number):
        raise Stopped(number)

    with pytest.raises(Stopped):
        Threads(1, Progress("build", 3, "steps"))(step, range(3), "steps")


@pytest.mark.parametrize("derive", [False, True])
def test_the_locality_order_renames_nodes_and_changes_nothing_else(tmp_path, timed_rows, derive):
    config = tables(tmp_path / "tables", timed_rows, row_group_size=50)
    if derive:
        config = config.model_copy(update={"pairs": None})
    given = published(tmp_path / "given", config, build=SMALL)
    moved = published(tmp_path / "moved", config, num_shards=2, build=SMALL, order="locality")
    again = published(tmp_path / "again", config, num_shards=2, order="locality")
    assert again.artifact.manifest.files == moved.artifact.manifest.files
    assert moved.catalog().keys != given.catalog().keys
    assert named_edges(moved) == named_edges(given)
    assert named_pairs(moved) == named_pairs(given)
    degrees = [graph.features().gather(np.arange(NUM_ITEMS))[:, -1] for graph in (given, moved)]
    by_key = [
        dict(zip(graph.catalog().keys, values.tolist(), strict=True))
        for graph, values in zip((given, moved), degrees, strict=True)
    ]
    assert by_key[0] == by_key[1]


def named_edges(graph):
    """Edges by the keys of their ends, from either side, with weights and ages."""
    whole, items = graph.adjacency(), graph.catalog().keys
    contexts = pq.read_table(graph.artifact.path / "contexts.parquet")["context_key"].to_pylist()
    found = []
    for starts, cols, owners, others, weights, ages in (
        (whole.item_starts, whole.item_contexts, items, contexts, *item_extras(whole)),
        (whole.context_starts, whole.context_items, contexts, items, *context_extras(whole)),
    ):
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        assert all(np.all(np.diff(cols[a:b]) > 0) for a, b in pairwise(starts))
        values = zip(rows, cols, weights.tolist(), ages.tolist(), strict=True)
        found.append(sorted((owners[row], others[col], *rest) for row, col, *rest in values))
    return found


def named_pairs(graph):
    """Pairs by the keys of their items, in order, a list for each split."""
    keys = graph.catalog().keys
    return [
        [(keys[query], keys[positive]) for query, positive in zip(*columns, strict=True)]
        for split in ("train", "valid", "test")
        for columns in [(graph.pairs(split).queries, graph.pairs(split).positives)]
    ]
