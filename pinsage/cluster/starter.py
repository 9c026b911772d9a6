"""A first recipe for tables that nobody has trained on yet: settings that follow their sizes.

The rules were found on valid pairs of several data sets, from 300 items to 900,000 edges, with and
without content, times and pairs (`python -m benchmarks.starter`, docs/quality.md). They fit a
laptop; `ray_jobs/recipes/paper.yaml` has the paper's own settings.
"""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from pinsage.base.errors import ConfigError
from pinsage.base.files import whole_file
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.guess import Guess
from pinsage.training.schedule import ScheduleConfig

_SPARSE = 4.0
"""Edges an item, below which a second convolution finds more than it costs."""

_STEPS_AN_EPOCH = 30
"""Fewer learn too little; more, each of fewer pairs, meet the same neighbors again and again."""

_FEWEST_STEPS = 60
"""Few edges are gone through more often, until there are so many."""

_ENOUGH_IN_A_ROW = 10_000
"""Edges with times, from which on an item and the next one of its context teach more than any two
items of one context do; of fewer, or of few an item, these are too few different pairs."""

_HIDDEN_EDGES = 0.2
"""So that items which come with content alone are found among those like them."""

_MANY_EDGES = 50_000_000
_MANY_PAIRS = 1_000_000
_HELD_OUT_SHARE = 0.1
_ENOUGH_HELD_OUT = 50_000

_COMMENTS = {
    "graph": "Features made from the graph itself; without content, the only ones.",
    "walk": "Importance neighborhoods (paper, 3.2).",
    "hard_negatives": "Ranks of the walks' visits: like the query, but not too like (paper, 3.3).",
    "model": "One convolution; a second one pays where items have fewer edges.",
    "train": "Pairs are two items of one context, drawn anew every epoch.",
    "evaluate": "What to compare with; als and bpr need pinsage[baselines].",
}


_NOTHING_HELD_OUT = (
    "# There are too few contexts to hold some out and measure with, so nothing is evaluated.\n"
)


