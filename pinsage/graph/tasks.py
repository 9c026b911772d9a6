"""What runs the steps of a build: threads here, or whatever takes their place."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeAlias

from pinsage.base.logs import Progress
from pinsage.base.machine import available_cpus

Tasks: TypeAlias = Callable[[Callable[[int], None], Sequence[int], str], None]
"""What runs the steps of one kind: it calls a step with every number, in any order, and returns
when all are done. The text names them on the progress line."""


class Threads:
    """Runs steps in threads of this process: what they call lets go of the interpreter's lock."""

    def __init__(self, workers: int | None, progress: Progress) -> None:
        self._workers = workers or available_cpus()
        self._progress = progress

    def __call__(self, step: Callable[[int], None], numbers: Sequence[int], name: str) -> None:
        """Run all of them; the first error stops what has not begun."""
        with ThreadPoolExecutor(self._workers) as pool:
            calls = [pool.submit(step, number) for number in numbers]
            try:
                for call in as_completed(calls):
                    call.result()
                    self._progress.advance(1, name)
            finally:
                pool.shutdown(cancel_futures=True)
