"""Fair timings: candidates take turns in one run, and only ratios of neighbors in time count.

Machines are shared and their speed drifts, so an absolute figure says little; the ratio of two
candidates timed one after the other says a lot, and the median of many such ratios more.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from pinsage.base.text_table import text_table

Seconds = dict[str, list[float]]


def take_turns(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> Seconds:
    """Time every candidate once a round, after one round that is not counted.

    Args:
        candidates: what to time, by name.
        rounds: how often.
        clock: CPU seconds of this process by default; `time.perf_counter` for wall seconds, where
            candidates use several processes or threads.

    Returns:
        Seconds of every round, by name.
    """
    seconds: Seconds = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            started = clock()
            run()
            if number:
                seconds[name].append(clock() - started)
    return seconds


def median_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Give the median over rounds of how many times as long the first took."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make the flags that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="end with one line of JSON")
    return made


def report(
    title: str,
    rows: Sequence[Sequence[object]],
    figures: Mapping[str, object],
    *,
    as_json: bool,
) -> None:
    """Print a table, its first row the heading, and with `as_json` the figures as the last line."""
    print(f"{title}\n\n{text_table(rows)}\n")
    if as_json:
        print(json.dumps(dict(figures)))


def written_table(rows: Sequence[Sequence[object]]) -> str:
    """Write a table in Markdown, its first row the heading."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""])
