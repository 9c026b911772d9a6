"""Whatever the sizes, the recipe made for them is one."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pinsage.base.errors import ConfigError
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.starter import recipe_text, starter_settings, write_recipe
from pinsage.graph.guess import Guess
from pinsage.graph.schema import (
    DataConfig,
    EdgesConfig,
    FeatureConfig,
    ItemsConfig,
    PairsConfig,
    SplitConfig,
)
from pinsage.training.loop import too_few_steps
from ray_jobs import recipe


def tables(num_items: int, num_edges: int, num_pairs: int | None = None) -> Guess:
    data = DataConfig(
        items=ItemsConfig(path="ö: [items]", key="a 'key'"),
        edges=(EdgesConfig(path="edges", item='the "item"', context="on: board"),),
        pairs=None if num_pairs is None else PairsConfig(path="pairs"),
    )
    return Guess(data, num_items, num_edges, num_pairs)


@pytest.mark.parametrize("num_items", [1, 40, 10_000, 2_000_000_000])
@pytest.mark.parametrize("edges_an_item", [1, 9, 1000])
@pytest.mark.parametrize("num_pairs", [None, 7, 10_000_000])
def test_the_recipe_is_one_for_any_sizes(num_items, edges_an_item, num_pairs) -> None:
    guess = tables(num_items, num_items * edges_an_item, num_pairs)
    config = RunConfig.model_validate(yaml.safe_load(recipe_text("a: name", guess)))
    assert (config.name, config.data) == ("a: name", guess.data)
    assert config.hard_negatives.first_rank < config.hard_negatives.last_rank
    assert (config.model.num_layers == 2) == (edges_an_item < 4)


@pytest.mark.parametrize("num_edges", [700, 3_160, 9_000, 40_000, 2_000_000])
@pytest.mark.parametrize("num_pairs", [None, 20_000])
def test_the_settings_train_long_enough_on_what_is_not_held_out(num_edges, num_pairs) -> None:
    guess = replace(tables(300, num_edges, num_pairs), has_shared_contexts=num_pairs is None)
    train = RunConfig.model_validate(yaml.safe_load(recipe_text("x", guess))).train
    pairs = round(0.8 * (num_pairs or num_edges))
    steps = pairs // train.minibatch.size * train.schedule.epochs
    assert too_few_steps(train, total=steps, pairs_per_step=train.minibatch.size) is None


def test_a_recipe_says_that_nothing_is_held_out_where_that_is_so() -> None:
    guess = tables(9, 90)
    split = SplitConfig(valid=0.0, test=0.0)
    all_used = replace(guess, data=guess.data.model_copy(update={"split": split}))
    assert "nothing is evaluated" not in recipe_text("x", guess)
    text = recipe_text("x", all_used)
    assert "nothing is evaluated" in text
    assert RunConfig.model_validate(yaml.safe_load(text)).data.split == split


def test_columns_that_are_not_used_are_told_in_comments() -> None:
    guess = replace(tables(9, 90), unused=("items: a (list<int64>), b\nname: x (date32)",))
    text = recipe_text("mine", guess)
    assert "\n# Not used of items: a (list<int64>), b name: x (date32)\n" in text
    assert yaml.safe_load(text)["name"] == "mine"


def test_edges_are_hidden_where_content_tells_of_items_without_them() -> None:
    features = (FeatureConfig(name="vec", column="vec"),)
    for content, hidden in ((features, 0.2), ((), 0.0)):
        guess = tables(1_000, 10_000)
        items = guess.data.items.model_copy(update={"features": content})
        guess = replace(guess, data=guess.data.model_copy(update={"items": items}))
        config = RunConfig.model_validate(yaml.safe_load(recipe_text("x", guess)))
        assert config.train.minibatch.hidden_edges == hidden


def test_pairs_are_those_of_the_table_where_contexts_give_none() -> None:
    guess = replace(tables(9, 9, num_pairs=90), has_shared_contexts=False)
    config = RunConfig.model_validate(yaml.safe_load(recipe_text("mine", guess)))
    assert config.train.minibatch.fresh_pairs is None
    assert config.hard_negatives is None
    assert config.train.minibatch.max_hard_negatives == 0
    seen_in_part = starter_settings(replace(guess, is_seen_whole=False))
    assert seen_in_part["hard_negatives"]
    assert seen_in_part["train"]["minibatch"]["max_hard_negatives"] == 6


@pytest.mark.parametrize(
    ("num_items", "timestamp", "num_pairs", "fresh"),
    [
        (300, "at", None, None),
        (300, None, None, ""),
        (300, "at", 20_000, ""),
        (300, "at", 20_001, None),
        (15_000, "at", None, ""),
        (299, "at", None, ""),
    ],
)
def test_train_pairs_are_trained_on_where_there_are_enough(
    num_items, timestamp, num_pairs, fresh
) -> None:
    guess = tables(num_items, 20_000 if num_items != 299 else 9_999, num_pairs)
    (edges,) = guess.data.edges
    timed = edges.model_copy(update={"timestamp": timestamp})
    guess = replace(guess, data=guess.data.model_copy(update={"edges": (timed,)}))
    text = recipe_text("mine", guess)
    assert yaml.safe_load(text)["train"]["minibatch"]["fresh_pairs"] == fresh
    by_time = "# Pairs are an item and the next one of its context, by time.\n" in text
    assert by_time == (fresh is None and num_pairs is None)


def test_settings_grow_with_the_tables_up_to_a_bound() -> None:
    sizes = [starter_settings(tables(items, items * 20)) for items in (100, 10_000, 10_000_000)]
    ranks = [one["hard_negatives"]["last_rank"] for one in sizes]
    batches = [one["train"]["minibatch"]["size"] for one in sizes]
    widths = [one["graph"]["structure"]["width"] for one in sizes]
    assert ranks == [20, 200, 5000]
    assert batches == [256, 4096, 8192]
    assert widths == [64, 512, 128]


def test_a_recipe_that_is_there_stays(tmp_path) -> None:
    path = tmp_path / "shop.yaml"
    write_recipe(path, "mine")
    with pytest.raises(ConfigError, match="there already"):
        write_recipe(path, "yours")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["structure", "a b", ""])
def test_a_feature_group_of_a_taken_or_odd_name_is_refused_in_one_line(
    name, monkeypatch, capsys
) -> None:
    flags = ["--items", "no", "--edges", "no", "--npy", f"{name}=visual.npy"]
    monkeypatch.setattr("sys.argv", ["recipe", *flags])
    assert recipe.main() == 2
    assert "error: --npy: wanted a name of letters, digits and _" in capsys.readouterr().err


def test_a_feature_group_that_is_given_twice_is_refused(monkeypatch, capsys) -> None:
    flags = ["--items", "no", "--edges", "no", "--npy", "a=1.npy", "--npy", "a=2.npy"]
    monkeypatch.setattr("sys.argv", ["recipe", *flags])
    assert recipe.main() == 2
    assert "'a' is given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "flags", "output"),
    [
        ("shop.yaml", [], "runs/shop"),
        ("My shop (new).yaml", [], "runs/My-shop-new"),
        ("shop.yaml", ["--name", "books"], "runs/books"),
    ],
)
def test_results_go_to_a_folder_that_is_named_as_the_recipe(
    tmp_path, monkeypatch, to, flags, output
) -> None:
    keys = [f"p{number}" for number in range(40)]
    pq.write_table(pa.table({"sku": keys}), tmp_path / "items.parquet")
    edges = {"sku": keys * 2, "basket": ["a", "b", "c", "d"] * 20}
    pq.write_table(pa.table(edges), tmp_path / "edges.parquet")
    tables = [f"--{name}={tmp_path / name}.parquet" for name in ("items", "edges")]
    monkeypatch.setattr("sys.argv", ["recipe", *tables, "--to", str(tmp_path / to), *flags])
    assert recipe.main() == 0
    assert yaml.safe_load((tmp_path / to).read_text())["output"] == output
