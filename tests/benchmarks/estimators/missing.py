"""Measure what each way to treat missing values costs: three sets with a share of all steps removed."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import latchwork as lw
import numpy as np
import sets
from numpy.typing import NDArray

WAYS = ("forward", "mean", "zero")
SHARES = (0.0, 0.1, 0.3)
NAMES = ("JapaneseVowels", "digits", "sunspots")


def main() -> int:
    """Print a row for each set and share; 1 if "zero" is better than "forward" by more than two standard errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(NAMES), help="names with commas between them")
    parser.add_argument("--seeds", type=int, default=10, help="each has gaps of its own, the same for all ways")
    parser.add_argument(
        "--data", type=Path, action="append", default=[], help="a folder datasets/data of aeon or sktime"
    )
    parser.add_argument("--refit", type=int, default=10, help="sunspots: years between trainings")
    parser.add_argument("--output", type=Path, help="a file for all single results, in JSON")
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    is_worse = False
    print(f"| set | removed | {' | '.join(WAYS)} | forward ahead of zero |\n| --- | --- | --- | --- | --- | --- |")
    for name in arguments.sets.split(","):
        try:
            score = scorer(name, arguments.data, arguments.refit)
        except sets.MissingSetsError as error:
            print(error, file=sys.stderr)
            return 2
        for share in SHARES:
            ways = WAYS if share else WAYS[:1]  # without gaps all are the same
            scores = {way: [score(share, way, seed) for seed in range(arguments.seeds)] for way in ways}
            results[f"{name} {share}"] = scores
            if arguments.output is not None:
                arguments.output.write_text(json.dumps(results, indent=1), encoding="utf-8")
            ahead, error = (np.nan, np.nan) if share == 0.0 else paired(scores["forward"], scores["zero"])
            if name == "sunspots":
                ahead = -ahead  # errors, not accuracies
            is_worse |= bool(ahead < -2 * error)
            digits = 2 if name == "sunspots" else 3
            cells = [f"{np.mean(scores[way]):.{digits}f}" if way in scores else "" for way in WAYS]
            gain = f"{ahead:+.{digits}f} ± {error:.{digits}f}" if share else ""
            print(f"| {name} | {share:.0%} | {' | '.join(cells)} | {gain} |", flush=True)
    return int(is_worse)


def scorer(name: str, data: list[Path], refit: int) -> Callable[[float, str, int], float]:
    """Give what trains with a share of steps removed, and measures on the test part."""
    if name == "sunspots":
        series = sets.sunspots()
        return lambda share, way, seed: series_error(series, share, way, seed, refit)
    if name == "digits":
        split = sets.digits()
    else:
        found = sets.classification_sets(data)
        if name not in found:
            raise sets.MissingSetsError(f"{name}: expected one of {', '.join(found)}, digits or sunspots")
        split = sets.read_split(found[name])
    return lambda share, way, seed: split_accuracy(split, share, way, seed)


def paired(first: list[float], second: list[float]) -> tuple[float, float]:
    """Give the mean of the differences, and its standard error."""
    differences = np.array(first) - np.array(second)
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.nan
    return float(differences.mean()), float(error)


def with_gaps(x: NDArray[np.float64], share: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Copy a sequence, with NaN in all features of about this share of its steps."""
    x = x.copy()
    x[random.random(len(x)) < share] = np.nan
    return x


def split_accuracy(split: sets.Split, share: float, way: str, seed: int) -> float:
    """Remove steps of training and test part, train with the defaults and give the accuracy on the test part."""
    random = np.random.default_rng(seed)
    X, X_test = ([with_gaps(x, share, random) for x in part.X] for part in split)
    model = lw.LSTMClassifier(random_state=seed, missing=way).fit(X, split.training.y)
    return float(np.mean(model.predict(X_test) == split.test.y))


def series_error(series: NDArray[np.float64], share: float, way: str, seed: int, refit: int) -> float:
    """Remove years, and give the error of the next year's number over the last years, the removed ones included.

    A year that is removed is missing from the inputs, and is no target of training.
    """
    known = with_gaps(series[:, np.newaxis], share, np.random.default_rng(seed))[:, 0]
    errors: list[float] = []
    for begin in range(len(series) - sets.LAST_YEARS, len(series), refit):
        end = min(begin + refit, len(series))
        model = lw.LSTMRegressor(random_state=seed, missing=way)
        model.fit(sets.windows(known, sets.WINDOW, begin), known[sets.WINDOW : begin])
        errors += (model.predict(sets.windows(known, begin, end)) - series[begin:end]).tolist()
    return float(np.sqrt(np.mean(np.square(errors))))


if __name__ == "__main__":
    sys.exit(main())
