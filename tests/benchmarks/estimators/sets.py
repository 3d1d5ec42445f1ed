"""The sets that the measurements of estimators read, from packages that ship them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PACKAGES = ("aeon", "sktime")
DATA_HELP = "a folder datasets/data of an aeon or sktime that is installed elsewhere"
LAST_YEARS = 100
WINDOW = 22  # years, about two cycles of the sun


class Part(NamedTuple):
    """Sequences (steps, features) of a training or test part, and their targets."""

    X: list[NDArray[np.float64]]
    y: NDArray[Any]


class Split(NamedTuple):
    training: Part
    test: Part


class MissingSetsError(Exception):
    """No sets are there, with what to install in the message."""


def folders(given: Sequence[Path] = ()) -> list[Path]:
    """Find the folders of the packages' own sets, without importing the packages."""
    found = list(given)
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).parent / "datasets" / "data")
    if not any(folder.is_dir() for folder in found):
        raise MissingSetsError(f"no sets: install aeon or sktime (pip install aeon sktime), or pass --data {DATA_HELP}")
    return [folder for folder in found if folder.is_dir()]


def classification_sets(given: Sequence[Path] = ()) -> dict[str, Path]:
    """Find all classification sets with a training and a test part; of sets that two packages ship, the first."""
    found: dict[str, Path] = {}
    for folder in folders(given):
        for path in sorted(folder.iterdir()):
            files = [path / f"{path.name}_{part}.ts" for part in ("TRAIN", "TEST")]
            if path.name not in found and all(file.is_file() for file in files) and _has_classes(files[0]):
                found[path.name] = path
    return found


def read_split(path: Path) -> Split:
    """Read the official split of a set."""
    return Split(*(_read_ts(path / f"{path.name}_{part}.ts") for part in ("TRAIN", "TEST")))


def digits() -> Split:
    """Read scikit-learn's digits as sequences of 8 rows, with a fixed stratified quarter held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    X, X_test, y, y_test = train_test_split(
        loaded.images, loaded.target, test_size=0.25, random_state=0, stratify=loaded.target
    )
    return Split(Part(list(X), y), Part(list(X_test), y_test))


def sunspots() -> NDArray[np.float64]:
    """Read statsmodels' yearly numbers of sunspots from 1700 to 2008."""
    from statsmodels.datasets import sunspots as sunspots_set

    numbers: NDArray[np.float64] = sunspots_set.load_pandas().data["SUNACTIVITY"].to_numpy(np.float64)
    return numbers


def windows(series: NDArray[np.float64], begin: int, end: int) -> NDArray[np.float64]:
    """Give the `WINDOW` values before each of the places from ``begin`` to ``end``."""
    return np.stack([series[place - WINDOW : place] for place in range(begin, end)])[:, :, np.newaxis]


def _has_classes(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip().lower()
            if text.startswith("@classlabel"):
                return text.split()[1] == "true"
            if text.startswith("@data"):
                break
    return False


def _read_ts(path: Path) -> Part:
    """Read a file in the format ``.ts``: a case a line, its features between colons, the label last."""
    X, y = [], []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip().lower() == "@data":
                break
        for line in file:
            if line.strip():
                *features, label = line.strip().split(":")
                columns = [np.array(feature.replace("?", "nan").split(","), np.float64) for feature in features]
                X.append(np.stack(columns, axis=1))
                y.append(label)
    return Part(X, np.array(y))
