"""Which features have gaps, and which of them always have theirs at the same steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Gaps:
    """The gaps of some columns, whose rows come piece by piece.

    Parameters
    ----------
    columns : int
        How many there are.
    """

    def __init__(self, columns: int) -> None:
        self.missing = np.zeros(columns, np.bool_)  # whether any row of the column was a gap
        self._pattern = [0] * columns  # equal for columns that had gaps in the same rows so far

    def add(self, gaps: Array) -> None:
        """Look at the next rows, (rows, columns) of booleans."""
        any_gap = gaps.any(axis=0)
        if not any_gap.any():
            return
        self.missing |= any_gap
        rows = np.ascontiguousarray(np.packbits(gaps, axis=0).T)
        known: dict[tuple[int, bytes], int] = {}
        self._pattern = [
            known.setdefault((before, row.tobytes()), len(known))
            for before, row in zip(self._pattern, rows, strict=True)
        ]

    def beside(self, others: Gaps) -> Gaps:
        """Give the gaps of these columns and of others behind them, whose rows are other ones."""
        both = Gaps(0)
        both.missing = np.concatenate([self.missing, others.missing])
        distinct = max(self._pattern, default=0) + 1
        both._pattern = self._pattern + [distinct + pattern for pattern in others._pattern]
        return both

    def columns(self) -> list[int]:
        """Give the numbers of the columns with gaps."""
        return [int(place) for place in np.flatnonzero(self.missing)]

    def distinct_columns(self) -> list[int]:
        """Give the first of all columns that have gaps at the same rows: one for each pattern of gaps."""
        first: dict[int, int] = {}
        for place in self.columns():
            first.setdefault(self._pattern[place], place)
        return list(first.values())
