"""Everything wrong with the input tables, collected, then reported in one error."""

import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from pinsage.base.config import Config
from pinsage.base.errors import DataError

_log = logging.getLogger(__name__)

_MEND = "or set data.on_bad_rows: drop"

_ALIKE = re.compile(r"(?P<label>.*?)(?: and (?P<more>\d+) more)?", re.DOTALL)
"""The files that a finding is of."""


@dataclass(frozen=True)
class Place:
    """Where a table's rows, or those of a part of it, came from."""

    table: str
    """`items`, `edges` or `pairs`: names what is dropped in the counts."""
    label: str
    """The configured path."""
    files: tuple[str, ...] = ()
    """Every file, in order."""
    first_rows: tuple[int, ...] = ()
    """For every file, the number of rows read before it."""
    row_numbers: tuple[Sequence[int] | np.ndarray, ...] = ()
    """For every file, the original number of each row read."""
    names_files: bool = False
    """The table has several files, so a row's file is told with it."""

    def row(self, row: int) -> str:
        """Name a row as its owner finds it again: `row 7`, `row 7 of part-3.parquet`."""
        number = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        original = int(self.row_numbers[number][row - self.first_rows[number]])
        return f"row {original}" + (f" of {self.files[number]}" if self.names_files else "")


class Tally(Config):
    """Bad rows of one kind."""

    table: str
    label: str
    column: str
    reason: str
    what: str
    fix: str
    bad: int = 0
    rows: int = 0
    """How many rows were looked at."""
    first: str = ""
    """Where the first bad row is, and what it holds."""

    def message(self) -> str:
        """Say what, how often, and where first."""
        return (
            f"{self.label}: {self.column!r} {self.what} in {self.bad} of {self.rows} rows, "
            f"first at {self.first}"
        )


class FindingsRecord(Config):
    """Findings as they are kept on disk, or sent from one process to another."""

    problems: tuple[str, ...]
    tallies: tuple[Tally, ...]


@dataclass
class Findings:
    """What was found so far.

    A bad row is a finding, or (`drop_rows`) is dropped and counted. What is wrong with a whole
    table is a finding either way.
    """

    drop_rows: bool
    problems: list[str] = field(default_factory=list)
    """What no dropping of rows can mend."""
    tallies: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    """What was said to be dropped."""

    @property
    def exist(self) -> bool:
        """Tell whether there is a finding."""
        return bool(self.problems) or (not self.drop_rows and any(self._bad()))

    @property
    def dropped(self) -> dict[str, int]:
        """`table.reason` to the number of rows dropped."""
        counts: dict[str, int] = {}
        for tally in self._bad() if self.drop_rows else []:
            name = f"{tally.table}.{tally.reason}"
            counts[name] = counts.get(name, 0) + tally.bad
        return counts

    def add(self, problem: str) -> None:
        """Note what no dropping of rows can mend."""
        if problem not in self.problems:
            self.problems.append(problem)

    def missing_column(self, label: str, column: str, known: Sequence[str], setting: str) -> None:
        """Note a column that is not there, with those that are, and the nearest name."""
        near = difflib.get_close_matches(column, known, n=1)
        fix = f"; did you mean {near[0]!r}? mend" if near else "; mend"
        fix += " the table or the setting"
        if f"{column}=" in label:
            fix = "; folders' names are not read: write it into the files as a column"
        problem = f": no column {column!r}, wanted for {setting}; found {', '.join(known)}{fix}"
        alike = [place for place, one in enumerate(self.problems) if one.endswith(problem)]
        if not alike:
            self.add(label + problem)
            return
        # Of a folder of files, one is named and the others are counted.
        before = _ALIKE.fullmatch(self.problems[alike[0]].removesuffix(problem))
        assert before is not None
        if before["label"] != label:
            count = int(before["more"] or 0) + 1
            self.problems[alike[0]] = f"{before['label']} and {count} more{problem}"

    def bad_rows(
        self,
        place: Place,
        column: str,
        bad: Bool[np.ndarray, " rows"],
        *,
        reason: str,
        what: str,
        fix: str,
        values: pa.Array | None = None,
    ) -> None:
        """Note which rows are bad, if any; parts of one table add up.

        Args:
            place: the table.
            column: the column at fault.
            bad: True for bad rows.
            reason: a short name for the counts, as in `null_key`.
            what: what the column does there, as in `is null`.
            fix: what to do about it.
            values: the column, to show the first offender.
        """
        count = int(np.count_nonzero(bad))
        first = ""
        if count:
            row = int(np.argmax(bad))
            # What could not be read is null by now.
            is_known = values is not None and values[row].is_valid
            shown = f" ({str(values[row])[:60]!r})" if values is not None and is_known else ""
            first = f"{place.row(row)}{shown}"
        self._count(
            Tally(
                table=place.table,
                label=place.label,
                column=column,
                reason=reason,
                what=what,
                fix=fix,
                bad=count,
                rows=len(bad),
                first=first,
            )
        )

    def record(self) -> FindingsRecord:
        """Give what was found in a form that can be kept or sent."""
        return FindingsRecord(problems=tuple(self.problems), tallies=tuple(self.tallies.values()))

    def take_over(self, record: FindingsRecord) -> None:
        """Add what was found in a later part."""
        for problem in record.problems:
            self.add(problem)
        for tally in record.tallies:
            self._count(tally)

    def raise_if_any(self) -> None:
        """Report all findings at once; say once what is dropped.

        Raises:
            DataError: there are findings.
        """
        bad = list(self._bad())
        if self.drop_rows:
            for message in [tally.message() for tally in bad]:
                if message not in self._told:
                    _log.warning("%s; dropped", message)
                    self._told.add(message)
        problems = list(self.problems)
        if not self.drop_rows:
            problems += [f"{tally.message()}; {tally.fix}, {_MEND}" for tally in bad]
        if problems:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            plural = "s" if len(problems) > 1 else ""
            raise DataError(
                f"the input tables cannot be used: {len(problems)} finding{plural}{listed}"
            )

    def _bad(self) -> list[Tally]:
        return [tally for tally in self.tallies.values() if tally.bad]

    def _count(self, tally: Tally) -> None:
        key = (tally.label, tally.column, tally.reason)
        before = self.tallies.get(key)
        if before is not None:
            told = before if before.bad else tally
            tally = told.model_copy(
                update={"bad": before.bad + tally.bad, "rows": before.rows + tally.rows}
            )
        self.tallies[key] = tally
