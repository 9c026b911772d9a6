import logging
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import Draft
from pinsage.base.errors import DataError
from pinsage.graph.ingest import ingest
from pinsage.graph.schema import SPLITS
from pinsage.graph.synthetic import write_tables

ARRAYS = ("item_starts", "item_contexts", "context_starts", "context_items")


def test_ids_are_rows_of_the_items_table_and_ranks_of_context_keys(bench):
    graph = bench.ingest(bench.six())
    adjacency = graph.adjacency()
    assert graph.catalog().keys == list("abcdef")
    assert adjacency.item_starts.tolist() == [0, 1, 3, 4, 5, 6, 6]
    assert adjacency.item_contexts.tolist() == [0, 0, 1, 0, 1, 2]
    assert adjacency.context_starts.tolist() == [0, 3, 5, 6]
    assert adjacency.context_items.tolist() == [0, 1, 2, 1, 3, 4]


def test_features_are_the_configured_groups_and_then_log_degree(bench):
    graph = bench.ingest(bench.six())
    assert graph.feature_columns == {"size": slice(0, 2), "log_degree": slice(2, 3)}
    rows = graph.features().gather(np.arange(6))
    assert rows[:, :2].tolist() == [[v, v] for v in range(6)]
    np.testing.assert_array_equal(
        rows[:, 2], np.log1p(np.array([1, 2, 1, 1, 1, 0])).astype(np.float32)
    )


def test_pairs_are_ids_in_the_order_of_their_table(bench):
    graph = bench.ingest(bench.six())
    train = graph.pairs("train")
    assert train.queries.tolist() == [0, 1]
    assert train.positives.tolist() == [1, 2]
    assert (len(graph.pairs("valid")), len(graph.pairs("test"))) == (1, 1)


def test_the_manifest_counts_what_was_published(bench):
    counts = bench.ingest(bench.six(), num_shards=2).artifact.manifest.counts
    assert counts == {
        "items": 6,
        "contexts": 3,
        "edges": 6,
        "shards": 2,
        "pairs": {"train": 2, "valid": 1, "test": 1},
        "feature_groups": {"size": 2, "log_degree": 1},
        "cold_items": 1,
        "items_made_cold": 0,
        "repeated_edges": 0,
        "left_out_edges": {},
        "dropped": {},
    }


@pytest.mark.parametrize("num_shards", [3, 8, 300])
def test_the_shard_count_changes_nothing(bench, num_shards):
    config = write_tables(bench.folder / "tables")
    one, many = bench.ingest(config), bench.ingest(config, num_shards=num_shards)
    assert many.num_shards == num_shards
    for name in ARRAYS:
        np.testing.assert_array_equal(
            getattr(one.adjacency(), name), getattr(many.adjacency(), name)
        )
    ids = np.arange(one.num_items)[::-1].copy()
    np.testing.assert_array_equal(one.features().gather(ids), many.features().gather(ids))
    for name in ("items.parquet", "contexts.parquet", "pairs.parquet"):
        entries = [graph.artifact.manifest.files[name] for graph in (one, many)]
        assert entries[0] == entries[1]


def test_a_second_run_writes_the_same_bytes(bench):
    config = write_tables(bench.folder / "tables")
    first, second = bench.ingest(config, num_shards=2), bench.ingest(config, num_shards=2)
    assert first.artifact.manifest.files == second.artifact.manifest.files


def test_a_shard_finished_by_an_earlier_run_is_not_written_again(bench):
    config = bench.six()
    draft = Draft(bench.folder / "draft")
    ingest(config, draft, num_shards=2, seed=0)
    finished = bench.folder / "draft" / "shard-00000-of-00002" / "features.npy"
    before = finished.stat().st_ino
    ingest(config, draft, num_shards=2, seed=0)
    assert finished.stat().st_ino == before


def test_views_are_read_as_the_text_and_lists_that_they_show(bench, changed):
    items = {
        "item_id": pa.array(list("abcdef"), pa.string_view()),
        "title": pa.array(list("ABCDEF"), pa.string_view()),
        "size": pa.array([[v, v] for v in range(6)], pa.list_view(pa.float32())),
        "shop": pa.array(list("uuuvvv"), pa.string_view()),
        "tags": pa.array([["t"]] * 6, pa.list_(pa.string_view())),
    }
    edges = {"item_id": list("abcbde"), "context_id": pa.array(list("xxxyyz"), pa.string_view())}
    config = bench.six(items=items, edges=edges)
    changes = {"items.metadata": ["shop", "tags"], "edges.0.where": [["context_id", "!=", "z"]]}
    graph = bench.ingest(changed(config, changes))
    assert (graph.num_items, graph.num_edges) == (6, 5)
    assert graph.catalog().metadata(3) == {"title": "D", "shop": "v", "tags": ["t"]}
    assert graph.features().gather(np.array([4]))[0, :2].tolist() == [4, 4]


