"""The whole offline evaluation, and the report it ends in (paper, section 4.2)."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from pinsage.base.artifacts import Draft
from pinsage.base.seeding import Sample, Stream, stream
from pinsage.evaluation.cold import cold_section, cold_sentence
from pinsage.evaluation.comparison import intervals, paired
from pinsage.evaluation.headline import summary
from pinsage.evaluation.item_facts import ItemFacts
from pinsage.evaluation.item_map import embedding_map
from pinsage.evaluation.measures import Measures, by_chance, measure
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.page import render_page
from pinsage.evaluation.protocol import (
    LIST_LENGTH,
    EvaluationConfig,
    HeldOut,
    count_seen,
    hold_out,
    protocol_facts,
)
from pinsage.evaluation.ranking import Scorer, VectorScorer, rank_and_recommend
from pinsage.evaluation.sheets import side_by_side
from pinsage.evaluation.similarity import similarity_distribution
from pinsage.evaluation.wording import (
    OURS,
    contexts_sentence,
    edges_sentence,
    method_label,
    seen_sentence,
    statement,
)
from pinsage.graph import Pairs

OnProgress = Callable[[int, int, str], None]
"""Called with queries ranked so far and in all (over all methods), and the method at work."""


def evaluate(
    methods: Mapping[str, Scorer | VectorScorer],
    *,
    pairs: Pairs,
    items: ItemFacts,
    data: str,
    config: EvaluationConfig,
    seed: int,
    train: Pairs | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Rank every pair by every method, and compare the methods.

    Args:
        methods: name to scorer, in the order of the report; `pinsage` is ours, and each other is
            compared with it.
        pairs: the held-out pairs of `config.split`.
        items: what is known of every item of the catalog.
        data: what the data are called in the report.
        config: what to measure.
        seed: the run's seed.
        train: the train pairs, to tell how many of the held-out ones are among them; None if that
            is not to be told.
        on_progress: told after every chunk of queries.

    Returns:
        What `report.json` holds: `summary`, `protocol`, `metrics`, `chance` (what a random order
        gets of every metric of ranks), `statements`, `intervals`,
        `paired`, `curves`, `sheets`, `similarity`, `map` (None without one), and `cold` where some
        items are. Plain JSON values without NaN.

    Raises:
        DataError: there are no pairs in the split.
        ValueError: no methods, or scores that cannot be ranked.
    """
    if not methods:
        raise ValueError("there are no methods to evaluate; give at least one scorer")
    held_out = hold_out(pairs, len(items), config, seed=seed)
    measures = _measure_all(methods, held_out, items, config, on_progress)
    protocol = protocol_facts(held_out, pairs, config, data=data, seed=seed)
    protocol |= _further_facts(methods, held_out, items, train)
    metrics = {name: found.means() for name, found in measures.items()}
    compared = _compare(measures, held_out, config, seed)
    chance = by_chance(held_out, config, protocol["candidates"])
    headline = [f"hit_rate@{k}" for k in config.ks] + ["scaled_mrr"]
    report: dict[str, Any] = {
        "summary": summary(metrics, compared["paired"], headline, chance)
        + contexts_sentence(protocol)
        + edges_sentence(protocol)
        + seen_sentence(protocol),
        "protocol": protocol,
        "metrics": metrics,
        "chance": chance,
        "statements": _statements(measures, metrics, protocol),
        **compared,
        "curves": _curves(measures, config),
        "sheets": side_by_side(
            {name: found.ranking for name, found in measures.items()},
            held_out,
            items,
            stream(seed, Stream.SAMPLE, Sample.SHEETS),
            num_sheets=config.num_sheets,
        ),
        "similarity": _similarities(methods, seed),
        "map": _map(methods, items, config, seed),
    }
    if items.cold is not None:
        section = cold_section(measures, held_out, items.cold, config, ours=OURS, seed=seed)
        report["cold"] = section
        sentence = cold_sentence(section, config, ours=OURS)
        report["summary"] += [sentence] if sentence else []
    return report


def _further_facts(
    methods: Mapping[str, Scorer | VectorScorer],
    held_out: HeldOut,
    items: ItemFacts,
    train: Pairs | None,
) -> dict[str, Any]:
    """Say of items, pairs and methods what a reader has to know."""
    # Those kept for cold items count as edges.
    alone = items.degrees == 0
    without_edges = alone[held_out.queries] | alone[held_out.positives]
    return {
        "mean_degree": float(items.degrees.mean()),
        "pairs_without_edges": int(without_edges.sum()),
        "pairs_seen_in_train": None if train is None else count_seen(held_out, train),
        "methods": {name: method_label(name) for name in methods},
    }


