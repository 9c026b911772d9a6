"""The steps of building a graph, as tasks on every node of the cluster."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray

from pinsage.base.errors import WorkerTimeoutError
from pinsage.base.logs import Progress

_TIMEOUT_S = 3_600.0
_MOST_UNDER_WAY_PER_CPU = 2


class ClusterTasks:
    """Runs steps as Ray tasks, one CPU each; a step whose node is lost runs again elsewhere.

    A step finds what it reads and leaves what it writes in the output folder, so that folder must
    be on a file system that all nodes share.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._call: Any = ray.remote(num_cpus=1, max_retries=-1)(_call)

    def __call__(self, step: Callable[[int], None], numbers: Sequence[int], name: str) -> None:
        """Run all of them, a bounded number at a time.

        After an error nothing new is begun, and those under way run to their end. `ray.cancel`
        would spare that, but where it meets a task that just ends, Ray aborts the driver's process
        (a check of Ray 2.60 fails: "Tried to complete task that was not pending"), error and all.

        Raises:
            WorkerTimeoutError: no step was finished for an hour.
        """
        shared = ray.put(step)
        waiting = list(reversed(numbers))
        under_way: dict[Any, int] = {}
        most = _MOST_UNDER_WAY_PER_CPU * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        while waiting or under_way:
            while waiting and len(under_way) < most:
                number = waiting.pop()
                under_way[self._call.remote(shared, number)] = number
            self._take_one(under_way, name)

    def _take_one(self, under_way: dict[Any, int], name: str) -> None:
        done, _ = ray.wait(list(under_way), timeout=_TIMEOUT_S)
        if not done:
            raise WorkerTimeoutError(
                f"none of the steps {sorted(under_way.values())} of '{name}' was finished within "
                f"{_TIMEOUT_S:g} s; look for a lost node in `ray status`, or lower "
                "graph.build.edges_per_bucket"
            )
        del under_way[done[0]]
        try:
            ray.get(done[0], timeout=_TIMEOUT_S)
        except ray.exceptions.RayTaskError:
            for reference in under_way:
                # The first error is told; Ray writes of every other one that nobody asks for.
                with suppress(ray.exceptions.RayError):
                    ray.get(reference, timeout=_TIMEOUT_S)
            raise
        self._progress.advance(1, name)


def _call(step: Callable[[int], None], number: int) -> None:
    step(number)
