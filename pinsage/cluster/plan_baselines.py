"""What an evaluation needs for the methods that it compares with, beside PinSage's own vectors.

All methods are open at the same time (`methods_of`), so what they hold adds up.
"""

from dataclasses import dataclass

from pinsage.cluster.plan_facts import Costs, GraphSize, visits
from pinsage.cluster.run_config import RunConfig
from pinsage.evaluation.baselines import Baseline
from pinsage.evaluation.baselines.factors import grid

_FLOAT, _LONG = 4, 8
_EDGE_OF_FIT = 24
"""Bytes of an edge that is fitted: its value and its item, both again once it is worth `alpha`, and
both the other way around."""
_PAIR_AT_COUNTING = 40
"""Bytes of a train pair while steps are counted: the pair, its number, and these sorted."""


@dataclass(frozen=True)
class BaselineNeed:
    """What one method needs, or all of them.

    Attributes:
        held_bytes: memory while all methods rank.
        passing_bytes: memory while the method is opened, on top of what all hold.
        fit_bytes: memory while it is fitted, before any other is there.
        mapped_bytes: files read at random.
        disk_bytes: what is published of it.
        core_s: seconds of one core.
        flops: floating-point operations that a GPU would do instead.
    """

    held_bytes: float = 0
    passing_bytes: float = 0
    fit_bytes: float = 0
    mapped_bytes: float = 0
    disk_bytes: float = 0
    core_s: float = 0
    flops: float = 0


@dataclass(frozen=True)
class Baselines:
    """The methods of `evaluate.baselines`, one after the other.

    Attributes:
        config: the settings.
        size: of the tables.
        costs: what was measured.
        asked: how many pairs are ranked.
        feature_width: numbers of an item in all groups but the degree.
        adjacency_bytes: the graph's edges both ways, as published.
        packed_bytes: the graph packed for walks.
    """

    config: RunConfig
    size: GraphSize
    costs: Costs
    asked: float
    feature_width: int
    adjacency_bytes: float
    packed_bytes: float

    def all_together(self) -> BaselineNeed:
        """Add up what is held, published and done; of what passes, take the most."""
        each = [self._one(name) for name in self.config.evaluate.baselines]
        # Degrees are read from the graph whatever is compared.
        return BaselineNeed(
            held_bytes=sum(one.held_bytes for one in each),
            passing_bytes=max(self._copied, *(one.passing_bytes for one in each), 0),
            fit_bytes=max((one.fit_bytes for one in each), default=0),
            mapped_bytes=sum(one.mapped_bytes for one in each),
            disk_bytes=sum(one.disk_bytes for one in each),
            core_s=sum(one.core_s for one in each),
            flops=sum(one.flops for one in each),
        )

    @property
    def _copied(self) -> float:
        """What opening the graph takes: one shard is mapped, several are put together anew."""
        is_mapped = self.config.graph.num_shards == 1 and not self.config.data.split.cold_items
        return 0 if is_mapped else self.adjacency_bytes

    @property
    def _queries(self) -> float:
        return min(self.asked, self.size.items)

    def _one(self, name: Baseline) -> BaselineNeed:
        size, costs = self.size, self.costs
        scoring_s = self._queries * size.items * costs.score_us * 1e-6
        if name == "popularity":
            return BaselineNeed(held_bytes=size.items * _FLOAT, core_s=scoring_s)
        if name == "features":
            return self._vectors(self.feature_width)
        if name == "combined":
            return self._vectors(self.config.model.embedding_width)
        if name == "item_cosine":
            return BaselineNeed(
                held_bytes=self._copied + (size.items + size.contexts) * _FLOAT,
                mapped_bytes=0 if self._copied else self.adjacency_bytes,
                core_s=scoring_s,
            )
        if name == "transitions":
            split = self.config.data.split
            train = size.pairs * (1 - split.valid - split.test)
            return BaselineNeed(
                held_bytes=train * (_LONG + _FLOAT) + size.items * _LONG,
                passing_bytes=train * _PAIR_AT_COUNTING,
                core_s=scoring_s,
            )
        if name == "walk":
            pixie = self.config.evaluate.pixie
            met = visits(pixie.num_walks, pixie.walk_length, pixie.restart)
            return BaselineNeed(
                held_bytes=self.packed_bytes,
                core_s=scoring_s + self._queries * met * costs.visit_us * 1e-6,
            )
        return self._factors("als" if name == "als" else "bpr")

    def _vectors(self, width: int) -> BaselineNeed:
        """Inner products of vectors that are held whole."""
        flops = 2.0 * self.asked * self.size.items * width
        return BaselineNeed(
            held_bytes=self.size.items * width * _FLOAT,
            core_s=flops / self.costs.flops,
            flops=flops,
        )

    def _factors(self, kind: str) -> BaselineNeed:
        """Every point of the grid is fitted; the widest is taken for the best."""
        size, config = self.size, self.config.evaluate
        points = grid(config.als if kind == "als" else config.bpr)
        # BPR has a bias more.
        width = int(max(point["factors"] for point in points)) + (kind == "bpr")
        row = width * _FLOAT
        passes = sum(point["factors"] * point["iterations"] for point in points)
        # While one is fitted, the best one so far waits.
        copies = 3 if len(points) > 1 else 2
        ranked = self._vectors(width)
        return BaselineNeed(
            held_bytes=ranked.held_bytes,
            passing_bytes=size.items * row,
            fit_bytes=self._copied
            + size.edges * _EDGE_OF_FIT
            + (size.contexts + copies * size.items) * row,
            disk_bytes=size.items * row,
            core_s=ranked.core_s + passes * size.edges * self.costs.factor_us * 1e-6,
            flops=ranked.flops,
        )
