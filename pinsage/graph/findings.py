"""Everything wrong with the input tables, collected, then reported in one error."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from pinsage.base.errors import DataError

_log = logging.getLogger(__name__)

_MEND = "or set data.on_bad_rows: drop"


@dataclass(frozen=True)
class Place:
    """Where a table's rows came from."""

    table: str
    """`items`, `edges` or `pairs`: names what is dropped in the counts."""
    label: str
    """The configured path."""
    files: tuple[str, ...] = ()
    """Every file, in order."""
    first_rows: tuple[int, ...] = ()
    """For every file, the number of rows read before it."""
    row_numbers: tuple[np.ndarray | None, ...] = ()
    """For every file, the original number of each row that passed `where`; None: all did."""

    def row(self, row: int) -> str:
        """Name a row as its owner finds it again: `row 7`, `row 7 of part-3.parquet`."""
        number = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        inside = row - self.first_rows[number]
        kept = self.row_numbers[number]
        original = inside if kept is None else int(kept[inside])
        return f"row {original}" + (f" of {self.files[number]}" if len(self.files) > 1 else "")


@dataclass
class Findings:
    """What was found so far.

    A bad row is a finding, or (`drop_rows`) is dropped and counted. What is wrong with a whole
    table is a finding either way.
    """

    drop_rows: bool
    problems: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, problem: str) -> None:
        """Note what no dropping of rows can mend."""
        if problem not in self.problems:
            self.problems.append(problem)

    def missing_column(self, label: str, column: str, known: Sequence[str], setting: str) -> None:
        """Note a column that is not there, with those that are, and the nearest name."""
        near = difflib.get_close_matches(column, known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ";"
        self.add(
            f"{label}: no column {column!r}, wanted for {setting}; found {', '.join(known)}"
            f"{guess} mend the table or the setting"
        )

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
        """Note bad rows, if there are any.

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
        if not count:
            return
        row = int(np.argmax(bad))
        shown = "" if values is None else f" ({str(values[row])[:60]!r})"
        message = (
            f"{place.label}: {column!r} {what} in {count} of {len(bad)} rows, "
            f"first at {place.row(row)}{shown}"
        )
        if self.drop_rows:
            name = f"{place.table}.{reason}"
            self.dropped[name] = self.dropped.get(name, 0) + count
            _log.warning("%s; dropped", message)
        else:
            self.problems.append(f"{message}; {fix}, {_MEND}")

    def raise_if_any(self) -> None:
        """Report all findings at once.

        Raises:
            DataError: there are findings.
        """
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            plural = "s" if len(self.problems) > 1 else ""
            raise DataError(
                f"the input tables cannot be used: {len(self.problems)} finding{plural}{listed}"
            )
