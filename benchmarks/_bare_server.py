"""A server with nothing to it, to compare with: uvicorn, faiss, and a dictionary.

Run: `python -m benchmarks._bare_server INDEX ITEMS PORT`. It answers the same question with the
same JSON as ours, from the same HNSW file with the same settings. It knows one path, checks
nothing, counts nothing, and trusts everyone.
"""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import faiss
import numpy as np
import orjson
import pyarrow.parquet as pq
import uvicorn

_HEAD, _TAIL = len("/v1/items/"), len("/similar")


class BareServer:
    """One ASGI app."""

    def __init__(self, index: Path, items: Path) -> None:
        """Read everything."""
        self._index = faiss.read_index(str(index / "hnsw.faiss"))
        self._vectors = np.load(index / "vectors.npy")
        rows = pq.read_table(items).to_pylist()
        self._ids = {row["item_key"]: item_id for item_id, row in enumerate(rows)}
        self._texts = [_text(row) for row in rows]
        faiss.omp_set_num_threads(1)

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer."""
        if scope["type"] != "http":
            return
        item_id = self._ids[unquote(scope["path"][_HEAD:-_TAIL])]
        k = int(parse_qs(scope["query_string"])[b"k"][0])
        scores, found = self._index.search(self._vectors[item_id : item_id + 1], k + 1)
        parts: list[bytes] = []
        for other, score in zip(found[0].tolist(), scores[0], strict=True):
            if other != item_id and len(parts) < k:
                number = orjson.dumps(score, option=orjson.OPT_SERIALIZE_NUMPY)
                parts.append(b'%b,"score":%b}' % (self._texts[other][:-1], number))
        body = b'{"query":%b,"method":"pinsage","items":[%b]}' % (
            self._texts[item_id],
            b",".join(parts),
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _text(row: dict[str, Any]) -> bytes:
    metadata = {name: row[name] for name in ("year", "brand")}
    return orjson.dumps({
        "key": row["item_key"],
        "title": row["title"],
        "image": None,
        "metadata": metadata,
    })


def main() -> None:
    """Serve until killed."""
    index, items, port = sys.argv[1:]
    app = BareServer(Path(index), Path(items))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False,
                lifespan="off")  # fmt: skip


if __name__ == "__main__":
    main()
