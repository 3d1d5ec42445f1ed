"""PyTorch's own tests of its LSTM, run on torch.nn's layers and on the drop-in's: as many must pass.

    python tests/peers/torch_module_tests.py CHECKOUT [FILE...]

CHECKOUT is a folder with PyTorch's sources, or at least its folder `test`, at the tag of the PyTorch that is
installed. FILE is a file in CHECKOUT, by default the three that test modules, packed sequences and every module of
torch.nn. Of their tests those run, on the CPU, whose name or code speaks of an LSTM or an RNN. PyTorch's tests need
expecttest and hypothesis.

The command prints how many passed, failed and were skipped on each, and which ended differently; its exit status is 1
if any did.
"""

import argparse
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

FILES = ("test/test_nn.py", "test/nn/test_packed_sequence.py", "test/test_modules.py")
LAYERS = ("torch.nn", "latchwork.torch")
CONCERNED = re.compile("lstm|rnn|variable_sequence|packed_sequence", re.IGNORECASE)


class Recorder:
    """A plugin of pytest that leaves out what does not concern an LSTM, and keeps how each test ended."""

    def __init__(self):
        self.outcomes = {}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if CONCERNED.search(item.nodeid) or CONCERNED.search(source(item))]

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def source(item):
    try:
        return inspect.getsource(inspect.unwrap(item.function))
    except OSError:
        return ""


def use_drop_in():
    """Put the drop-in's layers where PyTorch's tests look for torch.nn's."""
    import latchwork.torch
    import torch

    for name in ("LSTM", "LSTMCell"):
        for place in (torch.nn, torch.nn.modules, torch.nn.modules.rnn):
            setattr(place, name, getattr(latchwork.torch, name))


def run_tests(checkout, files, layers, results):
    """In a process of its own: run the tests on one set of layers."""
    import pytest

    if layers == LAYERS[1]:
        use_drop_in()
    recorder = Recorder()
    os.chdir(checkout)
    sys.path[:0] = [str(checkout / "test")]
    options = [
        "-q",
        "--noconftest",
        "-c",
        os.devnull,
        f"--rootdir={checkout}",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
    ]
    status = pytest.main([*options, "--tb=short", *files], plugins=[recorder])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"pytest ended with {status!r}")
    results.write_text(json.dumps(recorder.outcomes))


def outcomes_of(checkout, files, layers):
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, __file__, str(checkout), *files, "--layers", layers, "--results", str(results)]
        environment = os.environ | {
            "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            sys.exit(f"the tests could not be run on {layers}")
        return json.loads(results.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("files", nargs="*", default=list(FILES))
    parser.add_argument("--layers", choices=LAYERS, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    for file in arguments.files:
        if not (checkout / file).is_file():
            parser.error(f"{checkout} has no {file}")
    if arguments.layers:
        run_tests(checkout, arguments.files, arguments.layers, arguments.results)
        return
    found = {layers: outcomes_of(checkout, arguments.files, layers) for layers in LAYERS}
    for layers, outcomes in found.items():
        counts = Counter(outcomes.values())
        print(f"{layers:16} {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    theirs, ours = (found[layers] for layers in LAYERS)
    different = sorted(test for test in theirs | ours if theirs.get(test) != ours.get(test))
    for test in different:
        print(f"{test}: {theirs.get(test)} on {LAYERS[0]}, {ours.get(test)} on {LAYERS[1]}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