def _statements(
    measures: Mapping[str, Measures],
    metrics: Mapping[str, Mapping[str, float]],
    protocol: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Write every mean over pairs with all that it depends on."""
    return {
        name: [statement(metric, metrics[name][metric], protocol) for metric in found.of_pairs]
        for name, found in measures.items()
    }


def write_report(report: Mapping[str, Any], draft: Draft) -> None:
    """Write `report.json` and the self-contained `report.html` into a directory being published.

    Raises:
        ValueError: the report holds NaN or an infinity, which JSON cannot.
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    page = render_page(report)
    for name, content in (("report.json", text + "\n"), ("report.html", page)):
        with draft.file(name) as path:
            path.write_text(content, encoding="utf-8")


def _measure_all(
    methods: Mapping[str, Scorer | VectorScorer],
    held_out: HeldOut,
    items: ItemFacts,
    config: EvaluationConfig,
    on_progress: OnProgress | None,
) -> dict[str, Measures]:
    measures = {}
    for number, (name, scorer) in enumerate(methods.items()):

        def tell(done: int, of: int, name: str = name, before: int = number) -> None:
            if on_progress is not None:
                on_progress(before * of + done, len(methods) * of, method_label(name))

        ranking = rank_and_recommend(
            scorer,
            held_out.queries,
            held_out.positives,
            k=LIST_LENGTH,
            pool=held_out.pool,
            device=config.torch_device(),
            on_progress=tell,
        )
        if ranking.num_items != len(items):
            raise ValueError(
                f"wanted {name} to score {len(items)} items, found {ranking.num_items}"
            )
        measures[name] = measure(
            ranking, held_out, config, degrees=items.degrees, content=items.content
        )
    return measures


def _compare(
    measures: Mapping[str, Measures], held_out: HeldOut, config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """Give `intervals` of all means and `paired` of those that say how good a ranking is."""
    of_pairs = {name: found.of_pairs for name, found in measures.items()}
    of_queries = {name: found.of_queries for name, found in measures.items()}
    parts = [(of_pairs, held_out.groups), (of_queries, held_out.groups_of_queries)]
    every = [intervals(part, groups, config, seed=seed) for part, groups in parts]
    every.append(_intervals_of_lists(measures, held_out.groups_of_queries, config, seed))
    gaps = [paired(part, groups, config, ours=OURS, seed=seed) for part, groups in parts]
    return {"intervals": _joined(every), "paired": _joined(gaps)}


def _intervals_of_lists(
    measures: Mapping[str, Measures],
    groups: Int64[np.ndarray, " queries"],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, dict[str, list[float]]]:
    """Give them over the queries whose lists have a value, which differ from method to method."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in measures}
    for name, measured in measures.items():
        for metric, values in measured.of_lists.items():
            has_value = ~np.isnan(values)
            if has_value.any():
                alone = {name: {metric: values[has_value]}}
                found[name] |= intervals(alone, groups[has_value], config, seed=seed)[name]
    return found


def _joined(parts: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Put what several parts say of each method side by side."""
    return {
        name: {metric: value for part in parts for metric, value in part[name].items()}
        for name in parts[0]
    }


def _curves(measures: Mapping[str, Measures], config: EvaluationConfig) -> dict[str, Any]:
    """Hit-rate@K at many K, for the picture."""
    steps = np.geomspace(1, max(config.ks), 25).round().astype(int).tolist()
    ks = sorted({*steps, *config.ks})
    return {
        "k": ks,
        "hit_rate": {
            name: [hit_rate(found.ranking.ranks, k) for k in ks] for name, found in measures.items()
        },
    }


def _similarities(methods: Mapping[str, Scorer | VectorScorer], seed: int) -> dict[str, Any]:
    """Describe the spread of every method that compares vectors, on the same pairs (figure 4)."""
    found = {
        name: similarity_distribution(
            scorer.vectors, stream(seed, Stream.SAMPLE, Sample.SIMILARITY)
        )
        for name, scorer in methods.items()
        if isinstance(scorer, VectorScorer)
    }
    return {name: value for name, value in found.items() if value is not None}


def _map(
    methods: Mapping[str, Scorer | VectorScorer],
    items: ItemFacts,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any] | None:
    """Lay our embeddings out in the plane (figure 6)."""
    ours = methods.get(OURS)
    if not isinstance(ours, VectorScorer) or not config.map_items:
        return None
    rng = stream(seed, Stream.SAMPLE, Sample.MAP)
    return embedding_map(ours.vectors, items.describe, rng, num_items=config.map_items)
