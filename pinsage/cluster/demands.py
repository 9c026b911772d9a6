"""What each stage of a run asks a cluster for at the same time, without asking one."""

from dataclasses import dataclass

from pinsage.cluster.gpus import wants_gpus
from pinsage.cluster.placement import STORE_CPUS, Bundle, worker_bundle
from pinsage.cluster.run_config import RunConfig


@dataclass(frozen=True)
class Demand:
    """What one stage wants placed at the same time.

    Attributes:
        stage: who wants it.
        bundles: resource to amount; one for each actor or task, all of it on one node.
    """

    stage: str
    bundles: tuple[Bundle, ...]


def demands(config: RunConfig, *, num_gpus: int) -> list[Demand]:
    """List what a run's stages and its server want of a cluster.

    Producers and boards ask for nothing: they stand beside the workers.

    Args:
        config: the run.
        num_gpus: GPUs that the cluster has at most.
    """
    train, embed, serve = config.train, config.embed, config.serve
    on_gpu = wants_gpus(train.device, train.fewest_workers, num_gpus=num_gpus)
    embedders = embed.num_workers or 1
    embeds_on_gpu = wants_gpus("auto", embedders, num_gpus=num_gpus)
    embedding = {"CPU": embed.cpus_per_worker} | ({"GPU": 1.0} if embeds_on_gpu else {})
    replica = {"CPU": serve.cpus_per_replica}
    if serve.gpus_per_replica:
        replica["GPU"] = serve.gpus_per_replica
    replicas = serve.num_replicas if serve.scaling is None else serve.scaling.max_replicas
    return [
        Demand("ingest", ({"CPU": 1.0},)),
        Demand("walk", ({"CPU": STORE_CPUS},) * config.graph.num_shards),
        Demand("train", (worker_bundle(use_gpu=on_gpu),) * train.most_workers),
        Demand("embed", (embedding,) * embedders),
        Demand("serve", (replica,) * replicas),
    ]
