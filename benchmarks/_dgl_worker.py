"""Answers for `_peers.DglSampler`, run by an interpreter that has DGL and not this project.

usage: python _dgl_worker.py GRAPH_PREFIX ID_BITS

Reads one JSON object a line, {"seeds": [...], and the walk}, and answers {"cpu_s": ...}.
"""

import json
import os
import sys
import time

import numpy as np
import torch


def main() -> None:
    """Load the graph, then answer until the input ends."""
    prefix, dtype = sys.argv[1], getattr(torch, f"int{sys.argv[2]}")
    # Whatever DGL prints, on import too, must not reach the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import dgl
    from dgl.sampling import PinSAGESampler

    torch.set_num_threads(1)
    dgl.utils.set_num_threads(1)
    item_starts, item_contexts, context_starts, context_items = (
        torch.from_numpy(np.load(f"{prefix}-{name}.npy")).to(dtype)
        for name in ("item_starts", "item_contexts", "context_starts", "context_items")
    )
    nothing = torch.empty(0, dtype=dtype)
    graph = dgl.heterograph(
        {
            ("item", "in", "context"): ("csr", (item_starts, item_contexts, nothing)),
            ("context", "has", "item"): ("csr", (context_starts, context_items, nothing)),
        },
        num_nodes_dict={"item": len(item_starts) - 1, "context": len(context_starts) - 1},
        idtype=dtype,
    )
    print(json.dumps({"cpu_s": 0.0}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        sampler = PinSAGESampler(
            graph,
            "item",
            "context",
            asked["walk_length"],
            asked["restart"],
            asked["num_walks"],
            asked["num_neighbors"],
        )
        seeds = torch.tensor(asked["seeds"], dtype=dtype)
        started = time.process_time()
        sampler(seeds)
        print(json.dumps({"cpu_s": time.process_time() - started}), file=answers, flush=True)


main()
