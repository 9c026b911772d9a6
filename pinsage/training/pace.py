"""How fast a training goes right now."""

from collections import deque
from dataclasses import dataclass, field

_WINDOW_S = 10.0


@dataclass
class Pace:
    """Speed and waiting over the last ten seconds."""

    _marks: deque[tuple[float, int, float]] = field(default_factory=deque)

    def mark(self, now: float, pairs: int, wait_s: float) -> None:
        """Note how far things are.

        Args:
            now: seconds on a clock that only goes forward.
            pairs: trained on so far.
            wait_s: waited for minibatches so far.
        """
        self._marks.append((now, pairs, wait_s))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_S:
            self._marks.popleft()

    @property
    def pairs_per_s(self) -> float:
        """Pairs trained on a second."""
        return self._span()[1]

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for minibatches.

        >>> pace = Pace()
        >>> for second in range(3):
        ...     pace.mark(float(second), 100 * second, 0.25 * second)
        >>> pace.pairs_per_s, pace.wait_share
        (100.0, 0.25)
        """
        return self._span()[2]

    def _span(self) -> tuple[float, float, float]:
        if len(self._marks) < 2:
            return 0.0, 0.0, 0.0
        (since, pairs, wait_s), (now, pairs_now, wait_now_s) = self._marks[0], self._marks[-1]
        seconds = max(now - since, 1e-9)
        return seconds, (pairs_now - pairs) / seconds, (wait_now_s - wait_s) / seconds