def starter_settings(guess: Guess) -> dict[str, Any]:
    """Choose the settings for a first run by the sizes of the tables.

    Args:
        guess: the tables.

    Returns:
        Section of a recipe to its settings; what is not there has its default.
    """
    items, edges = guess.num_items, guess.num_edges
    last_rank = _between(items // 50, 20, 5000)
    size = _between(_power_of_two(edges / _STEPS_AN_EPOCH), 256, 8192)
    layers = 2 if edges < _SPARSE * items else 1
    minibatch: dict[str, Any] = {
        "size": size,
        "shared_negatives": _between(items // 4, min(items, 500), 1000),
        "max_hard_negatives": 6,
        "fresh_pairs": "",
    }
    if guess.data.items.features:
        minibatch["hidden_edges"] = _HIDDEN_EDGES
    if _takes_train_pairs(guess, is_sparse=layers > 1):
        minibatch["fresh_pairs"] = None
    pairs = edges
    if minibatch["fresh_pairs"] is None and guess.num_pairs is not None:
        pairs = guess.num_pairs
    steps_an_epoch = max(int(pairs * (1 - 2 * _HELD_OUT_SHARE)) // size, 1)
    if layers > 1 and edges > _MANY_PAIRS:
        minibatch["num_neighbors"] = 10
    widest = 512 if edges <= _MANY_EDGES else 128
    settings: dict[str, Any] = {
        "graph": {
            "structure": {
                "width": _between(_power_of_two(items), 8, widest),
                "item_power": 0.3,
                "context_power": 0.3,
            }
        },
        "walk": {"num_walks": 200, "num_neighbors": 50},
        "hard_negatives": {"first_rank": last_rank // 4, "last_rank": last_rank},
        "model": {"num_layers": layers, "projected_width": 512, "embedding_width": 256},
        "train": {
            "minibatch": minibatch,
            "scale_features": "groups",
            "loss": {"kind": "softmax", "temperature": 0.05},
            "schedule": {
                "epochs": _between(math.ceil(_FEWEST_STEPS / steps_an_epoch), 5, 50),
                "learning_rate": _learning_rate(size),
                "warmup_epochs": 0.5,
                "decay": 0.6,
            },
        },
    }
    if guess.is_seen_whole and not guess.has_shared_contexts:
        # Walks reach nobody.
        settings["hard_negatives"], minibatch["max_hard_negatives"] = None, 0
    held_out = guess.num_pairs if guess.num_pairs is not None else edges
    if held_out * _HELD_OUT_SHARE > _ENOUGH_HELD_OUT:
        settings["evaluate"] = {"max_pairs": _ENOUGH_HELD_OUT}
    return settings


def _takes_train_pairs(guess: Guess, *, is_sparse: bool) -> bool:
    """Tell whether to train on the train pairs, not on any two items of one context."""
    if guess.num_pairs is not None:
        # Contexts of one item give none; a few pairs are soon known by heart.
        return not guess.has_shared_contexts or guess.num_pairs > guess.num_edges
    has_times = guess.data.edges[0].timestamp is not None
    return has_times and not is_sparse and guess.num_edges >= _ENOUGH_IN_A_ROW


def _whose_pairs(guess: Guess) -> str:
    """Say which train pairs there are, and why they are taken."""
    if guess.num_pairs is None:
        return "an item and the next one of its context, by time"
    if guess.has_shared_contexts:
        return "those of the table: they are more than the edges"
    return "those of the table: no context has two items to draw from"


def recipe_text(name: str, guess: Guess) -> str:
    """Write a recipe with its reasons.

    Args:
        name: of the recipe; results go to `runs/<name>`.
        guess: the tables.

    Returns:
        YAML that loads as a `RunConfig`.
    """
    settings = starter_settings(guess)
    data = guess.data.model_dump(mode="json", exclude_defaults=True)
    pairs = "pairs from the edges" if guess.num_pairs is None else f"{guess.num_pairs:,} pairs"
    # A column's name may have line breaks, a comment may not.
    unused = "".join(f"# Not used of {' '.join(text.split())}\n" for text in guess.unused)
    parts = [
        f"# Made by `python -m ray_jobs.recipe` for {guess.num_items:,} items, "
        f"{guess.num_edges:,} edges, {pairs}.\n"
        "# Columns were found by their types, values and names: look them over.\n"
        f"{unused}"
        f"{'' if guess.data.split.holds_out else _NOTHING_HELD_OUT}"
        f"name: {json.dumps(name)}\noutput: {json.dumps(f'runs/{name}')}\n",
        _section("data", data),
    ]
    comments = dict(_COMMENTS)
    if settings["model"]["num_layers"] > 1:
        comments["model"] = "Two convolutions: they pay where items have few edges."
    if settings["hard_negatives"] is None:
        comments["hard_negatives"] = "None: walks reach no other item."
    if settings["train"]["minibatch"]["fresh_pairs"] is None:
        comments["train"] = f"Pairs are {_whose_pairs(guess)}."
    elif guess.num_pairs is not None:
        comments["train"] += "\n# Your train pairs are not used so; `fresh_pairs: null` takes them."
    if "hidden_edges" in settings["train"]["minibatch"]:
        comments["train"] += (
            "\n# Some items' edges are hidden: new items are found by their content."
        )
    parts += [
        f"# {comments[section]}\n{_section(section, value)}" for section, value in settings.items()
    ]
    text = "\n".join(parts)
    RunConfig.model_validate(yaml.safe_load(text))
    return text


def write_recipe(path: Path, text: str) -> None:
    """Write a recipe's text to a new file.

    Raises:
        ConfigError: there is such a file already, or no such folder.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already; give another name, or remove it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it, or give another")
    with whole_file(path) as whole:
        whole.write_text(text, encoding="utf-8")


def _section(name: str, content: dict[str, Any] | None) -> str:
    if content is None:
        return f"{name}: null\n"
    return yaml.safe_dump(
        {name: content}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )


def _learning_rate(size: int) -> float:
    """Choose the rate for `schedule.reference_size`, which grows with the minibatch from there."""
    reached = 3e-3 if size >= 2048 else 1.5e-3
    return float(f"{reached * ScheduleConfig().reference_size / size:.2g}")


def _power_of_two(number: float) -> int:
    return 1 << max(int(number).bit_length() - 1, 0)


def _between(number: int, least: int, most: int) -> int:
    return min(max(number, least), most)
