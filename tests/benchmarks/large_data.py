"""Train on files larger than memory could be: how much memory one pass takes, and how fast it is. Linux only.

Files of the size that is asked for are generated in a temporary folder: eight features and a target for each step as
plain numbers and as Parquet, and a text. Each kind of data is read by a process of its own, once, by a model of hidden
size 8. It first trains on a small file of the same kind, for the memory of libraries and threads; what the resident
memory then grows by at most is the figure, pages of files included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import latchwork as lw
import numpy as np

FEATURES = 8
PIECE = 50_000  # steps that are generated at once
SMALL = 0.5  # megabytes of the file that is read first
MEGABYTE = 1e6
SEQUENCE = {"hidden_size": 8, "head": "sequence", "window": 100, "max_epochs": 1, "random_state": 0}
TEXT = {"hidden_size": 8, "embedding_size": 8, "batch_size": 256, "max_epochs": 1, "random_state": 0}


def numbers(steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features and targets: a sum of them that decays over some steps, which a cell can hold."""
    random = np.random.default_rng(0)
    held = 0.0
    for begin in range(0, steps, PIECE):
        x = random.standard_normal((min(PIECE, steps - begin), FEATURES), dtype=np.float32)
        y = np.empty(len(x), np.float32)
        for step, each in enumerate(x[:, 0].tolist()):
            held = 0.9 * held + each
            y[step] = held
        yield x, y


def characters(count: int) -> Iterator[str]:
    """Yield words of a small vocabulary, some of which have letters of several bytes."""
    random = np.random.default_rng(0)
    words = [f"{chr(97 + first)}{chr(97 + second)}{ending}" for first in range(26) for second in range(26)
             for ending in ("er ", "ung ", "\u00e4t ", "o\u20ac. ")]  # fmt: skip
    made = 0
    while made < count:
        piece = "".join(words[each] for each in random.integers(0, len(words), 10_000))
        yield piece[: count - made]
        made += len(piece)


def write_mapped(folder: Path, megabytes: float) -> None:
    """Write x and y as plain numbers of float32."""
    with open(folder / "x", "wb") as x_file, open(folder / "y", "wb") as y_file:
        for x, y in numbers(steps_of(megabytes)):
            x.tofile(x_file)
            y.tofile(y_file)


def write_parquet(folder: Path, megabytes: float) -> None:
    """Write the same as a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    writer = None
    for x, y in numbers(steps_of(megabytes)):
        table = pyarrow.table({f"x{place}": x[:, place] for place in range(FEATURES)} | {"y": y})
        writer = writer or parquet.ParquetWriter(folder / "data.parquet", table.schema)
        writer.write_table(table)
    writer.close()


def write_text(folder: Path, megabytes: float) -> None:
    """Write a text of about that size."""
    with open(folder / "text.txt", "w", encoding="utf-8") as file:
        file.writelines(characters(int(megabytes * MEGABYTE / 1.13)))


def steps_of(megabytes: float) -> int:
    """Return how many steps of float32 fill the size."""
    return max(int(megabytes * MEGABYTE) // (4 * (FEATURES + 1)), 1)


def fit_mapped(folder: Path, seconds: float | None) -> Any:
    """Train on memory-mapped files."""
    x = np.memmap(folder / "x", np.float32, "r").reshape(1, -1, FEATURES)
    y = np.memmap(folder / "y", np.float32, "r").reshape(1, -1)
    return lw.LSTMRegressor(**SEQUENCE, max_seconds=seconds).fit(x, y)


def fit_parquet(folder: Path, seconds: float | None) -> Any:
    """Train on the Parquet file."""
    return lw.LSTMRegressor(**SEQUENCE, max_seconds=seconds).fit(folder / "data.parquet", "y")


def fit_function(folder: Path, seconds: float | None) -> Any:
    """Train on pieces of 32 rows that a function reads from the files of numbers."""
    steps = (folder / "y").stat().st_size // 4 // 32

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with open(folder / "x", "rb") as x_file, open(folder / "y", "rb") as y_file:
            for begin in range(0, steps, 1000):
                count = 32 * min(1000, steps - begin)
                x = np.fromfile(x_file, np.float32, FEATURES * count)
                yield x.reshape(32, -1, FEATURES), np.fromfile(y_file, np.float32, count).reshape(32, -1)

    return lw.LSTMRegressor(**SEQUENCE, max_seconds=seconds).fit(pieces)


def fit_text(folder: Path, seconds: float | None) -> Any:
    """Train a language model on the text."""
    return lw.LSTMLanguageModel(**TEXT, max_seconds=seconds).fit(folder / "text.txt")


WRITERS: dict[str, Callable[[Path, float], None]] = {
    "mapped": write_mapped,
    "parquet": write_parquet,
    "function": write_mapped,
    "text": write_text,
}
FITS: dict[str, Callable[[Path, float | None], Any]] = {
    "mapped": fit_mapped,
    "parquet": fit_parquet,
    "function": fit_function,
    "text": fit_text,
}


def peak() -> int:
    """Return the largest resident memory since `forget_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [each for each in lines if each.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    """Set the largest resident memory back to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measured(kind: str, small: Path, large: Path, limit: float | None) -> dict[str, float]:
    """Train on both and return what the second time takes."""
    FITS[kind](small, limit)
    forget_peak()
    before = peak()
    started = time.perf_counter()
    model = FITS[kind](large, limit)
    seconds = time.perf_counter() - started
    row = model.history_[-1]
    read = row.get("steps", row.get("characters"))
    return {"growth": peak() - before, "seconds": seconds, "read": read, "training": row["seconds"]}


def measure(kind: str, megabytes: float, limit: float | None) -> dict[str, float]:
    """Generate files, and let a process measure them."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small"), Path(folder, "large")
        for each, size in ((small, SMALL), (large, megabytes)):
            each.mkdir()
            WRITERS[kind](each, size)
        command = [sys.executable, __file__, "--measure", kind, str(small), str(large)]
        if limit is not None:
            command += ["--seconds", str(limit)]
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, float] = json.loads(process.stdout)
    return result


def main() -> None:
    """Measure the kinds that are asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=2000, help="size of the data (default: 2000)")
    parser.add_argument("--kinds", nargs="+", choices=FITS, default=list(FITS), help="(default: all)")
    parser.add_argument("--seconds", type=float, help="end each training after this time (default: after one pass)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        kind, small, large = arguments.measure
        print(json.dumps(measured(kind, Path(small), Path(large), arguments.seconds)))
        return
    results = {}
    print(f"{'data':9} {'growth of memory':>17} {'seconds':>8} {'read in all':>14} {'a second of training':>21}")
    for kind in arguments.kinds:
        results[kind] = result = measure(kind, arguments.megabytes, arguments.seconds)
        print(
            f"{kind:9} {result['growth'] / MEGABYTE:>14.1f} MB {result['seconds']:>8.1f} {result['read']:>14,.0f} "
            f"{result['read'] / result['training']:>21,.0f}",
            flush=True,
        )
    if arguments.write is not None:
        arguments.write.write_text(json.dumps({"megabytes": arguments.megabytes, "results": results}, indent=1))


if __name__ == "__main__":
    main()
