import pytest

from pinsage.base.errors import ArtifactError
from pinsage.graph import Graph


def test_an_opened_graph_knows_its_size(bench):
    graph = bench.ingest(bench.six(), num_shards=4)
    assert (graph.num_items, graph.num_contexts, graph.num_edges) == (6, 3, 6)
    assert (graph.num_shards, graph.feature_width) == (4, 3)


def test_a_split_that_is_not_one_is_refused(bench):
    with pytest.raises(ValueError, match="wanted a split of train, valid, test, found 'dev'"):
        bench.ingest(bench.six()).pairs("dev")


def test_a_graph_with_a_shard_missing_is_not_opened(bench):
    graph = bench.ingest(bench.six(), num_shards=2)
    (graph.artifact.path / "shard-00001-of-00002" / "features.npy").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Graph.open(graph.artifact.path)


def test_a_changed_byte_is_noticed_when_digests_are_checked(bench):
    graph = bench.ingest(bench.six())
    path = graph.artifact.path / "shard-00000-of-00001" / "features.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA-256"):
        Graph.open(graph.artifact.path, check_digests=True)
