"""What each stage of a run will need, from the sizes of its tables and its settings alone.

Sizes in memory and on disk follow from what the code holds; what a process brings along and what
things cost in time was measured, by the command named at each constant.
"""

import math
from dataclasses import dataclass

from pinsage.cluster.run_config import RunConfig
from pinsage.inference.export import PART_ROWS
from pinsage.inference.layerwise import BLOCK
from pinsage.sampling.pairs import steps_per_epoch
from pinsage.training.memory import (
    TrainingFacts,
    num_weights,
    parts_of_step,
    plan_memory,
    slots_of_layers,
)

MIB = 2**20

STAGES = ("ingest", "walk", "train", "embed", "index", "evaluate")

_ID, _FLOAT, _LONG = 4, 4, 8
_REPORT_BYTES = 500_000
_WRITE_ROWS = 65_536
_MANY_IDS = 2**31
"""Items from which on ids take 8 bytes."""


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


def plan(
    config: RunConfig, size: GraphSize, costs: Costs | None = None, *, cores: int
) -> list[Need]:
    """Say what every stage will need.

    Args:
        config: the settings.
        size: of the tables.
        costs: what was measured; None takes what this project measured.
        cores: of each machine.

    Returns:
        One need a stage, in the order they run.
    """
    part = _Part(config, size, costs or Costs(), cores)
    return [part.ingest(), part.walk(), part.train(), part.embed(), part.index(), part.evaluate()]


def visits(num_walks: int, walk_length: int, restart: float) -> float:
    """Expect so many visits of one item's walks.

    >>> visits(200, 2, 0.5)
    300.0
    """
    return num_walks * sum((1 - restart) ** step for step in range(walk_length))


