"""What all methods of a report know together: a mix of their scores, learned on valid pairs.

A run is made (or found) with every method that its recipe compares. Each query's best candidates by
PinSage are then scored by all methods, and two mixes of the scores are learned from valid pairs, by
softmax over the candidates: a weighted sum, and a small network that sees how popular query and
candidate are too. Test pairs are ranked by both.

The mixes learn from pairs that no method was trained on (settings were chosen by some of them), and
neither is a recipe. They say how far what these methods know would carry, and so what a better
method would have to find out.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from benchmarks._timing import parser, report
from pinsage.base.config import add_set_flag, load_config
from pinsage.cluster.drivers import JOBS
from pinsage.cluster.methods import methods_of
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import session
from pinsage.evaluation.metrics import hit_rate, scaled_mrr
from pinsage.evaluation.ranking import Scorer, rank_pairs
from pinsage.graph import Graph, Pairs

_RECIPE = Path(__file__).parents[1] / "ray_jobs" / "recipes" / "best.yaml"

_STAGES = ("ingest", "walk", "train", "embed", "evaluate")
_KS = (10, 50, 100, 500)
_CANDIDATES = 1_000
"""Of each query; a positive beyond them stays where PinSage ranks it."""
_QUERIES = 64
"""Of one step."""
_EPOCHS = 4
_RATE = 4e-3
_HIDDEN = 48


class Scores:
    """What every method says of each query's candidates, as numbers of like size."""

    def __init__(self, methods: dict[str, Scorer], num_items: int) -> None:
        """Score the best candidates by the first method, by all of them."""
        self.num_items = num_items
        width = min(_CANDIDATES, num_items)
        self.candidates = np.empty((num_items, width), np.int64)
        self.values = np.empty((num_items, width, 2 * len(methods)), np.float16)
        for start in range(0, num_items, _QUERIES):
            queries = np.arange(start, min(start + _QUERIES, num_items))
            for place, scorer in enumerate(methods.values()):
                scores = scorer.scores(queries)
                if place == 0:
                    scores[np.arange(len(queries)), queries] = -np.inf
                    best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
                    self.candidates[queries] = best
                found = np.take_along_axis(scores, self.candidates[queries], axis=1)
                self.values[queries, :, 2 * place : 2 * place + 2] = _like_sized(found)

    def of(self, queries: Int64[np.ndarray, " queries"]) -> Tensor:
        """Give [queries, candidates, numbers]."""
        return torch.from_numpy(self.values[queries].astype(np.float32))


def _like_sized(
    scores: Float32[np.ndarray, "queries candidates"],
) -> Float32[np.ndarray, "queries candidates 2"]:
    """Give scores by how far each is from its query's mean, and by its rank."""
    finite = np.where(np.isfinite(scores), scores, 0)
    spread = finite.std(axis=1, keepdims=True)
    far = (finite - finite.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)
    ranks = np.argsort(np.argsort(-finite, axis=1), axis=1)
    return np.stack([far, 3 - np.log1p(ranks)], axis=2).astype(np.float32)


class Mix(nn.Module):
    """A weighted sum of the methods' numbers, and what a small network makes of them."""

    def __init__(self, width: int, popularity: Float32[np.ndarray, " items"], *, deep: bool):
        """Begin with the first method's scores."""
        super().__init__()
        self.sum = nn.Linear(width, 1)
        with torch.no_grad():
            self.sum.weight.zero_()[0, 0] = 1
        self.popularity = torch.from_numpy(popularity)
        self.network = (
            nn.Sequential(
                nn.Linear(width + 2, _HIDDEN),
                nn.ReLU(),
                nn.Linear(_HIDDEN, _HIDDEN),
                nn.ReLU(),
                nn.Linear(_HIDDEN, 1),
            )
            if deep
            else None
        )

    def forward(self, scores: Scores, queries: Int64[np.ndarray, " queries"]) -> Tensor:
        """Score the candidates of some queries, [queries, candidates]."""
        values = scores.of(queries)
        mixed = self.sum(values)
        if self.network is not None:
            own = self.popularity[torch.from_numpy(queries)][:, None].expand(values.shape[:2])
            theirs = self.popularity[torch.from_numpy(scores.candidates[queries])]
            mixed = mixed + self.network(torch.cat([values, torch.stack([own, theirs], 2)], 2))
        return mixed.squeeze(2)


