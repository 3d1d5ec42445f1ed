"""The memory of the drop-in, measured in a process of its own: no leak, and a peak no higher than that of torch.nn."""

import os
import subprocess
import sys
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("resource", reason="the peak is read by getrusage")

MIB = 2**20

TRAINING = """
import resource
steps, rows, inputs, hidden, layers, both, projected = {shape}
def step(lstm, x):
    output, _ = lstm(x)
    output.square().mean().backward()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
step(module.LSTM(2, 3), torch.randn(2, 2, 2))
before = peak()
lstm = module.LSTM(inputs, hidden, layers, bidirectional=both, proj_size=projected)
x = torch.randn(steps, rows, inputs, requires_grad=True)
for _ in range(2):
    lstm.zero_grad()
    x.grad = None
    step(lstm, x)
print(peak() - before)
"""

REPEATED = """
import gc, os
lstm, cell = module.LSTM(3, 5, 2, dropout=0.1), module.LSTMCell(5, 4)
parameters = [*lstm.parameters(), *cell.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.01)
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def step(number):
    optimizer.zero_grad()
    x = torch.randn(4, 1 + number % 3, 3, requires_grad=True)
    output, state = lstm(x)
    h, c = cell(output[-1], cell(output[0]))
    if number % 7 == 0:
        return  # a graph that is never walked
    (output.sum() + state[1].sum() + h.sum() + c.sum()).backward()
    optimizer.step()
    with torch.no_grad():
        lstm(x)
for number in range(3000):
    step(number)
before = resident()
for number in range(7000):
    step(number)
print(resident() - before)
"""


def measured(program, layers):
    """The number that a program prints in a process of its own, with torch.nn's layers or the drop-in's."""
    module = "import torch\nimport latchwork.torch\ntorch.set_num_threads(1)\nmodule = " + layers + "\n"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "ignore",
        "LATCHWORK_NUM_THREADS": "2",
    }
    command = [sys.executable, "-c", module + program]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory of a process is read from /proc")
def test_ten_thousand_steps_leave_nothing_behind():
    """A leak of an object of 300 bytes at each step would show."""
    assert measured(REPEATED, "latchwork.torch") < 2 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(200, 64, 64, 256, 1, False, 0), (100, 64, 128, 128, 2, True, 64)], ids=str)
def test_the_peak_of_a_training_step(shape):
    program = TRAINING.format(shape=shape)
    assert measured(program, "latchwork.torch") <= measured(program, "torch.nn")
