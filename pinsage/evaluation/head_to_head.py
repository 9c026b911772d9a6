"""What people's choices between two methods add up to (paper, section 4.3 and Table 2)."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Choice: TypeAlias = Literal["left", "right", "equal"]

_Z = 1.959963984540054
"""The standard normal's 97.5% point."""


@dataclass(frozen=True)
class Tally:
    """One pair of methods, as in a line of Table 2."""

    method: str
    rival: str
    wins: int
    """How often the method's answer was chosen."""
    losses: int
    """How often the rival's was."""
    equal: int

    @property
    def votes(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.equal

    @property
    def win_fraction(self) -> float | None:
        """Wins among the votes that chose one; None without any (the paper's last column)."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the win fraction."""
        decided = self.wins + self.losses
        return wilson_interval(self.wins, decided) if decided else None


def tally(choices: Iterable[tuple[str, str, Choice]], order: Mapping[str, int]) -> list[Tally]:
    """Count votes by pair of methods.

    Args:
        choices: the method shown left, the one shown right, and what was chosen.
        order: which of two methods is spoken of first; unknown ones come last, by name.

    Returns:
        One tally a pair, in the order of the methods.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}

    def place(method: str) -> tuple[int, str]:
        return order.get(method, len(order)), method

    for left, right, choice in choices:
        first, second = sorted((left, right), key=place)
        chosen = {"left": left, "right": right, "equal": ""}[choice]
        counts.setdefault((first, second), Counter())[chosen] += 1
    return [
        Tally(first, second, found[first], found[second], found[""])
        for (first, second), found in sorted(
            counts.items(), key=lambda entry: [place(name) for name in entry[0]]
        )
    ]


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Give Wilson's 95% score interval of a share: sound for few trials and for shares at the ends.

    >>> [round(bound, 3) for bound in wilson_interval(9, 10)]
    [0.596, 0.982]

    Args:
        successes: how many succeeded.
        trials: of how many, at least 1.
    """
    share, spread = successes / trials, _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    # Roundings aside, the share seen lies between the bounds.
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)
