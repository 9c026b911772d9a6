"""A small generation whose right answers are known, in the published formats.

By embedding, item v lies between v - 1 and v + 1 on a ring; by text, the items five places away
are its nearest; by walk, its neighbors are v + 1, v + 2 and v + 7. Item v is in NUM_ITEMS - 1 - v
contexts, so the ids are in order of popularity. The last item is cold: no edges, no text features,
no neighborhood.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pinsage.base.artifacts import publish
from pinsage.base.shared import read_shared
from pinsage.cluster.generations import digest_of, publish_generation
from pinsage.graph.catalog import IMAGE_NOTE, TITLE_NOTE
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.retrieval import IndexConfig, build_index, save_index

TITLES = """
Pride and Prejudice|Jane Austen
Emma|Jane Austen
The Hound of the Baskervilles (Sherlock Holmes, #5)|Arthur Conan Doyle
A Study in Scarlet (Sherlock Holmes, #1)|Arthur Conan Doyle
Les Mis\u00e9rables|Victor Hugo
The Picture of Dorian Gray|Oscar Wilde
Frankenstein; or, The Modern Prometheus|Mary Shelley
Dracula|Bram Stoker
The Call of the Wild|Jack London
White Fang|Jack London
Alice's Adventures in Wonderland|Lewis Carroll
Through the Looking-Glass|Lewis Carroll
The Time Machine|H. G. Wells
The War of the Worlds|H. G. Wells
Moby-Dick; or, The Whale|Herman Melville
Treasure Island|Robert Louis Stevenson
Kidnapped|Robert Louis Stevenson
The Count of Monte Cristo|Alexandre Dumas
The Three Musketeers|Alexandre Dumas
War and Peace|Leo Tolstoy
Anna Karenina|Leo Tolstoy
Crime and Punishment|Fyodor Dostoevsky
The Brothers Karamazov|Fyodor Dostoevsky
Great Expectations|Charles Dickens
A Tale of Two Cities|Charles Dickens
Oliver Twist|Charles Dickens
Jane Eyre|Charlotte Bront\u00eb
Wuthering Heights|Emily Bront\u00eb
Middlemarch|George Eliot
Gulliver's Travels|Jonathan Swift
Robinson Crusoe|Daniel Defoe
The Adventures of Tom Sawyer|Mark Twain
Adventures of Huckleberry Finn|Mark Twain
Twenty Thousand Leagues under the Sea|Jules Verne
Around the World in Eighty Days|Jules Verne
The Jungle Book|Rudyard Kipling
A Forgotten Pamphlet <b>nobody</b> shelved|Anonymous
""".strip().splitlines()

NUM_ITEMS = len(TITLES)
COLD = NUM_ITEMS - 1
NUM_CONTEXTS = NUM_ITEMS - 1
TEXT_STEP = 5
WALK_STEPS = (1, 2, 7)
WALK_WEIGHTS = (0.5, 0.25, 0.25)

ODD_KEYS = {
    10: "a/b",
    11: "100%",
    12: "two words",
    13: "\u00fcml\u00e4ut \u672c",
    14: "a%2Fb",
    15: "a",
    16: "a/similar",
    17: "?q=1&k=#x",
    18: "+plus",
}
KEYS = [ODD_KEYS.get(item_id, f"book-{item_id}") for item_id in range(NUM_ITEMS)]


def title_of(item_id: int) -> str:
    return TITLES[item_id].partition("|")[0]


def ring_neighbors(item_id: int, reach: int) -> set[str]:
    """Keys of the items at most `reach` places away on the embeddings' ring."""
    steps = [*range(-reach, 0), *range(1, reach + 1)]
    return {KEYS[(item_id + step) % NUM_ITEMS] for step in steps}


def write_generation(
    output: Path,
    *,
    with_report: bool = True,
    with_model: bool = False,
    deviation: float = 1.0,
    image: str = "https://covers.invalid/{}.jpg",
    columns: Mapping[str, pa.Array] | None = None,
) -> Path:
    """Publish every part into `output`; returns the path of its generation.json.

    Args:
        output: the run's folder.
        with_report: whether there is one.
        with_model: that embeds new items.
        deviation: what the model divides features by.
        image: where item {} has its picture.
        columns: further ones of the items, or others of the same names.
    """
    parts = {
        "graph": _write_graph(output / "graph" / "0123456789ab", image, columns=columns),
        "neighborhoods": _write_neighborhoods(output / "neighborhoods" / "123456789abc"),
        "index": _write_index(output / "index" / "23456789abcd"),
    }
    if with_report:
        parts["report"] = _write_report(output / "report" / "3456789abcde")
    if with_model:
        parts["model"] = _write_model(output / "model" / "456789abcdef", deviation=deviation)
    return publish_generation(output, parts)


def write_further(
    output: Path,
    step: int,
    *,
    width: int = 2,
    group: str = "text",
    with_model: bool = False,
    deviation: float = 1.0,
) -> str:
    """Publish a further generation into the folder of another; returns its digest.

    Args:
        output: where `write_generation` wrote.
        step: by embedding, item v lies beside those whose ids times `step` differ by one from its
            own; every step from 2 to 18 has other answers.
        width: width of the embeddings.
        group: what the feature group of the first generation is called in this one.
        with_model: that embeds new items, which are 2 wide then.
        deviation: what the model divides features by.
    """
    image = f"https://covers.invalid/{step}/{{}}.jpg"
    parts = {
        "graph": _write_graph(output / "graph" / f"{step:012x}", image, group),
        "neighborhoods": _write_neighborhoods(output / "neighborhoods" / f"{step:012x}"),
        "index": _write_index(output / "index" / f"{step:012x}", step, width),
    }
    if with_model:
        parts["model"] = _write_model(output / "model" / f"{step:012x}", step, deviation)
    content = read_shared(publish_generation(output, parts))
    assert content is not None
    return digest_of(content)


def beside(item_id: int, step: int) -> set[str]:
    """Keys of the two items nearest to one by embedding, in a generation of that step."""
    inverse = pow(step, -1, NUM_ITEMS)
    return {KEYS[(item_id + place) % NUM_ITEMS] for place in (-inverse, inverse)}


def _ring(step: int) -> np.ndarray:
    angles = 2 * np.pi * (np.arange(NUM_ITEMS) * step % NUM_ITEMS) / NUM_ITEMS
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _write_graph(
    directory: Path,
    image: str,
    group: str = "text",
    columns: Mapping[str, pa.Array] | None = None,
) -> Path:
    degrees = np.maximum(NUM_ITEMS - 1 - np.arange(NUM_ITEMS), 0)
    members = [np.flatnonzero(degrees > context) for context in range(NUM_CONTEXTS)]
    # By the inverse step, so that items TEXT_STEP apart in id lie side by side.
    features = np.concatenate(
        [_ring(pow(TEXT_STEP, -1, NUM_ITEMS)), np.log1p(degrees)[:, None].astype(np.float32)],
        axis=1,
    )
    features[COLD, :2] = 0
    items = pa.table({
        "item_key": KEYS,
        "title": [title_of(item_id) for item_id in range(NUM_ITEMS)],
        "authors": [line.partition("|")[2] for line in TITLES],
        "language": ["en"] * NUM_ITEMS,
        "year": pa.array([1800 + item_id for item_id in range(NUM_ITEMS)]),
        "cover": [image.format(item_id) for item_id in range(NUM_ITEMS)],
        **(columns or {}),
    }).replace_schema_metadata({TITLE_NOTE: b"title", IMAGE_NOTE: b"cover"})
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        shard = "shard-00000-of-00001"
        draft.write_array(f"{shard}/item_starts.npy", _starts(degrees))
        contexts = np.concatenate([np.arange(degree) for degree in degrees])
        draft.write_array(f"{shard}/item_contexts.npy", contexts.astype(np.int32))
        draft.write_array(f"{shard}/context_starts.npy", _starts([len(m) for m in members]))
        draft.write_array(f"{shard}/context_items.npy", np.concatenate(members).astype(np.int32))
        draft.write_array(f"{shard}/features.npy", features)
        with draft.file("items.parquet") as path:
            pq.write_table(items, path)
        with draft.file("contexts.parquet") as path:
            keys = [f"shelf-{context}" for context in range(NUM_CONTEXTS)]
            # In pieces, as a large file is.
            pq.write_table(pa.table({"context_key": keys}), path, row_group_size=10)
        draft.counts = {
            "items": NUM_ITEMS,
            "contexts": NUM_CONTEXTS,
            "edges": int(degrees.sum()),
            "shards": 1,
            "pairs": {"train": 0, "valid": 0, "test": 0},
            "feature_groups": {group: 2, "log_degree": 1},
            "cold_items": 1,
            "repeated_edges": 0,
            "left_out_edges": {},
            "dropped": {},
        }
    return directory


def _starts(degrees: object) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)


def _write_neighborhoods(directory: Path) -> Path:
    ids = (np.arange(NUM_ITEMS)[:, None] + WALK_STEPS) % NUM_ITEMS
    weights = np.tile(np.array(WALK_WEIGHTS, np.float32), (NUM_ITEMS, 1))
    ids[COLD], weights[COLD] = -1, 0
    config = {"walk": {"num_walks": 20, "num_neighbors": len(WALK_STEPS)}, "seed": 0}
    with publish(directory, stage="neighborhoods", config=config, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", ids.astype(np.int32))
        draft.write_array("weights.npy", weights)
        draft.write_array("hard_negatives.npy", np.empty((NUM_ITEMS, 0), np.int32))
    return directory


def _write_index(directory: Path, step: int = 1, width: int = 2) -> Path:
    vectors = np.zeros((NUM_ITEMS, width), np.float32)
    vectors[:, :2] = _ring(step)
    with publish(directory, stage="index", config={}, parents={}) as draft:
        save_index(build_index(vectors, IndexConfig(kind="exact")), draft)
    return directory


def _write_model(directory: Path, seed: int = 1, deviation: float = 1.0) -> Path:
    """A model that nobody trained, as wide as the embeddings."""
    torch.manual_seed(seed)
    config = ModelConfig(num_layers=2, projected_width=24, embedding_width=2)
    with publish(directory, stage="model", config={}, parents={}) as draft:
        model = PinSage(config, feature_width=3)
        model.set_feature_scale(torch.zeros(3), torch.full((3,), deviation))
        save_model(model, draft)
    return directory


def _map() -> dict[str, object]:
    """The first nine items, row by row in a square."""
    points = [
        {
            "item_id": item_id,
            "title": title_of(item_id),
            "image": None,
            "degree": NUM_ITEMS - 1 - item_id,
            "x": 0.1 + 0.4 * (item_id % 3),
            "y": 0.1 + 0.4 * (item_id // 3),
            "near": [(item_id + 1) % 9, (item_id + 2) % 9],
        }
        for item_id in range(9)
    ]
    return {"how": "nine items in rows", "items": 9, "points": points}


def _write_report(directory: Path) -> Path:
    metrics = {
        method: {"hit_rate@10": 0.01 * place, "hit_rate@100": 0.1 * place, "note": "kept out"}
        for place, method in enumerate(("pinsage", "text", "walk", "popularity"), start=1)
    }
    with publish(directory, stage="report", config={}, parents={}) as draft:
        draft.write_json("report.json", {"metrics": metrics, "map": _map()})
    return directory