def test_a_repeated_edge_counts_once(bench):
    config = bench.six(edges={"item_id": list("aab"), "context_id": list("xxx")})
    graph = bench.ingest(config)
    assert graph.num_edges == 2
    assert graph.counts.repeated_edges == 1


@pytest.mark.parametrize(
    "as_type",
    [pa.int16(), pa.uint32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()],
    ids=lambda kind: str(kind),
)
def test_integer_keys_of_any_width_are_kept_as_int64(bench, as_type):
    keys = {key: 10 * number for number, key in enumerate("abcdef")}

    def integers(letters):
        return pa.array([keys[letter] for letter in letters], as_type)

    graph = bench.ingest(
        bench.six(
            items={"item_id": integers("abcdef"), "title": list("abcdef"), "size": [[0.5]] * 6},
            edges={
                "item_id": integers("abcbde"),
                "context_id": pa.array([9, 9, 9, 10, 10, 2], as_type),
            },
            pairs={
                "query_item": integers("abcd"),
                "positive_item": integers("bcab"),
                "split": ["train", "train", "valid", "test"],
            },
        )
    )
    stored = pq.read_table(graph.artifact.path / "items.parquet")
    assert stored.schema.field("item_key").type == pa.int64()
    assert graph.catalog().keys == ["0", "10", "20", "30", "40", "50"]
    assert graph.catalog().id_of("30") == 3
    contexts = pq.read_table(graph.artifact.path / "contexts.parquet")
    assert contexts["context_key"].to_pylist() == ["10", "2", "9"]


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "dictionary"])
def test_times_of_iso_8601_are_read_as_the_timestamps_they_tell(bench, changed, encoded):
    texts = pa.array([
        "2024-05-01",
        "2024-05-01 09:30",
        "2024-05-01T09:30:07.123456789",
        "2024-05-01T09:30:07.5Z",
        "2024-05-01 11:30:07 +0200",
        "2024-05-01 09:30:08 UTC",
    ])
    seconds = [0, 34200, 34207.123456, 34207.5, 34207, 34208]
    first = int(np.datetime64("2024-05-01", "us").astype(np.int64))
    times = pa.array([first + round(1e6 * second) for second in seconds], pa.timestamp("us"))
    graphs = []
    for day in (texts.dictionary_encode() if encoded else texts, times):
        edges = {"item_id": list("abcbde"), "context_id": list("xxxyyz"), "day": day}
        config = changed(bench.six(edges=edges), {"edges.0.timestamp": "day"})
        graphs.append(bench.ingest(config))
    assert graphs[0].artifact.manifest.files == graphs[1].artifact.manifest.files


def test_days_of_text_may_be_contexts_and_times_at_once(bench, changed):
    days = [*["2024-05-01"] * 3, *["2024-05-02"] * 2, "2024-05-03"]
    edges = {"item_id": list("abcbde"), "context_id": days, "day": days}
    graphs = [
        bench.ingest(changed(bench.six(edges=edges), {"edges.0.timestamp": column}))
        for column in ("context_id", "day")
    ]
    assert graphs[0].artifact.manifest.files == graphs[1].artifact.manifest.files


@pytest.mark.parametrize(
    ("rows", "untyped"),
    [(0, {"item_id", "context_id", "day", "name", "size"}), (2, {"name"})],
    ids=["an empty file", "a file without names"],
)
def test_columns_without_a_type_take_that_of_the_other_files(bench, changed, rows, untyped):
    days = np.arange(6).astype("datetime64[D]")
    tables = {
        "items": {"item_id": np.arange(6), "name": list("abcdef"), "size": [[0.5]] * 6},
        "edges": {"item_id": [0, 1, 2, 1, 3, 4], "context_id": list("xxxyyz"), "day": days},
    }
    pairs = {"query_item": [0, 1, 2], "positive_item": [1, 2, 0], "split": list(SPLITS)}
    for table, columns in tables.items():
        arrays = {name: pa.array(values) for name, values in columns.items()}
        few = {n: pa.nulls(rows) if n in untyped else a[:rows] for n, a in arrays.items()}
        bench.write(f"{table}/a.parquet", few)
        bench.write(f"{table}/b.parquet", {name: array[rows:] for name, array in arrays.items()})
    changes = {
        "items.path": str(bench.folder / "items"),
        "items.title": "name",
        "edges.0.path": str(bench.folder / "edges"),
        "edges.0.timestamp": "day",
    }
    graph = bench.ingest(changed(bench.six(pairs=pairs), changes))
    assert graph.num_edges == 6
    assert graph.catalog().title(3) == "d"