class Mixed:
    """A mix as a method: its candidates first, then all other items as PinSage ranks them."""

    def __init__(self, mix: Mix, scores: Scores, first: Scorer) -> None:
        """Hold the parts."""
        self._mix, self._scores, self._first = mix, scores, first

    @torch.inference_mode()
    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its score with the query."""
        found = self._first.scores(query_ids) - 1e3
        mixed = self._mix(self._scores, query_ids).numpy()
        np.put_along_axis(found, self._scores.candidates[query_ids], mixed, axis=1)
        return found


def learn(mix: Mix, scores: Scores, pairs: Pairs, seed: int) -> Mix:
    """Train a mix on pairs whose positives are among the candidates."""
    distinct, rows = np.unique(pairs.queries, return_inverse=True)
    wanted = np.zeros((len(distinct), scores.candidates.shape[1]), np.float32)
    for row, positive in zip(rows, pairs.positives, strict=True):
        wanted[row] += scores.candidates[distinct[row]] == positive
    steps = _EPOCHS * -(-len(distinct) // _QUERIES)
    optimizer = torch.optim.AdamW(mix.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    draw = np.random.default_rng(seed)
    for _ in range(_EPOCHS):
        order = draw.permutation(len(distinct))
        for start in range(0, len(order), _QUERIES):
            part = order[start : start + _QUERIES]
            log_chances = torch.log_softmax(mix(scores, distinct[part]), dim=1)
            targets = torch.from_numpy(wanted[part])
            loss: Tensor = -(targets * log_chances).sum() / targets.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return mix


def main() -> None:
    """Make the run, learn the mixes, and rank test pairs by them and by every method."""
    flags = parser(__doc__)
    flags.add_argument("--config", type=Path, default=_RECIPE, help="a recipe")
    add_set_flag(flags)
    arguments = flags.parse_args()
    run = Run(load_config(RunConfig, arguments.config, arguments.overrides))
    with session(run.config.ray):
        for stage in _STAGES:
            JOBS[stage](run)
    graph, seed = Graph.open(run.graph.directory), run.config.seed
    methods = methods_of(run, graph)
    scores = Scores(methods, graph.num_items)
    degrees = np.log1p(graph.adjacency_at_inference().item_degrees).astype(np.float32)
    popularity = (degrees - degrees.mean()) / max(float(degrees.std()), 1e-9)
    ranked: dict[str, Scorer] = dict(methods)
    for name, deep in (("weighted sum of all", False), ("network over all", True)):
        torch.manual_seed(seed)
        mix = Mix(scores.values.shape[2], popularity, deep=deep)
        ranked[name] = Mixed(
            learn(mix, scores, graph.pairs("valid"), seed), scores, methods["pinsage"]
        )
    test = graph.pairs("test")
    rows: list[list[object]] = [["method", *(f"@{k}" for k in _KS), "scaled MRR"]]
    figures: dict[str, dict[str, float]] = {}
    for name, scorer in ranked.items():
        ranks = rank_pairs(scorer, test.queries, test.positives)
        found = {f"hit_rate@{k}": hit_rate(ranks, k) for k in _KS} | {"mrr": scaled_mrr(ranks)}
        figures[name] = {metric: round(value, 4) for metric, value in found.items()}
        rows.append([name, *(f"{value:.4f}" for value in found.values())])
    title = f"{run.config.name}, test pairs, {graph.num_items - 1:,} candidates, seed {seed}"
    report(title, rows, figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
