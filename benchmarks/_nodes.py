"""A cluster of several Ray nodes on this machine, whose nodes can be lost and come again."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.job_submission import JobStatus, JobSubmissionClient

from benchmarks.processes import descendants
from benchmarks.serve import free_port
from serve.proxy import prepare_proxies

_STORE_BYTES = 100 * 2**20
_LOOK_S = 0.5
_ROOT = Path(__file__).parents[1]

NOTICED_SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""Settings of Ray with which a lost node is noticed after two seconds instead of fifteen. A node
that is only slow is not lost by them: it has ten seconds for each answer."""


@dataclass
class Nodes:
    """A head without CPUs, which is never lost, and worker nodes with one each.

    Attributes:
        cluster: Ray's own.
        workers: the worker nodes, oldest first.
    """

    cluster: Cluster
    workers: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self.cluster.address)

    def submit(self, command: str) -> str:
        """Run a command as a submitted job, and give what it printed.

        Raises:
            RuntimeError: it failed.
        """
        client = JobSubmissionClient(f"http://{self.cluster.webui_url}")
        name = client.submit_job(entrypoint=command)
        while not (status := client.get_job_status(name)).is_terminal():
            time.sleep(_LOOK_S)
        printed = client.get_job_logs(name)
        if status is not JobStatus.SUCCEEDED:
            raise RuntimeError(f"{command} ended as {status}: {printed[-2000:]}")
        return printed

    def add(self) -> None:
        """Add a worker node; Ray wants that done on the main thread."""
        node = self.cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
        self.workers.append(node)

    def lose(self, node: Any) -> None:
        """Kill all processes of a worker node."""
        self.workers.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def find(self, title: str) -> Any:
        """Give the first worker node that has a process called so; None if there is none."""
        for node in self.workers:
            if _count(node, title):
                return node
        return None

    def spread(self, title: str) -> list[int]:
        """Count the processes called so on every worker node."""
        return [_count(node, title) for node in self.workers]

    def to(self, num_workers: int) -> None:
        """Add nodes, or take them away in peace, until there are so many."""
        while len(self.workers) > num_workers:
            self.cluster.remove_node(self.workers.pop())
        while len(self.workers) < num_workers:
            self.add()
        self.cluster.wait_for_nodes()


def _count(node: Any, title: str) -> int:
    roots = [one.process.pid for one in node.all_processes.get("raylet", [])]
    return sum(title in found for root in roots for found in descendants(root).values())


@contextmanager
def nodes(num_workers: int, *, noticed_soon: bool, takes_jobs: bool) -> Iterator[Nodes]:
    """Start a cluster and join it; all of it ends with the block.

    Args:
        num_workers: worker nodes to begin with.
        noticed_soon: whether to have lost nodes noticed sooner than Ray does by itself.
        takes_jobs: whether to start what takes submitted jobs, the dashboard.
    """
    # What a cluster's nodes are to have in their environment; see docs/generations.md.
    prepare_proxies()
    os.environ["PYTHONPATH"] = str(_ROOT)
    head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": _STORE_BYTES}
    head |= {"include_dashboard": takes_jobs, "dashboard_port": free_port()}
    if noticed_soon:
        head["_system_config"] = NOTICED_SOON
    made = Nodes(Cluster(initialize_head=True, head_node_args=head))
    try:
        made.to(num_workers)
        ray.init(made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.cluster.shutdown()
