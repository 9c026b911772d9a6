"""Embeddings as other tools read them."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import publish
from pinsage.base.errors import ArtifactError, NotFiniteError
from pinsage.inference.export import (
    KeyReader,
    PartsReader,
    part_name,
    read_context_embeddings,
    read_embeddings,
    write_part,
)

ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
KEYS = ["a", "b", "c", "d"]


def published(folder: Path, rows: np.ndarray = ROWS, counts: int = 4) -> Path:
    with publish(folder / "e", stage="embeddings", config={}, parents={}) as draft:
        draft.counts["items"] = counts
        for start in (0, 2):
            with draft.file(part_name("part", start, start + 2)) as path:
                write_part(path, pa.array(KEYS[start : start + 2]), rows[start:][:2])
    return folder / "e"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pyarrow_pandas_and_duckdb_read_the_same_rows(tmp_path: Path, dtype: type) -> None:
    rows = ROWS.astype(dtype)
    directory = published(tmp_path, rows)
    files = sorted(directory.glob("part-*.parquet"))
    table = pq.read_table(files, columns=["item_key", "embedding"])
    assert table.schema.field("embedding").type == pa.list_(pa.from_numpy_dtype(dtype), 3)
    assert table["item_key"].to_pylist() == KEYS
    assert table["embedding"].to_pylist() == rows.tolist()
    frame = pd.read_parquet(files)
    assert frame["item_key"].tolist() == KEYS
    np.testing.assert_array_equal(np.stack(frame["embedding"]), rows)
    found = duckdb.sql(
        f"select item_key, embedding from '{directory}/part-*.parquet' order by item_key"
    ).fetchall()
    assert [key for key, _ in found] == KEYS
    np.testing.assert_array_equal(np.array([list(row) for _, row in found], np.float32), rows)
    np.testing.assert_array_equal(read_embeddings(directory), rows.astype(np.float32))


def test_threads_that_want_one_file_at_the_same_time_read_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, read = published(tmp_path), []
    ready = Barrier(8)

    def wait_and_read(*arguments: object, **settings: object) -> pa.Table:
        read.append(arguments)
        time.sleep(0.1)
        return pq.read_table(*arguments, **settings)

    reader = PartsReader(directory)
    monkeypatch.setattr("pinsage.inference.export.pq", SimpleNamespace(read_table=wait_and_read))

    def take(_: int) -> np.ndarray:
        ready.wait(10)
        return reader.take(np.array([3, 0]))

    with ThreadPoolExecutor(8) as threads:
        for rows in threads.map(take, range(8)):
            np.testing.assert_array_equal(rows, ROWS[[3, 0]])
    assert len(read) == 2


def test_embeddings_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    with pytest.raises(NotFiniteError, match=r"part-000000000002-\d*\.parquet: .* embed again"):
        read_embeddings(published(tmp_path, rows))


def test_duckdb_ranks_neighbors(tmp_path: Path) -> None:
    directory = published(tmp_path)
    [(nearest,)] = duckdb.sql(
        f"with items as (select * from '{directory}/part-*.parquet')"
        " select other.item_key from items query, items other"
        " where query.item_key = 'b' and other.item_key <> 'b'"
        " order by list_inner_product(query.embedding, other.embedding) desc limit 1"
    ).fetchall()
    scores = ROWS @ ROWS[1]
    scores[1] = -np.inf
    assert nearest == KEYS[int(scores.argmax())]


def test_rows_are_taken_from_the_files_they_are_in(tmp_path: Path) -> None:
    taken = PartsReader(published(tmp_path)).take(np.array([3, 0, 3, 1]))
    np.testing.assert_array_equal(taken, ROWS[[3, 0, 3, 1]])


def test_files_are_decoded_twice_at_most_whatever_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    for start in range(0, 40, 4):
        keys = pa.array(range(start, start + 4))
        write_part(tmp_path / part_name("part", start, start + 4), keys, rows[start:][:4])
    read = Counter[str]()

    def count_and_read(path: Path, **settings: object) -> pa.Table:
        read[path.name] += 1
        return pq.read_table(path, **settings)

    monkeypatch.setattr("pinsage.inference.export.pq", SimpleNamespace(read_table=count_and_read))
    reader = PartsReader(tmp_path, tmp_path)
    for order in np.random.default_rng(1).permuted(np.tile(np.arange(40), (5, 1)), axis=1):
        for asked in order.reshape(-1, 8):
            np.testing.assert_array_equal(reader.take(asked), rows[asked])
    assert len(read) == 10
    assert max(read.values()) == 2
    in_order = PartsReader(tmp_path, tmp_path / "there is no such folder")
    read.clear()
    for start in range(0, 40, 2):
        np.testing.assert_array_equal(in_order.take(np.arange(start, start + 2)), rows[start:][:2])
    assert set(read.values()) == {1}


def test_embeddings_that_are_missing_are_reported(tmp_path: Path) -> None:
    directory = published(tmp_path, counts=5)
    with pytest.raises(ArtifactError, match="wanted 5 embeddings, found 4"):
        read_embeddings(directory)
    with pytest.raises(ArtifactError, match=r"embed\.contexts=true"):
        read_context_embeddings(directory)


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (2, 3), (3, 7), (9, 10), (0, 3)])
def test_keys_are_read_across_row_groups(tmp_path: Path, start: int, stop: int) -> None:
    keys = pa.array([f"item-{number}" for number in range(10)])
    pq.write_table(pa.table({"item_key": keys}), tmp_path / "items.parquet", row_group_size=3)
    found = KeyReader(tmp_path / "items.parquet", "item_key").take(start, stop)
    assert found.to_pylist() == keys[start:stop].to_pylist()
