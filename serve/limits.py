"""How often one caller may call, and how much is done at a time."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CALLERS = 10_000


class TokenBuckets:
    """One bucket a caller: it holds `burst` tokens, fills at a steady rate, a request takes one.

    Only the callers seen last are remembered; one that was forgotten starts with a full bucket.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_callers: int = _MOST_CALLERS,
    ) -> None:
        """Start without any bucket.

        Args:
            clock: seconds, from any beginning.
            most_callers: how many are remembered.
        """
        self._clock = clock
        self._most_callers = most_callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, *, requests_per_s: float, burst: int) -> float:
        """Take a token.

        Args:
            caller: whose bucket.
            requests_per_s: how fast it fills.
            burst: how many tokens it holds.

        Returns:
            0 if there was a token; else the seconds until there is one.
        """
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (float(burst), now))
        tokens = min(tokens + (now - then) * requests_per_s, float(burst))
        wait_s = 0.0
        # A hair of tolerance, so that who waits exactly as long as told is let in.
        if tokens >= 1 - 1e-9:
            tokens -= 1
        else:
            wait_s = (1 - tokens) / requests_per_s
        self._buckets[caller] = (tokens, now)
        if len(self._buckets) > self._most_callers:
            self._buckets.popitem(last=False)
        return wait_s


class Places:
    """So many may be taken at a time."""

    def __init__(self, number: int) -> None:
        """Start with all of them free."""
        self._number = number
        self.taken = 0

    def take(self, wanted: int = 1) -> bool:
        """Take some, if they are free; says whether they were."""
        is_free = self.taken + wanted <= self._number
        if is_free:
            self.taken += wanted
        return is_free

    def free(self, number: int = 1) -> None:
        """Give some back."""
        self.taken -= number


def retry_after(wait_s: float) -> dict[str, str]:
    """Write the header that says when to try again, in whole seconds."""
    return {"Retry-After": str(max(math.ceil(wait_s), 1))}
