"""Static features: what stays the same over a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import shape_text
from latchwork.estimators.data.frames import Table, feature_names, is_frame
from latchwork.estimators.data.layout import Layout

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Static:
    """Columns of one value for each sequence, in whatever dtype.

    Parameters
    ----------
    columns : list of ndarray
        Each (n,).
    names : tuple of str or None
        What they are called.
    """

    def __init__(self, columns: list[Array], names: tuple[str, ...] | None) -> None:
        self.columns = columns
        self.names = names

    @property
    def size(self) -> int:
        """How many static features there are."""
        return len(self.columns)

    def label(self, place: int) -> str:
        """Name one in words."""
        return f"static column {place if self.names is None else repr(self.names[place])}"

    def in_order(self, names: tuple[str, ...] | None) -> Static:
        """Give them in the order of these names, those of training. ValueError if the names are others."""
        if names is None or self.names is None or names == self.names:
            return self
        if set(names) != set(self.names):
            raise ValueError(f"static: expected the columns {', '.join(names)}, got {', '.join(self.names)}")
        return Static([self.columns[self.names.index(name)] for name in names], names)


def read_static(static: Any, layout: Layout) -> Static | None:
    """Read static features, a row for each sequence; see `read_fit`."""
    from latchwork.estimators.data.given import readable

    if static is None:
        return None
    if not is_frame(static):
        array = readable("static", static)
        if array.ndim != 2 or len(array) != len(layout):
            raise ValueError(f"static: expected ({len(layout)}, features), got {shape_text(array.shape)}")
        return Static(list(array.T), None) if array.shape[1] else None
    table = Table(static)
    features = [name for name in table.names if layout.ids is None or name != layout.sequence]
    rows: Array | None = None
    if layout.ids is not None and layout.sequence in table:
        rows = rows_of(layout.ids, table.column(layout.sequence).tolist(), "static")
    elif layout.ids is not None and table.index is not None and set(layout.ids) <= set(table.index.tolist()):
        rows = rows_of(layout.ids, table.index.tolist(), "static")
    elif table.rows != len(layout):
        raise ValueError(f"static: expected {len(layout)} rows, one for each sequence, got {table.rows}")
    columns = [table.column(name) for name in features]
    if rows is not None:
        columns = [column[rows] for column in columns]
    return Static(columns, feature_names(features)) if features else None


def rows_of(ids: list[Any], labels: list[Any], name: str) -> Array:
    """Give the row of each sequence by its label. ValueError if one has none or several."""
    places: dict[Any, int] = {}
    for row, label in enumerate(labels):
        if label in places and label in ids:
            raise ValueError(
                f"{name}: expected one row for each sequence, got rows {places[label]} and {row} for {label!r}"
            )
        places[label] = row
    for each in ids:
        if each not in places:
            raise ValueError(f"{name}: expected a row for each sequence, got none for {each!r}")
    return np.array([places[each] for each in ids], np.int64)
