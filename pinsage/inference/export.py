"""Embeddings in and out of Parquet files that any tool reads."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from pinsage.base.artifacts import open_artifact
from pinsage.base.errors import ArtifactError

STAGE = "embeddings"


def write_part(
    path: Path, item_keys: pa.Array, embeddings: Float32[np.ndarray, "items width"]
) -> None:
    """Write some items' embeddings: columns `item_key` and `embedding`, a fixed-size list."""
    values = pa.array(np.ascontiguousarray(embeddings).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])
    pq.write_table(pa.table({"item_key": item_keys, "embedding": lists}), path)


def read_embeddings(directory: Path) -> Float32[np.ndarray, "items width"]:
    """Read every embedding of a published directory, row i for item id i.

    Raises:
        ArtifactError: the directory is unfinished or damaged.
    """
    artifact = open_artifact(directory, stage=STAGE)
    path = artifact.path
    parts = [
        pq.read_table(part, columns=["embedding"])["embedding"]
        for part in sorted(path.glob("part-*.parquet"))
    ]
    lists = pa.chunked_array([chunk for part in parts for chunk in part.chunks]).combine_chunks()
    width = lists.type.list_size
    wanted = artifact.manifest.counts["items"]
    if len(lists) != wanted:
        raise ArtifactError(
            f"{directory}: wanted {wanted} embeddings, found {len(lists)}; delete it and "
            "embed again"
        )
    return lists.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
