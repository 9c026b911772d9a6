"""Walk over three nodes, kill one of them in the middle, and say what came of it as JSON."""

import hashlib
import json
import logging
import sys
import threading
import time
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

from pinsage.base.artifacts import Draft
from pinsage.cluster.stores import StoreConfig
from pinsage.cluster.walkers import walk_all
from pinsage.sampling.neighborhood import HardNegativeConfig, WalkConfig
from tests.cluster.graphs import publish_graph, small_graph

NAMES = ("neighbor_ids", "weights", "hard_negatives")


def walk(graph: Path, folder: Path, mode: str) -> list[str]:
    folder.mkdir()
    walk_all(
        graph,
        Draft(folder),
        walk=WalkConfig(items_per_chunk=20),
        hard=HardNegativeConfig(first_rank=30, last_rank=60, num_walks=100),
        seed=3,
        stores=StoreConfig(mode=mode, request_timeout_s=60),
    )
    return [hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest() for name in NAMES]


def main(folder: Path) -> None:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("pinsage.cluster.walkers").addHandler(handler)
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    nodes = [cluster.add_node(**small) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    graph = publish_graph(folder / "graph", small_graph(), 3)
    scratch = folder / "sharded" / ".scratch"

    def kill_a_node_once_chunks_are_done() -> None:
        while len(list(scratch.glob("weights-*"))) < 6:
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill_a_node_once_chunks_are_done, daemon=True)
    killer.start()
    sharded = walk(graph, folder / "sharded", "sharded")
    killer.join()
    alive = sum(node["Alive"] for node in ray.nodes())
    local = walk(graph, folder / "local", "local")
    found = {
        "alive_nodes": alive,
        "lost_walks": sum("a store was lost" in message for message in messages),
        "sharded": sharded,
        "local": local,
        "rows": len(np.load(folder / "sharded" / "weights.npy")),
    }
    ray.shutdown()
    cluster.shutdown()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