def test_dictionary_encoded_keys_are_read_as_their_values(bench):
    edges = {
        "item_id": pa.array(list("abcbde")).dictionary_encode(),
        "context_id": pa.array(list("xxxyyz")).dictionary_encode(),
    }
    plain = bench.ingest(bench.six())
    encoded = bench.ingest(bench.six(edges=edges))
    assert plain.artifact.manifest.files == encoded.artifact.manifest.files


@pytest.mark.parametrize("width", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "variable"])
def test_feature_lists_of_every_float_type_give_the_same_features(bench, width, fixed):
    kind = pa.list_(width, 2) if fixed else pa.list_(width)
    size = pa.array([[v, v] for v in np.arange(6.0)], pa.list_(pa.float64())).cast(pa.list_(width))
    items = {"item_id": list("abcdef"), "title": list("abcdef"), "size": size.cast(kind)}
    rows = bench.ingest(bench.six(items=items)).features().gather(np.arange(6))
    assert rows.dtype == np.float32
    assert rows[:, :2].tolist() == [[v, v] for v in range(6)]


def test_npy_features_follow_the_rows_of_the_items_table(bench, changed):
    path = str(bench.folder / "visual.npy")
    np.save(path, np.arange(18, dtype=np.float16).reshape(6, 3))
    groups = [{"name": "visual", "npy": path}, {"name": "size", "column": "size"}]
    graph = bench.ingest(changed(bench.six(), {"items.features": groups}))
    assert list(graph.feature_columns) == ["visual", "size", "log_degree"]
    assert graph.features().gather(np.array([4]))[0, :5].tolist() == [12, 13, 14, 4, 4]


def test_a_graph_without_content_features_has_log_degree_alone(bench, changed):
    graph = bench.ingest(changed(bench.six(), {"items.features": []}))
    assert graph.feature_width == 1
    assert graph.features().gather(np.array([5])).tolist() == [[0.0]]


def test_a_prefix_keeps_contexts_of_two_tables_apart(bench, changed):
    config = bench.six()
    likes = bench.write("likes.parquet", {"item": list("ad"), "reader": list("xx")})
    two = {"path": likes, "item": "item", "context": "reader"}
    edges = [config.edges[0].model_dump(), two]
    together = bench.ingest(changed(config, {"edges": edges}))
    apart = bench.ingest(changed(config, {"edges": [edges[0], two | {"context_prefix": "l/"}]}))
    assert (together.num_contexts, together.num_edges) == (3, 7)
    assert (apart.num_contexts, apart.num_edges) == (4, 8)
    keys = pq.read_table(apart.artifact.path / "contexts.parquet")["context_key"].to_pylist()
    assert keys == ["l/x", "x", "y", "z"]


def test_where_reads_only_the_rows_that_pass_every_filter(bench, changed):
    edges = {
        "item_id": list("abcbde"),
        "context_id": list("xxxyyz"),
        "stars": [5, 4, 1, 4, 5, 5],
        "split": ["train"] * 5 + ["test"],
    }
    where = [["stars", ">=", 4], ["split", "in", ["train"]]]
    graph = bench.ingest(changed(bench.six(edges=edges), {"edges.0.where": where}))
    assert graph.adjacency().item_degrees.tolist() == [1, 2, 0, 1, 0, 0]


def test_a_directory_and_a_glob_mean_all_their_files(bench, changed):
    config = bench.six()
    bench.write("parts/one.parquet", {"item_id": list("abc"), "context_id": list("xxx")})
    bench.write("parts/two.parquet", {"item_id": list("bde"), "context_id": list("yyz")})
    whole = bench.ingest(config)
    for path in ("parts", "parts/*.parquet", "p*/[ot]*.parquet"):
        split = bench.ingest(changed(config, {"edges.0.path": str(bench.folder / path)}))
        assert split.artifact.manifest.files == whole.artifact.manifest.files


