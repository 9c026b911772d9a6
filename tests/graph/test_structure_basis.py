"""Structural features in the directions of another graph, as its model reads them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pinsage.base.errors import ArtifactError
from pinsage.graph.structure import StructureConfig
from pinsage.graph.synthetic import write_tables

STRUCTURE = StructureConfig(width=10)


def rows_of(graph):
    """The structural features of all items."""
    columns = graph.feature_columns["structure"]
    return graph.features().gather(np.arange(graph.num_items))[:, columns]


def split_by_context(folder: Path, share: float):
    """The same tables twice, the second time without some of the contexts."""
    whole = write_tables(folder / "whole")
    part = write_tables(folder / "part")
    path = folder / "part" / "edges.parquet"
    edges = pq.read_table(path)
    contexts = np.unique(edges["context_id"].to_pylist())
    kept = contexts[np.random.default_rng(0).random(len(contexts)) < share]
    pq.write_table(edges.filter(pc.is_in(edges["context_id"], pa.array(kept))), path)
    return whole, part


def cosine_error(found, expected):
    return np.abs(found @ found.T - expected @ expected.T).mean()


@pytest.mark.parametrize("num_shards", [1, 3])
def test_the_same_graph_in_its_own_directions_has_the_same_features(bench, num_shards):
    config = write_tables(bench.folder / "tables")
    own = bench.ingest(config, structure=STRUCTURE, num_shards=num_shards)
    again = bench.ingest(config, structure=STRUCTURE, basis=own, num_shards=2)
    np.testing.assert_array_equal(rows_of(again), rows_of(own))
    np.testing.assert_array_equal(again.structure_squares(), own.structure_squares())
    once_more = bench.ingest(config, structure=STRUCTURE, basis=again)
    np.testing.assert_array_equal(rows_of(once_more), rows_of(own))


def test_only_items_whose_contexts_changed_have_other_features(bench):
    config = write_tables(bench.folder / "tables")
    own = bench.ingest(config, structure=STRUCTURE)
    path = bench.folder / "tables" / "edges.parquet"
    edges = pq.read_table(path)
    pq.write_table(edges.slice(5), path)
    fewer = bench.ingest(config, structure=STRUCTURE, basis=own)
    keys = np.array(fewer.catalog().keys)
    lost = np.isin(keys, edges["item_id"].slice(0, 5).to_pylist())
    changed = (rows_of(fewer) != rows_of(own)).any(axis=1)
    np.testing.assert_array_equal(changed, lost)


def test_new_contexts_find_their_place_among_the_directions(bench):
    whole, part = split_by_context(bench.folder, 0.6)
    own, basis = (bench.ingest(config, structure=STRUCTURE) for config in (whole, part))
    assert basis.num_contexts < 0.7 * own.num_contexts
    found = rows_of(bench.ingest(whole, structure=STRUCTURE, basis=basis))
    # What the whole graph says shows in cosines, which no choice of directions changes.
    assert cosine_error(found, rows_of(own)) < 0.8 * cosine_error(rows_of(basis), rows_of(own))


def test_an_item_of_new_contexts_alone_is_like_those_beside_it(bench):
    config = write_tables(bench.folder / "tables")
    own = bench.ingest(config, structure=STRUCTURE)
    cold = own.num_items - 1
    assert not rows_of(own)[cold].any()
    path = bench.folder / "tables" / "edges.parquet"
    edges = pq.read_table(path)
    keys = own.catalog().keys
    new = {"item_id": [keys[cold], keys[0], keys[10]], "context_id": ["new"] * 3}
    pq.write_table(pa.concat_tables([edges, pa.table(new).cast(edges.schema)]), path)
    rows = rows_of(bench.ingest(config, structure=STRUCTURE, basis=own))
    cosines = rows @ rows[cold]
    beside = np.arange(len(rows)) % 10 == 0
    others = ~beside & (np.arange(len(rows)) != cold)
    assert cosines[beside].min() > cosines[others].max()


def test_a_basis_without_structural_features_is_refused(bench):
    plain = bench.ingest(bench.six())
    with pytest.raises(ArtifactError, match=r"wanted a graph with structural features"):
        bench.ingest(bench.six(), structure=StructureConfig(width=2), basis=plain)