@dataclass(frozen=True)
class _Part:
    """One stage after the other, from the same facts."""

    config: RunConfig
    size: GraphSize
    costs: Costs
    cores: int

    @property
    def id_bytes(self) -> int:
        return _LONG if max(self.size.items, self.size.contexts) >= _MANY_IDS else _ID

    @property
    def feature_width(self) -> int:
        structure = self.config.graph.structure
        return self.size.content_width + 1 + (structure.width if structure else 0)

    @property
    def table_bytes(self) -> int:
        """The neighborhood table."""
        hard = self.config.hard_negatives
        candidates = len(hard.columns()) if hard else 0
        row = self.config.walk.num_neighbors * (self.id_bytes + _FLOAT) + candidates * self.id_bytes
        return self.size.items * row

    @property
    def _edge_columns(self) -> tuple[bool, bool]:
        """Whether the graph's edges have weights, and times."""
        tables = self.config.data.edges
        has_weights = any(table.weight is not None for table in tables)
        return has_weights, all(table.timestamp is not None for table in tables)

    def ingest(self) -> Need:
        size, build = self.size, self.config.graph.build
        workers = build.workers or self.cores
        in_hand = min(size.edges, workers * build.edges_per_bucket)
        content = size.items * size.content_width * _FLOAT
        keys = size.items * (size.key_bytes + self.costs.item_bytes)
        keys += size.contexts * (2 * size.key_bytes + _LONG)
        has_weights, has_times = self._edge_columns
        edge = 2 * (self.id_bytes + _FLOAT * (has_weights + has_times))
        features = size.items * self.feature_width * _FLOAT
        disk = size.edges * edge + _LONG * (size.items + size.contexts)
        disk += features + (size.items + size.contexts) * size.key_bytes + size.pairs * 2 * _LONG
        return Need(
            "ingest",
            own_bytes=self.costs.driver_bytes
            # Twice, since the file's form and the checked one are there together; then the rows
            # that are being put together to be written.
            + 2 * content
            + 3 * min(size.items, _WRITE_ROWS) * self.feature_width * _FLOAT
            + keys
            + in_hand * (100 if has_weights or has_times else 40)
            + size.pairs * 4 * _LONG,
            disk_bytes=disk,
            scratch_bytes=size.edges * 32,
            core_s=size.edges * self.costs.edge_us * 1e-6,
        )

    def walk(self) -> Need:
        size, walk, hard = self.size, self.config.walk, self.config.hard_negatives
        has_weights, _ = self._edge_columns
        choice = walk.choice
        by_chance = (choice.by_weight and has_weights) or choice.half_life is not None
        by_chance |= choice.degree_power != 0
        packed = size.edges * (36 if by_chance else 12) + _LONG * (size.items + size.contexts)
        chunk = min(walk.items_per_chunk, size.items)
        rows = self.table_bytes / max(size.items, 1) * chunk
        short = visits(walk.num_walks, walk.walk_length, walk.restart) * size.items
        long = visits(hard.num_walks, hard.walk_length, hard.restart) * size.items if hard else 0
        costs = self.costs
        wire = short * costs.visit_wire_bytes + long * costs.long_visit_wire_bytes
        return Need(
            "walk",
            own_bytes=costs.driver_bytes + costs.ray_bytes + costs.actor_bytes + packed + rows,
            disk_bytes=self.table_bytes,
            scratch_bytes=self.table_bytes,
            wire_bytes=wire,
            core_s=(short + long) * costs.visit_us * 1e-6,
            sharded=True,
        )

    def train(self) -> Need:
        config, size, costs = self.config, self.size, self.costs
        hard = config.hard_negatives
        facts = TrainingFacts(
            num_items=size.items,
            feature_width=self.feature_width,
            num_pairs=size.pairs,
            num_neighbors=config.walk.num_neighbors,
            num_candidates=len(hard.columns()) if hard else 0,
            workers_per_node=1,
            on_gpu=config.train.device == "cuda",
        )
        held = plan_memory(config.model, config.train, facts)
        actors = 1 + config.train.num_producers
        an_epoch = steps_per_epoch(size.pairs, config.train.minibatch.size)
        steps = config.train.schedule.epochs * an_epoch
        flops, gathered = self._step(facts)
        return Need(
            "train",
            own_bytes=costs.driver_bytes
            + costs.ray_bytes
            + costs.train_bytes
            + actors * costs.actor_bytes
            + held.certain
            + self.costs.step_share * (held.most - held.certain),
            shared_bytes=held.minibatches,
            mapped_bytes=held.mapped,
            gpu_bytes=held.gpu,
            disk_bytes=num_weights(config.model, self.feature_width) * _FLOAT,
            scratch_bytes=num_weights(config.model, self.feature_width)
            * _FLOAT
            * 3
            * config.train.keep_checkpoints,
            core_s=steps * (flops / costs.flops + gathered / costs.gather_bytes),
            flops=steps * flops,
        )

    def _step(self, facts: TrainingFacts) -> tuple[float, float]:
        """Operations of one step, forward and back, and bytes of features gathered for it."""
        model, train = self.config.model, self.config.train
        width = train.minibatch.num_neighbors or facts.num_neighbors
        layers = list(slots_of_layers(model, train, facts, width))
        flops = 2.0 * layers[0][0] * model.embedding_width * 2 * model.embedding_width
        for place, (sources, made) in enumerate(layers[1:]):
            inner = facts.feature_width if place == model.num_layers - 1 else model.embedding_width
            flops += 2.0 * sources * inner * model.projected_width
            flops += 2.0 * made * (inner + model.projected_width) * model.embedding_width
        parts = parts_of_step(train)
        return 3 * flops * parts, layers[-1][0] * facts.feature_width * _FLOAT * parts

    def embed(self) -> Need:
        config, size, costs = self.config, self.size, self.costs
        model, embed = config.model, config.embed
        flops = 2.0 * num_weights(model, self.feature_width) * size.items
        neighbors = embed.num_neighbors or config.walk.num_neighbors
        pooled = size.items * model.num_layers * neighbors * model.projected_width * _FLOAT
        row = model.projected_width + model.embedding_width
        out = 2 if embed.dtype == "float16" else _FLOAT
        at_once = min(embed.threads_per_worker or self.cores, PART_ROWS // BLOCK)
        block = at_once * BLOCK * (self.feature_width + 5 * row) * _FLOAT
        return Need(
            "embed",
            own_bytes=costs.driver_bytes
            + block
            + 3 * min(size.items, PART_ROWS) * model.embedding_width * _FLOAT
            + size.items * costs.embedded_item_bytes,
            mapped_bytes=size.items * (self.feature_width + row) * _FLOAT + self.table_bytes,
            disk_bytes=size.items * (model.embedding_width * out + size.key_bytes),
            scratch_bytes=size.items * row * _FLOAT * model.num_layers,
            wire_bytes=pooled,
            core_s=flops / costs.flops + pooled / costs.gather_bytes,
            flops=flops,
        )

    def index(self) -> Need:
        index, size = self.config.index, self.size
        width = self.config.model.embedding_width
        vectors = size.items * width * _FLOAT
        kind = index.kind
        if kind == "auto":
            large = "hnsw" if size.items <= index.hnsw_limit else "ivf_pq"
            kind = "exact" if size.items <= index.exact_limit else large  # type: ignore[assignment]
        held, core_s = 0.0, 0.0
        if kind == "hnsw":
            held = vectors + size.items * (index.faiss.links * 2 * _ID + 2 * _LONG)
            core_s = size.items * width * self.costs.link_us * 1e-6
        elif kind == "ivf_pq":
            held = size.items * (index.faiss.code_bytes + _LONG)
            core_s = size.items * width * self.costs.link_us * 1e-6 / 16
        elif kind in {"flat", "ivf"}:
            held = vectors + size.items * _LONG
        return Need(
            "index",
            own_bytes=self.costs.driver_bytes
            + vectors
            + held
            + min(size.items * self.costs.recall_item_bytes, self.costs.recall_bytes),
            disk_bytes=vectors + held,
            core_s=core_s,
        )

    def evaluate(self) -> Need:
        config, size = self.config, self.size
        asked = min(size.pairs * config.data.split.test, config.evaluate.max_pairs or math.inf)
        ranked = asked * size.items * config.model.embedding_width * 2.0
        vectors = size.items * config.model.embedding_width * _FLOAT
        return Need(
            "evaluate",
            own_bytes=self.costs.driver_bytes
            + vectors
            + size.items * self.costs.catalog_item_bytes
            + min(size.items * self.costs.ranked_item_bytes, self.costs.ranked_bytes),
            mapped_bytes=size.items * self.feature_width * _FLOAT,
            disk_bytes=_REPORT_BYTES,
            core_s=ranked / self.costs.flops,
            flops=ranked,
        )


def peak(needs: list[Need]) -> Need:
    """The stage that needs most memory."""
    return max(needs, key=lambda one: one.own_bytes + one.shared_bytes)


def total_disk(needs: list[Need]) -> float:
    """All that is published, and the largest scratch on top."""
    return sum(one.disk_bytes for one in needs) + max(one.scratch_bytes for one in needs)
