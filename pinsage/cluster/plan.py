"""What each stage of a run will need, from the sizes of its tables and its settings alone.

Sizes in memory and on disk follow from what the code holds; what a process brings along and what
things cost in time was measured, by the command named at each constant.
"""

import math
from dataclasses import dataclass, replace

from pinsage.cluster.plan_baselines import Baselines
from pinsage.cluster.plan_facts import Costs, GraphSize, Need, visits
from pinsage.cluster.run import combined_config
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

STAGES = ("ingest", "walk", "train", "embed", "index", "evaluate")

_ID, _FLOAT, _LONG = 4, 4, 8
_REPORT_BYTES = 500_000
_WRITE_ROWS = 65_536
_MANY_IDS = 2**31
"""Items from which on ids take 8 bytes."""


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

    @property
    def _adjacency_bytes(self) -> int:
        """The graph's edges, both ways."""
        edge = 2 * (self.id_bytes + _FLOAT * sum(self._edge_columns))
        return self.size.edges * edge + _LONG * (self.size.items + self.size.contexts)

    @property
    def _packed_bytes(self) -> int:
        """The same graph laid out for walks."""
        size, choice = self.size, self.config.walk.choice
        has_weights, _ = self._edge_columns
        by_chance = (choice.by_weight and has_weights) or choice.half_life is not None
        by_chance |= choice.degree_power != 0
        return size.edges * (36 if by_chance else 12) + _LONG * (size.items + size.contexts)

    def ingest(self) -> Need:
        size, build = self.size, self.config.graph.build
        workers = build.workers or self.cores
        in_hand = min(size.edges, workers * build.edges_per_bucket)
        content = size.items * size.content_width * _FLOAT
        keys = size.items * (size.key_bytes + self.costs.item_bytes)
        keys += size.contexts * (2 * size.key_bytes + _LONG)
        has_weights, has_times = self._edge_columns
        features = size.items * self.feature_width * _FLOAT
        disk = (
            self._adjacency_bytes
            + features
            + (size.items + size.contexts) * size.key_bytes
            + size.pairs * 2 * _LONG
        )
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
        chunk = min(walk.items_per_chunk, size.items)
        rows = self.table_bytes / max(size.items, 1) * chunk
        short = visits(walk.num_walks, walk.walk_length, walk.restart) * size.items
        long = visits(hard.num_walks, hard.walk_length, hard.restart) * size.items if hard else 0
        costs = self.costs
        wire = short * costs.visit_wire_bytes + long * costs.long_visit_wire_bytes
        return Need(
            "walk",
            own_bytes=costs.driver_bytes
            + costs.ray_bytes
            + costs.actor_bytes
            + self._packed_bytes
            + rows,
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
        config, size, costs = self.config, self.size, self.costs
        asked = min(size.pairs * config.data.split.test, config.evaluate.max_pairs or math.inf)
        flops = asked * size.items * config.model.embedding_width * 2.0
        rivals = Baselines(
            config,
            size,
            costs,
            asked,
            feature_width=self.feature_width - 1,
            adjacency_bytes=self._adjacency_bytes,
            packed_bytes=self._packed_bytes,
        ).all_together()
        scores = min(size.items * costs.ranked_item_bytes, costs.ranked_bytes)
        ranking = Need(
            "evaluate",
            own_bytes=costs.driver_bytes
            + size.items * config.model.embedding_width * _FLOAT
            + size.items * costs.catalog_item_bytes
            + size.pairs * 2 * _LONG
            + rivals.held_bytes
            + max(scores, rivals.passing_bytes),
            mapped_bytes=size.items * self.feature_width * _FLOAT + rivals.mapped_bytes,
            disk_bytes=_REPORT_BYTES + rivals.disk_bytes,
            core_s=flops / costs.flops + rivals.core_s,
            flops=flops + rivals.flops,
        )
        fitting = Need("evaluate", own_bytes=costs.driver_bytes + rivals.fit_bytes)
        return _one_after_the_other([ranking, fitting, *self._combined()])

    def _combined(self) -> list[Need]:
        """The stages that Combined goes through before anything is ranked."""
        if "combined" not in self.config.evaluate.baselines:
            return []
        part = replace(self, config=combined_config(self.config))
        own = [part.train(), part.embed()]
        # Where no feature is made from the graph, both runs have the same graph and walks.
        return own if self.config.graph.structure is None else [part.ingest(), part.walk(), *own]


def _one_after_the_other(parts: list[Need]) -> Need:
    """What several steps of one stage need: the most memory of any, and all else added up."""
    most = peak(parts)
    return Need(
        parts[0].stage,
        own_bytes=most.own_bytes,
        shared_bytes=most.shared_bytes,
        mapped_bytes=max(one.mapped_bytes for one in parts),
        gpu_bytes=max(one.gpu_bytes for one in parts),
        disk_bytes=sum(one.disk_bytes for one in parts),
        scratch_bytes=max(one.scratch_bytes for one in parts),
        wire_bytes=sum(one.wire_bytes for one in parts),
        core_s=sum(one.core_s for one in parts),
        flops=sum(one.flops for one in parts),
    )


def peak(needs: list[Need]) -> Need:
    """The stage that needs most memory."""
    return max(needs, key=lambda one: one.own_bytes + one.shared_bytes)


def total_disk(needs: list[Need]) -> float:
    """All that is published, and the largest scratch on top."""
    return sum(one.disk_bytes for one in needs) + max(one.scratch_bytes for one in needs)
