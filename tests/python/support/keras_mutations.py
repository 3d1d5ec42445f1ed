"""Damages files of Keras at random and reads them: ``python keras_mutations.py FOLDER COUNT SEED``.

What libhdf5 does with each file happens in a process of its own, as always, but one that is forked from this one, where
h5py is imported already: that takes a hundredth of the time. Prints, as JSON, how often what happened.
"""

import io
import json
import os
import signal
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import latchwork as lw
import numpy as np
from latchwork.interop import keras as interop_keras
from latchwork.interop.keras import hdf5, hdf5_process


class Forked:
    """A forked process that serves a file."""

    def __init__(self, path):
        requests, replies = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(requests[1])
            os.close(replies[0])
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with os.fdopen(requests[0], "rb") as stdin, os.fdopen(replies[1], "wb") as stdout:
                hdf5_process.serve(path, stdin, stdout)
                stdout.flush()
                os._exit(0)
        os.close(requests[0])
        os.close(replies[1])
        self.stdin, self.stdout, self._status = os.fdopen(requests[1], "wb"), os.fdopen(replies[0], "rb"), None

    def kill(self):
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self):
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status


def damaged(content, random):
    """Change some bytes, zero or repeat a piece, cut the end off, or put numbers in that are often wrong."""
    content = bytearray(content)
    for _ in range(random.integers(1, 6)):
        place = int(random.integers(len(content)))
        length = int(random.integers(1, 32))
        match random.integers(5):
            case 0:
                content[place] ^= 1 << int(random.integers(8))
            case 1:
                content[place : place + length] = bytes(len(content[place : place + length]))
            case 2:
                content[place : place + length] = content[place : place + length] * 2
            case 3:
                numbers = [0, 1, 0x7F, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1]
                number = numbers[int(random.integers(len(numbers)))]
                content[place : place + 8] = number.to_bytes(8, "little")[: len(content[place : place + 8])]
            case _ if random.random() < 0.2:
                del content[place:]
        if not content:
            return b"\0"
    return bytes(content)


def damaged_json(value, random):
    """Change one thing somewhere in a configuration."""
    if isinstance(value, (dict, list)) and value and random.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(random.integers(len(keys)))]
        if isinstance(value, dict) and random.random() < 0.05:
            return {name: item for name, item in value.items() if name != key}
        changed = damaged_json(value[key], random)
        return {**value, key: changed} if isinstance(value, dict) else [*value[:key], changed, *value[key + 1 :]]
    others = [None, 0, -1, 10**400, 1e300, "relu", "LSTM", [], {}, [["a", 0, 0]], True, {"class_name": "LSTM"}, [[[]]]]
    return others[int(random.integers(len(others)))]


def damaged_archive(content, random):
    """Damage the parts of an archive, and pack them again so that the checksums are right."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as copy:
        hit = str(random.choice(source.namelist()))
        for name in source.namelist():
            part = source.read(name)
            if name == hit and name.endswith(".json") and random.random() < 0.9:
                part = json.dumps(damaged_json(json.loads(part), random))
            elif name == hit:
                part = damaged(part, random)
            copy.writestr(name, part)
    return target.getvalue()


def read(path, random):
    """Read a file in one of the ways there are. Give what happened."""
    signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        if random.random() < 0.3:
            layer = {"layer": "lstm"} if random.random() < 0.5 else {}
            lw.from_keras(path, **layer)
        for found in interop_keras.lstms(path):
            lw.from_keras(path, layer=found.path)
    except ValueError as error:
        return "crashed" if "libhdf5 crashed" in str(error) else "refused"
    except Exception as error:
        place = error.__traceback__
        while place.tb_next:
            place = place.tb_next
        return f"{type(error).__name__} in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def main(folder, count, seed):
    import h5py

    assert h5py
    warnings.simplefilter("ignore")
    hdf5._start = Forked
    files = [path for path in sorted(Path(folder).iterdir()) if path.suffix in (".keras", ".h5")]
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as target:
        for number in range(count):
            random = np.random.default_rng([seed, number])
            source = files[number % len(files)]
            content = source.read_bytes()
            deep = source.suffix == ".keras" and random.random() < 0.7
            changed = damaged_archive(content, random) if deep else damaged(content, random)
            path = Path(target) / f"damaged{source.suffix}"
            path.write_bytes(changed)
            outcomes[read(path, random)] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
