"""Measure what each default of the estimators is worth: one option changed at a time, on training data alone."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import latchwork as lw
import numpy as np
import sets
from numpy.typing import NDArray

CLASSIFIED = ("JapaneseVowels", "digits", "BasicMotions", "GunPoint", "ItalyPowerDemand")
FOLDS = 4
VALIDATED_YEARS = 80  # the last before those that the accuracy is measured on
REFIT = 20

CHANGES: dict[str, dict[str, Any]] = {
    "hidden_size=32": {"hidden_size": 32},
    "hidden_size=128": {"hidden_size": 128},
    "one direction": {"bidirectional": False},
    'head="mean"': {"head": "mean"},
    'head="max"': {"head": "max"},
    'init="torch"': {"init": "torch"},
    'init="chrono"': {"init": "chrono"},
    "no scaling": {"scale": None},
    "lr / 3": {"lr": 1 / 3},
    "lr * 3": {"lr": 3.0},
    "no weight decay": {"weight_decay": 0.0},
    "weight_decay=0.1": {"weight_decay": 0.1},
    'lr_schedule="cosine"': {"lr_schedule": "cosine"},
    'lr_schedule="constant"': {"lr_schedule": "constant"},
    "no clipping": {"clip_norm": None},
    "batch_size=32": {"batch_size": 32},
    "60 epochs": {"max_epochs": 60},
    "recurrent_dropout=0": {"recurrent_dropout": 0.0},
    "recurrent_dropout=0.1": {"recurrent_dropout": 0.1},
    "recurrent_dropout=0.3": {"recurrent_dropout": 0.3},
    "recurrent_dropout=0.5": {"recurrent_dropout": 0.5},
    'recurrent_dropout=0.5 on "candidate"': {"recurrent_dropout": 0.5, "recurrent_dropout_on": "candidate"},
    "dropout=0.3": {"dropout": 0.3},
}


def main() -> int:
    """Print a row for each change, and in it for each set by how much the score differs from that of the defaults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join((*CLASSIFIED, "sunspots")), help="names with commas between them")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, action="append", default=[], help=sets.DATA_HELP)
    parser.add_argument("--output", type=Path, help="a file for all single results, in JSON")
    arguments = parser.parse_args()
    names = arguments.sets.split(",")
    try:
        problems = {name: problem(name, arguments.data) for name in names}
    except sets.MissingSetsError as error:
        print(error, file=sys.stderr)
        return 2
    results = {name: {"defaults": scores(problems[name], {}, arguments.seeds)} for name in names}
    print(f"| change | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    means = [f"{np.mean(results[name]['defaults']):.3f}" for name in names]
    print(f"| none | {' | '.join(means)} |", flush=True)
    for change, options in CHANGES.items():
        cells = []
        for name in names:
            changed = results[name][change] = scores(problems[name], options, arguments.seeds)
            difference = np.array(changed) - np.array(results[name]["defaults"])
            cells.append(f"{difference.mean():+.3f} ± {difference.std(ddof=1) / np.sqrt(len(difference)):.3f}")
        print(f"| {change} | {' | '.join(cells)} |", flush=True)
        if arguments.output is not None:
            arguments.output.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


def problem(name: str, data: list[Path]) -> Any:
    """Read the training part of a set: a `Part`, or the numbers of sunspots before the years that are tested on."""
    if name == "sunspots":
        return sets.sunspots()[: -sets.LAST_YEARS]
    if name == "digits":
        return sets.digits().training
    found = sets.classification_sets(data)
    if name not in found:
        raise sets.MissingSetsError(f"{name}: expected one of {', '.join(found)}, digits or sunspots")
    return sets.read_split(found[name]).training


def scores(part: Any, options: dict[str, Any], seeds: int) -> list[float]:
    """Give the accuracy in each fold and for each seed; of a series the error, as a share of the series' spread."""
    if isinstance(part, sets.Part):
        return [accuracy(part, fold, options, seed) for fold in folds(part.y) for seed in range(seeds)]
    return [series_error(part, options, seed) for seed in range(2 * seeds)]


def folds(y: NDArray[Any]) -> list[NDArray[np.bool_]]:
    """Give what is held out in each fold: a share of each class, whose sequences stand side by side in the set.

    Neighbours in a set are often alike, of one speaker say, so held-out neighbours are as hard as the test part.
    """
    fold = np.empty(len(y), int)
    for label in np.unique(y):
        places = np.flatnonzero(y == label)
        fold[places] = np.arange(len(places)) * FOLDS // len(places)
    return [fold == number for number in range(FOLDS)]


def accuracy(part: sets.Part, held_out: NDArray[np.bool_], options: dict[str, Any], seed: int) -> float:
    model = lw.LSTMClassifier(random_state=seed)
    model.set_params(**changed(model, options))
    model.fit([x for x, out in zip(part.X, held_out, strict=True) if not out], part.y[~held_out])
    predicted = model.predict([x for x, out in zip(part.X, held_out, strict=True) if out])
    return float(np.mean(predicted == part.y[held_out]))


def series_error(series: NDArray[np.float64], options: dict[str, Any], seed: int) -> float:
    errors: list[float] = []
    for begin in range(len(series) - VALIDATED_YEARS, len(series), REFIT):
        model = lw.LSTMRegressor(random_state=seed)
        model.set_params(**changed(model, options))
        model.fit(sets.windows(series, sets.WINDOW, begin), series[sets.WINDOW : begin])
        errors += (model.predict(sets.windows(series, begin, begin + REFIT)) - series[begin : begin + REFIT]).tolist()
    return float(np.sqrt(np.mean(np.square(errors))) / series.std())


def changed(model: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Give the options to set: a learning rate is a multiple of the default."""
    return options | {"lr": model.lr * options["lr"]} if "lr" in options else options


if __name__ == "__main__":
    sys.exit(main())
