"""Trains as DGL's PinSAGE example does; run by an interpreter that has DGL and not this project.

usage: python _dgl_train_worker.py GRAPH_PREFIX EXAMPLE_FOLDER '{"pairs": 512, ...}'

Answers {"cpu_s": ...} for every line it reads, having made one step of the example: its sampler,
its collator, its model, and Adam.
"""

import importlib
import json
import os
import sys
import time
import types

import dgl
import numpy as np
import torch


def main() -> None:
    """Load the graph and the example, then make a step a line until the input ends."""
    prefix, example, shape = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    # Whatever a library prints must not reach the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    dgl.utils.set_num_threads(1)
    sampler, model = import_example(example)
    graph = load_graph(prefix, shape["features"])
    net = model.PinSAGEModel(graph, "item", {}, shape["hidden"], shape["layers"])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-5)
    pairs = iter(sampler.ItemToItemBatchSampler(graph, "context", "item", shape["pairs"]))
    neighbors = sampler.NeighborSampler(
        graph,
        "context",
        "item",
        shape["walk_length"],
        shape["restart"],
        shape["num_walks"],
        shape["num_neighbors"],
        shape["layers"],
    )
    collator = sampler.PinSAGECollator(neighbors, graph, "item", {})
    print(json.dumps({"cpu_s": 0.0}), file=answers, flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        positive, negative, blocks = collator.collate_train([next(pairs)])
        loss = net(positive, negative, blocks).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(json.dumps({"cpu_s": time.process_time() - started}), file=answers, flush=True)


def import_example(folder: str) -> tuple[types.ModuleType, types.ModuleType]:
    """Import the example without torchtext, which only text features would need."""
    stand_ins: dict[str, tuple[str, ...]] = {
        "evaluation": (),
        "torchtext": (),
        "torchtext.data": (),
        "torchtext.data.functional": ("numericalize_tokens_from_iterator",),
        "torchtext.data.utils": ("get_tokenizer",),
        "torchtext.vocab": ("build_vocab_from_iterator",),
    }
    for name, contents in stand_ins.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(dict.fromkeys(contents))
    sys.path.insert(0, folder)
    return importlib.import_module("sampler"), importlib.import_module("model")


def load_graph(prefix: str, width: int) -> dgl.DGLGraph:
    """Read the graph, and give its items random features."""
    item_starts, item_contexts, context_starts, context_items = (
        torch.from_numpy(np.load(f"{prefix}-{name}.npy")).long()
        for name in ("item_starts", "item_contexts", "context_starts", "context_items")
    )
    nothing = torch.empty(0, dtype=torch.int64)
    graph = dgl.heterograph(
        {
            ("item", "in", "context"): ("csr", (item_starts, item_contexts, nothing)),
            ("context", "has", "item"): ("csr", (context_starts, context_items, nothing)),
        },
        num_nodes_dict={"item": len(item_starts) - 1, "context": len(context_starts) - 1},
    )
    graph.nodes["item"].data["x"] = torch.randn(len(item_starts) - 1, width)
    return graph


main()
