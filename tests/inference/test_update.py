"""An update against embedding everything anew, for random worlds and random changes."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.base.artifacts import publish
from pinsage.base.errors import ArtifactError
from pinsage.inference.export import STAGE, part_name, write_part
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.inference.update import (
    FEATURES,
    NEIGHBORHOOD,
    PRINTS_FILE,
    PreviousEmbeddings,
    Update,
    hidden_name,
    plan_update,
    print_items,
)
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.neighborhood import Neighborhoods
from tests.worlds import Features, random_world

OLD = 60


def model_of(num_layers: int) -> PinSage:
    torch.manual_seed(1)
    shape = {"num_layers": num_layers, "projected_width": 12, "embedding_width": 8}
    return PinSage(ModelConfig.model_validate(shape), feature_width=6).eval()


def keys_of(count: int) -> pa.Array:
    return pa.array([f"item-{number}" for number in range(count)])


def embed(
    model: PinSage, world: tuple[Features, Neighborhoods], folder: Path, update: Update | None
) -> tuple[np.ndarray, list[np.ndarray], int]:
    """Embeddings, the hidden rows below the last, and how many convolutions that took."""
    folder.mkdir()
    encoder = LayerwiseEncoder(model, *world, folder, update=update)
    num_items, rows, count = world[0].num_items, None, 0
    for number in range(encoder.num_passes):
        encoder.allocate(number)
        rows = encoder.run(number, 0, num_items)
        count += encoder.count_convolutions(number, 0, num_items)
        encoder.release(number, keep_hidden=True)
    hidden = [np.load(encoder.hidden_file(k)) for k in range(1, encoder.num_layers)]
    return rows, hidden, count


def published(model: PinSage, world: tuple[Features, Neighborhoods], folder: Path) -> Path:
    """Embeddings as `embed.keep_rows` publishes them."""
    embeddings, hidden, _ = embed(model, world, folder / "rows", None)
    keys = keys_of(len(embeddings))
    with publish(folder / "old", stage=STAGE, config={}, parents={}) as draft:
        for start in range(0, len(embeddings), 25):
            stop = min(start + 25, len(embeddings))
            with draft.file(part_name("part", start, stop)) as path:
                write_part(path, keys[start:stop], embeddings[start:stop])
        for number, rows in enumerate(hidden, start=1):
            draft.write_array(hidden_name(number), rows)
        draft.write_array(PRINTS_FILE, print_items(keys, *world, num_neighbors=None))
    return folder / "old"


def changed_world(
    world: tuple[Features, Neighborhoods], seed: int, changes: int, added: int
) -> tuple[Features, Neighborhoods]:
    """Some items get other features, some other neighbors, and some are new."""
    rng = np.random.default_rng(seed)
    features, table = world
    fresh, fresh_table = random_world(seed + 1, OLD + added)
    rows = np.concatenate([features.rows, fresh.rows[OLD:]])
    ids = np.concatenate([table.ids, fresh_table.ids[OLD:]])
    weights = np.concatenate([table.weights, fresh_table.weights[OLD:]])
    for item in rng.integers(0, len(rows), changes):
        kind = rng.integers(3)
        if kind == 0:
            rows[item] += 1
        elif kind == 1:
            ids[item] = rng.choice(len(rows), ids.shape[1], replace=False)
        else:
            # Absent neighbors, which come last, have no weight.
            present = int((ids[item] >= 0).sum())
            weights[item, :present] = weights[item, :present][::-1].copy()
    none = np.full((len(rows), 0), -1, np.int32)
    return Features(rows), Neighborhoods(ids, weights, none)


def expected_changes(old, new, prints, num_layers):
    """The sets by their definition, item by item."""
    differs = [
        {i for i in range(len(new)) if i >= len(old) or old[i, column] != new[i, column]}
        for column in (FEATURES, NEIGHBORHOOD)
    ]
    sets = [differs[0]]
    for _ in range(num_layers):
        sets.append({
            item
            for item in range(len(new))
            if item in sets[-1]
            or item in differs[1]
            or any(neighbor in sets[-1] for neighbor in prints[item] if neighbor >= 0)
        })
    return sets


@settings(max_examples=25)
@given(
    num_layers=st.integers(0, 3),
    changes=st.integers(0, 6),
    added=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_an_update_equals_embedding_everything_and_computes_only_what_changes_reach(
    num_layers: int, changes: int, added: int, seed: int
) -> None:
    model, old_world = model_of(num_layers), random_world(5, OLD)
    world = changed_world(old_world, seed, changes, added)
    with TemporaryDirectory() as name:
        folder = Path(name)
        previous = PreviousEmbeddings.open(published(model, old_world, folder))
        prints = print_items(keys_of(OLD + added), *world, num_neighbors=None)
        update = plan_update(
            previous, prints, world[1].ids, num_layers=num_layers, num_neighbors=None
        )
        expected = expected_changes(previous.prints, prints, world[1].ids, num_layers)
        assert [set(np.flatnonzero(mask)) for mask in update.changed] == expected
        update.save(folder)
        loaded = Update.load(folder, previous)
        found, hidden, count = embed(model, world, folder / "update", loaded)
        everything, all_hidden, _ = embed(model, world, folder / "whole", None)
    np.testing.assert_allclose(found, everything, atol=1e-6)
    for rows, all_rows in zip(hidden, all_hidden, strict=True):
        np.testing.assert_allclose(rows, all_rows, atol=1e-6)
    assert count == sum(map(len, expected[1:]))


def test_items_are_known_again_by_their_keys_in_any_order(tmp_path: Path) -> None:
    model, (features, table) = model_of(2), random_world(5, OLD)
    previous = PreviousEmbeddings.open(published(model, (features, table), tmp_path))
    order = np.random.default_rng(0).permutation(OLD)
    places = np.argsort(order)
    ids = np.where(table.ids >= 0, places[table.ids], -1)[order].astype(np.int32)
    moved = Features(features.rows[order]), replace(table, ids=ids, weights=table.weights[order])
    prints = print_items(keys_of(OLD).take(pa.array(order)), *moved, num_neighbors=None)
    update = plan_update(previous, prints, ids, num_layers=2, num_neighbors=None)
    assert not np.array(update.changed).any()
    found, _, count = embed(model, moved, tmp_path / "update", update)
    assert count == 0
    np.testing.assert_array_equal(found, previous.embeddings.take(order))


def test_integer_keys_and_slices_of_keys_print_like_their_text() -> None:
    world = random_world(5, 10)
    texts, numbers = (
        print_items(keys, *world, num_neighbors=None)
        for keys in (pa.array([str(v) for v in range(12)])[2:], pa.array(range(2, 12)))
    )
    np.testing.assert_array_equal(texts, numbers)


def test_neighbors_beyond_those_used_change_nothing() -> None:
    features, table = random_world(5, OLD)
    other = table.ids.copy()
    other[:, 3] = table.ids[::-1, 3]
    one, two, three = (
        print_items(keys_of(OLD), features, replace(table, ids=ids), num_neighbors=width)
        for ids, width in ((table.ids, 3), (other, 3), (other, 4))
    )
    np.testing.assert_array_equal(one, two)
    assert (one[:, NEIGHBORHOOD] != three[:, NEIGHBORHOOD]).any()


def test_embeddings_without_prints_are_refused(tmp_path: Path) -> None:
    with publish(tmp_path / "old", stage=STAGE, config={}, parents={}):
        pass
    with pytest.raises(ArtifactError, match=r"embed\.keep_rows=true"):
        PreviousEmbeddings.open(tmp_path / "old")
