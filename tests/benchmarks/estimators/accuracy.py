"""Measure the estimators' accuracy with their defaults, beside a PyTorch loop, the nearest neighbour and an AR(9)."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import latchwork as lw
import numpy as np
import peers
import sets
from numpy.typing import NDArray

Row = dict[str, Any]
LARGEST_GAP = 0.02
COMMITTEE = 11
COMMITTEE_RUNS = 5


def main() -> int:
    """Print a row for each set as soon as it is measured; 1 if PyTorch is ahead anywhere by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", help="names with commas between them; default: all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="a folder datasets/data of aeon or sktime"
    )
    parser.add_argument("--without-pytorch", action="store_true")
    parser.add_argument("--without-neighbour", action="store_true")
    parser.add_argument("--committee", action="store_true", help=f"{COMMITTEE_RUNS} committees of {COMMITTEE} too")
    parser.add_argument("--refit", type=int, default=1, help="sunspots: years between trainings")
    parser.add_argument("--output", type=Path, help="a file for all single results, in JSON")
    arguments = parser.parse_args()
    try:
        splits = available(arguments.data)
    except sets.MissingSetsError as error:
        print(error, file=sys.stderr)
        return 2
    names = list(splits) if arguments.sets is None else arguments.sets.split(",")
    unknown = [name for name in names if name not in splits]
    if unknown:
        parser.error(f"--sets: expected some of {', '.join(splits)}, got {', '.join(unknown)}")
    rows = []
    print("| set | Latchwork | PyTorch loop | difference | 1-NN DTW | AR(9) |\n| --- | --- | --- | --- | --- | --- |")
    for name in names:
        rows.append(measure(name, splits[name], arguments))
        print(table_row(rows[-1]), flush=True)
        if arguments.output is not None:
            arguments.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(any(is_behind(row) for row in rows))


def available(data: list[Path]) -> dict[str, Callable[[], Any]]:
    """Give all sets by name, each with a function that reads it."""
    found: dict[str, Callable[[], Any]] = {}
    for name, path in sets.classification_sets(data).items():
        found[name] = lambda path=path: sets.read_split(path)
    found["digits"] = sets.digits
    found["sunspots"] = sets.sunspots
    return found


def measure(name: str, read: Callable[[], Any], arguments: argparse.Namespace) -> Row:
    """Train with every seed. Accuracies, of sunspots errors."""
    data = read()
    is_series = not isinstance(data, sets.Split)
    row: Row = {"set": name, "error": is_series, "ours": [], "pytorch": []}
    score = (
        (lambda fit, seed: series_error(data, fit, seed, arguments.refit))
        if is_series
        else (lambda fit, seed: split_accuracy(data, fit, seed))
    )
    for seed in range(arguments.seeds):
        row["ours"].append(score(fit_ours, seed))
        if not arguments.without_pytorch:
            row["pytorch"].append(score(peers.fit_in_pytorch, seed))
    if is_series:
        row["autoregression"] = autoregression_error(data)
    elif not arguments.without_neighbour:
        row["neighbour"] = peers.neighbour_accuracy(data)
    if arguments.committee and not is_series:
        row["committees"] = [split_accuracy(data, fit_ours, 100 + run, COMMITTEE) for run in range(COMMITTEE_RUNS)]
    return row


def fit_ours(model: Any, X: Any, y: Any) -> Any:
    """Fit with the estimator's own loop."""
    return model.fit(X, y)


def split_accuracy(split: sets.Split, fit: Callable[..., Any], seed: int, members: int = 1) -> float:
    """Train with the defaults; give the accuracy on the test part."""
    model = fit(lw.LSTMClassifier(random_state=seed, n_members=members), *split.training)
    return float(np.mean(model.predict(split.test.X) == split.test.y))


def series_error(series: NDArray[np.float64], fit: Callable[..., Any], seed: int, refit: int) -> float:
    """Give the root of the mean squared error of the next value, over the last years.

    Each model knows the values before the first year that it predicts, and predicts ``refit`` years, one at a time.
    """
    errors: list[float] = []
    for begin in range(len(series) - sets.LAST_YEARS, len(series), refit):
        X, y = sets.windows(series, sets.WINDOW, begin), series[sets.WINDOW : begin]
        end = min(begin + refit, len(series))
        predicted = fit(lw.LSTMRegressor(random_state=seed), X, y).predict(sets.windows(series, begin, end))
        errors += (predicted - series[begin:end]).tolist()
    return float(np.sqrt(np.mean(np.square(errors))))


def autoregression_error(series: NDArray[np.float64], order: int = 9) -> float:
    """Give the same error of an autoregression by least squares, fitted anew before each year."""

    def lagged(ends: Iterator[int] | range) -> NDArray[np.float64]:
        return np.stack([np.append(series[end - order : end], 1.0) for end in ends])

    errors = []
    for year in range(len(series) - sets.LAST_YEARS, len(series)):
        coefficients, *_ = np.linalg.lstsq(lagged(range(order, year)), series[order:year], rcond=None)
        errors.append((lagged(range(year, year + 1)) @ coefficients)[0] - series[year])
    return float(np.sqrt(np.mean(np.square(errors))))


def difference(row: Row) -> tuple[float, float]:
    """Give how far the mean is ahead of PyTorch's, and the standard error of that."""
    sides = [np.array(row["ours"]), np.array(row["pytorch"])]
    error = np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides)) if len(sides[0]) > 1 else np.nan
    return float(sides[0].mean() - sides[1].mean()), float(error)


def is_behind(row: Row) -> bool:
    """Say whether PyTorch is ahead by more than two points and by more than two standard errors."""
    if not row["pytorch"] or row["error"]:
        return False
    ahead, error = difference(row)
    return bool(ahead < -LARGEST_GAP and not ahead >= -2 * error)


def table_row(row: Row) -> str:
    """Give the row in Markdown."""
    digits = 2 if row["error"] else 3

    def number(values: Any) -> str:
        values = np.atleast_1d(np.array(values, float))
        if not len(values):
            return ""
        spread = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{spread}"

    ahead = ""
    if row["pytorch"]:
        gap, error = difference(row)
        ahead = f"{gap:+.{digits}f} ± {error:.{digits}f}"
    cells = [row["set"], number(row["ours"]), number(row["pytorch"]), ahead, number(row.get("neighbour", []))]
    line = f"| {' | '.join(cells)} | {number(row.get('autoregression', []))} |"
    if row.get("committees"):
        line += f"\n| {row['set']}, committees of {COMMITTEE} | {number(row['committees'])} | | | | |"
    return line


if __name__ == "__main__":
    sys.exit(main())
