"""Where each step of the sequences came from, and how results go back there."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.frames import Table
    from latchwork.estimators.data.parquet_files import FileTable

OUTPUTS = ("default", "pandas", "polars")


class Layout:
    """The form in which sequences were given.

    Parameters
    ----------
    kind : {"array", "univariate", "list", "long", "frames"}
        (n, T, F); (n, T), a table without sequence and time included; a list of arrays; a frame in long form; a list of
        frames.
    offsets : ndarray of int64
        (n + 1,): those of the sequences.
    names : sequence of str, optional
        Names of the features, for messages.
    tables : sequence of Table
        The frames, if there are any: one, or for kind "frames" n.
    rows : ndarray of int64, optional
        (total_steps,): the row that each step came from, counted over all frames; None if rows and steps are the same.
    ids : list, optional
        The sequences' names in a long frame, in order.
    sequence : optional
        The column that the names came from.
    step_names : tuple, optional
        The columns of a table of one sequence a row.
    """

    def __init__(
        self,
        kind: str,
        offsets: Array,
        names: tuple[str, ...] | None = None,
        tables: Sequence[Table | FileTable] = (),
        rows: Array | None = None,
        ids: list[Any] | None = None,
        sequence: Any = None,
        step_names: tuple[Any, ...] | None = None,
    ) -> None:
        self.kind = kind
        self.offsets = offsets
        self.names = names
        self.tables = tuple(tables)
        self.rows = rows
        self.ids = ids
        self.sequence = sequence
        self.step_names = step_names

    def __len__(self) -> int:
        """Return how many sequences there are."""
        return len(self.offsets) - 1

    @property
    def total_steps(self) -> int:
        """Steps of all sequences together."""
        return int(self.offsets[-1])

    def place(self, step: int, column: int | None = None) -> str:
        """Say in words where a step, counted over all sequences, was given, and in which column."""
        sample = int(np.searchsorted(self.offsets, step, side="right")) - 1
        own = step - int(self.offsets[sample])
        if self.step_names is not None:
            return f"row {sample}, column {self.step_names[own]!r}"
        row = step if self.rows is None else int(self.rows[step])
        if self.kind == "long":
            text = f"row {row}"
            if self.ids is not None:
                text += f" (sequence {self.ids[sample]!r}, step {own})"
        elif self.kind == "frames":
            text = f"sample {sample}, row {row - int(self.offsets[sample])}"
        else:
            text = f"sample {sample}, step {own}"
        return text if column is None else f"{text}, {self.column_text(column)}"

    def sample_text(self, sample: int) -> str:
        """Name a sample in words."""
        return f"sample {sample}" if self.ids is None else f"sequence {self.ids[sample]!r}"

    def column_text(self, column: int) -> str:
        """Name a column of the features in words."""
        return f"column {column if self.names is None else repr(self.names[column])}"

    def by_row(self, values: Array) -> Array:
        """Bring what was found for each step into the order of the rows that were given."""
        if self.rows is None:
            return values
        ordered = np.empty_like(values)
        ordered[self.rows] = values
        return ordered

    def by_step(self, values: Array) -> Array:
        """Bring what was given for each row into the order of the steps."""
        return values if self.rows is None else values[self.rows]

    def to_user(
        self, predictions: Array, per_step: bool, output: str = "default", names: Sequence[Any] | None = None
    ) -> Any:
        """Give predictions the form in which the sequences came.

        Parameters
        ----------
        predictions : ndarray
            (n,) or (n, outputs); with ``per_step`` (total_steps,) or (total_steps, outputs).
        per_step : bool
            Whether there is a prediction for each step.
        output : {"default", "pandas", "polars"}
            "default": arrays. A prediction for each sample is one array. One for each step is (n, T) or (n, T, outputs)
            for arrays of equal length, an array in the order of the rows for a long frame, and otherwise a list of
            arrays. "pandas" and "polars": a Series, or with outputs a DataFrame. In pandas it has the index of the
            frame that was given, or the names of the sequences; without these the number of the sample and, with
            ``per_step``, of the step. Polars has no index: columns of these names come first. For each step of a list
            of frames it is a list.
        names : sequence, optional
            The names of the outputs; default "prediction", or "prediction_0" and so on.
        """
        if output not in OUTPUTS:
            raise ValueError(f'output: expected "default", "pandas" or "polars", got {output!r}')
        if output == "default":
            return self._arrays(predictions) if per_step else predictions
        single = predictions.ndim == 1
        count = 1 if single else predictions.shape[1]
        if names is None:
            names = ["prediction"] if single else [f"prediction_{place}" for place in range(count)]
        frame = _pandas_frame if output == "pandas" else _polars_frame
        if not per_step:
            return frame(predictions, names, self._sample_labels(output))
        if self.kind == "frames":
            return [
                frame(part, names, table.index if output == "pandas" else None)
                for part, table in zip(self._parts(self.by_row(predictions)), self.tables, strict=True)
            ]
        if self.kind == "long":
            return frame(self.by_row(predictions), names, self.tables[0].index if output == "pandas" else None)
        samples = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        steps = np.arange(self.total_steps) - self.offsets[samples]
        return frame(predictions, names, {"sample": samples, "step": steps})

    def _arrays(self, predictions: Array) -> Any:
        if self.kind == "long":
            return self.by_row(predictions)
        if self.kind in ("array", "univariate"):
            steps = int(self.offsets[1] - self.offsets[0]) if len(self) else 0
            return predictions.reshape(len(self), steps, *predictions.shape[1:])
        return self._parts(self.by_row(predictions))

    def _parts(self, predictions: Array) -> list[Array]:
        return [predictions[begin:end] for begin, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    def _sample_labels(self, output: str) -> Any:
        """Give the index of predictions for each sample: an index of pandas, columns by name, or None."""
        if self.ids is not None:
            return {self.sequence: self.ids}
        if self.kind == "univariate" and output == "pandas" and self.tables:
            return self.tables[0].index
        return None


def _pandas_frame(predictions: Array, names: Sequence[Any], index: Any) -> Any:
    pandas = importlib.import_module("pandas")
    if isinstance(index, dict):
        (name, labels), *more = index.items()
        index = (
            pandas.MultiIndex.from_arrays(list(index.values()), names=list(index))
            if more
            else pandas.Index(labels, name=name)
        )
    if predictions.ndim == 1:
        return pandas.Series(predictions, index=index, name=names[0])
    return pandas.DataFrame(predictions, index=index, columns=list(names))


def _polars_frame(predictions: Array, names: Sequence[Any], index: Any) -> Any:
    polars = importlib.import_module("polars")
    columns = predictions[:, np.newaxis] if predictions.ndim == 1 else predictions
    values = {str(name): columns[:, place].tolist() for place, name in enumerate(names)}
    if index is not None:
        return polars.DataFrame({**{str(name): labels for name, labels in index.items()}, **values})
    return polars.Series(names[0], predictions.tolist()) if predictions.ndim == 1 else polars.DataFrame(values)