def test_dropping_bad_rows_counts_them_and_gives_the_graph_of_the_good_rows(bench, changed, caplog):
    size = [[0.0, 0.0], [1.0, 1.0], [float("nan"), 0.0], [3.0, 3.0], None, [5.0, 5.0], [6.0, 6.0]]
    config = bench.six(
        items={
            "item_id": ["a", "b", "bad", "c", "worse", None, "a", "odd"],
            "title": list("abxcyzzo"),
            "size": pa.array([*size, [7.0]], pa.list_(pa.float32())),
        },
        edges={
            "item_id": ["a", "b", "bad", None, "zzz", "c"],
            "context_id": ["x", "x", "x", "x", "x", None],
        },
        pairs={
            "query_item": ["a", "b", "a", "bad"],
            "positive_item": ["b", "c", "a", "c"],
            "split": ["train", "test", "train", "test"],
        },
    )
    with caplog.at_level(logging.WARNING, logger="pinsage"):
        graph = bench.ingest(changed(config, {"on_bad_rows": "drop"}))
    assert graph.catalog().keys == ["a", "b", "c"]
    assert graph.features().gather(np.arange(3))[:, 0].tolist() == [0.0, 1.0, 3.0]
    assert graph.adjacency().item_contexts.tolist() == [0, 0]
    assert graph.counts.dropped == {
        "items.null_key": 1,
        "items.duplicate_key": 1,
        "items.bad_features": 2,
        "items.uneven_features": 1,
        "edges.null_key": 2,
        "edges.unknown_item": 2,
        "pairs.unknown_item": 1,
        "pairs.self_pair": 1,
    }
    told = [record.getMessage() for record in caplog.records]
    assert len(set(told)) == len(told) >= len(graph.counts.dropped)


def test_uuids_of_databases_are_keys_as_they_are_written(bench):
    keys = [uuid.UUID(int=3**place) for place in range(70, 76)]
    raw = pa.array([key.bytes for key in keys], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), raw)
    edges = {"item_id": column.take([0, 1, 1]), "context_id": column.take([2, 2, 2])}
    pairs = {"query_item": column.take([0, 1]), "positive_item": column.take([1, 5])}
    graph = bench.ingest(
        bench.six(
            items={"item_id": column, "title": list("abcdef"), "size": [[1.0, 1.0]] * 6},
            edges=edges,
            pairs=pairs | {"split": ["train", "test"]},
        )
    )
    assert graph.catalog().keys == [str(key) for key in keys]
    assert graph.context_keys().to_pylist() == [str(keys[2])]
    assert (graph.num_edges, graph.counts.repeated_edges) == (2, 1)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64()], ids=str)
def test_items_without_a_vector_are_kept_with_zeros_where_that_is_wanted(bench, changed, kind):
    nan = float("nan")
    size = [[1.0, 2.0], None, [nan, nan], [None, None], [], [4.0, 5.0]]
    config = changed(
        bench.six(
            items={
                "item_id": list("abcdef"),
                "title": list("abcdef"),
                "size": pa.array(size, pa.list_(kind)),
            }
        ),
        {"items.features.0.missing": "zeros"},
    )
    rows = bench.ingest(config).features().gather(np.arange(6))[:, :2]
    assert rows.tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [0, 0], [4, 5]]


def test_npy_rows_of_dropped_items_are_left_out(bench, changed):
    path = str(bench.folder / "visual.npy")
    np.save(path, np.arange(6, dtype=np.float32)[:, None])
    items = {"item_id": ["a", "b", "b", "d", "e", "f"], "title": list("abcdef")}
    config = changed(
        bench.six(
            items=items,
            edges={"item_id": ["a", "d"], "context_id": ["x", "x"]},
            pairs={
                "query_item": ["a", "d"],
                "positive_item": ["d", "a"],
                "split": ["train", "test"],
            },
        ),
        {"on_bad_rows": "drop", "items.features": [{"name": "visual", "npy": path}]},
    )
    rows = bench.ingest(config).features().gather(np.arange(5))
    assert rows[:, 0].tolist() == [0.0, 1.0, 3.0, 4.0, 5.0]


def test_dropping_still_fails_when_nothing_is_left(bench, changed):
    config = bench.six(edges={"item_id": ["no", "nope"], "context_id": ["x", "x"]})
    with pytest.raises(DataError, match="no usable edge is left"):
        bench.ingest(changed(config, {"on_bad_rows": "drop"}))


def test_ingest_refuses_a_shard_count_below_one(bench):
    with pytest.raises(ValueError, match="num_shards must be at least 1, found 0"):
        bench.ingest(bench.six(), num_shards=0)
