"""Data frames of the libraries that are installed; a test that needs one of them is skipped without it."""

import pytest

# Two sequences whose rows are mixed and out of order: of "b" the times 1, 2, 3, of "a" 5, 7.
LONG = {
    "id": ["b", "a", "b", "a", "b"],
    "t": [3, 7, 1, 5, 2],
    "pressure": [0.5, 1.5, float("nan"), 2.5, 3.5],
    "site": ["x", "y", None, "x", "y"],
}


def in_pandas(columns, index=None):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.DataFrame(columns, index=index)


def in_polars(columns):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.DataFrame(columns)


def in_arrow(columns):
    pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    return pyarrow.table(columns)


class OfAnotherLibrary:
    """A frame that shows its columns as Arrow does, and nothing else."""

    def __init__(self, columns):
        self._table = in_arrow(columns)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


LIBRARIES = [in_pandas, in_polars, in_arrow, OfAnotherLibrary]
