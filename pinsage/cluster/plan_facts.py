"""What a plan starts from: sizes of tables, what was measured; and what it says of a stage."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class GraphSize:
    """How large the tables are.

    Attributes:
        items: items.
        contexts: contexts.
        edges: edges of the training graph.
        pairs: labelled pairs.
        content_width: numbers that come with an item; log degree and structure come on top.
        key_bytes: bytes of a key on average.
    """

    items: int
    contexts: int
    edges: int
    pairs: int
    content_width: int
    key_bytes: int = 8


@dataclass(frozen=True)
class Costs:
    """What was measured: bytes that processes bring along, and time of one core of an AMD EPYC."""

    driver_bytes: int = 380 * MIB
    """A job's own process with all its libraries (`python -m benchmarks.plan`)."""
    ray_bytes: int = 210 * MIB
    """Ray's own processes on a node (the same)."""
    actor_bytes: int = 290 * MIB
    """An actor that imports the walks or the model (the same)."""
    train_bytes: int = 1_100 * MIB
    """Ray Train's controllers and helpers, and the board (the same)."""
    step_share: float = 0.5
    """Of a step on a CPU at most, what it takes: popular items are drawn many times (the same)."""
    item_bytes: int = 60
    """An item at ingest, beside its key and its features (the same)."""
    catalog_item_bytes: int = 200
    """An item's key, title and picture as Python holds them at evaluation (the same)."""
    embedded_item_bytes: int = 150
    """An item while its rows are written at embedding (the same)."""
    ranked_item_bytes: int = 1_200
    """An item's scores at evaluation (the same), up to:"""
    ranked_bytes: int = 290 * MIB
    """All scores that are held at a time at evaluation (the same)."""
    recall_item_bytes: int = 5_200
    """An item's scores while an index's recall is measured (the same), up to:"""
    recall_bytes: int = 685 * MIB
    """All scores that are held at a time then (the same)."""
    edge_us: float = 0.9
    """CPU of ingest an edge (`python -m benchmarks.scale`)."""
    visit_us: float = 4.0 / 300
    """CPU of a visit of a walk, one process over the whole graph (the same)."""
    sharded_visit_us: float = 14.8 / 300
    """CPU of a visit where walks go from shard to shard (`python -m benchmarks.sharded`)."""
    visit_wire_bytes: float = 3_525 / 300
    """Network of such a visit, all shards elsewhere (the same)."""
    long_visit_wire_bytes: float = 164_000 / 8_322
    """The same of the long walks for hard negatives (docs/sharded-walks.md)."""
    flops: float = 84e9 / 1.18
    """Operations a second of a training step (`python -m benchmarks.train_step`)."""
    gather_bytes: float = 4.5e9
    """Bytes a second of gathering rows (`python -m benchmarks.minibatch`)."""
    link_us: float = 335 / 256
    """CPU of adding one number of an embedding to HNSW (`python -m benchmarks.retrieval`)."""
    score_us: float = 0.004
    """CPU of an item's score for a query, where whole rows are scored: 400 queries by item-item
    cosine and by transitions, 100,000 items (seen once, on a busy machine)."""
    factor_us: float = 0.009
    """CPU of an edge for each factor in a pass of ALS or BPR (a million edges, likewise)."""


@dataclass(frozen=True)
class Need:
    """What one stage needs, all machines together unless said otherwise.

    Attributes:
        stage: which one.
        own_bytes: memory that its processes have for themselves, if one machine does all of it.
        shared_bytes: object store, likewise.
        mapped_bytes: files read at random: fast where they fit memory too.
        gpu_bytes: GPU memory of a worker; 0 where no GPU is used.
        disk_bytes: what it publishes.
        scratch_bytes: what it writes besides, and deletes.
        wire_bytes: what crosses the network if many machines share the work.
        core_s: seconds of one core.
        flops: of these, floating-point operations that a GPU would do instead.
        sharded: whether its memory is divided by the number of machines; else each holds all.
    """

    stage: str
    own_bytes: float
    shared_bytes: float = 0
    mapped_bytes: float = 0
    gpu_bytes: float = 0
    disk_bytes: float = 0
    scratch_bytes: float = 0
    wire_bytes: float = 0
    core_s: float = 0
    flops: float = 0
    sharded: bool = False


def visits(num_walks: int, walk_length: int, restart: float) -> float:
    """Expect so many visits of one item's walks.

    >>> visits(200, 2, 0.5)
    300.0
    """
    return num_walks * sum((1 - restart) ** step for step in range(walk_length))
