"""A program may end while its daemon threads are in a call."""

import subprocess
import sys

import pytest

# Each loops for ever in several daemon threads, while the main thread comes to its end.
LOOPS = {
    "call": "lstm(x)",
    "several threads in a call": "lw.set_num_threads(2); wide(wide_x)",
    "record": "lstm.record(x).backward(y)",
    "step of training": "trainer.step(x, y)",
    "ready": "trainer.gradient(x, y, ready=lambda *arguments: sum(range(20_000)))",
    "loss of one's own": "own.step(x, y)",
    "evaluate": "trainer.evaluate(x, y)",
    "optimizer": "sgd.step(tape.backward(y))",
    "state_dict": "lstm.load_state_dict(lstm.state_dict())",
    "new layers": "lw.LSTM(64, 64).stream()",
    "stream": "stream.step(step)",
    "large stream": "large.step(step)",
    "save and load": "wide.save(path); lw.load(path)",
    "settings": "lw.set_num_threads(1 + lw.get_num_threads() % 2)",
}

PROGRAM = """
import os, sys, threading, time
import latchwork as lw, numpy as np
lw.set_num_threads(1)
lstm = lw.LSTM(8, 16, 2, seed=0)
x = np.ones((20, 4, 8), np.float32)
y = np.ones((20, 4, 16), np.float32)
wide, wide_x = lw.LSTM(8, 64, seed=0), np.ones((20, 64, 8), np.float32)
started = threading.Semaphore(0)

def loss(output, y):
    return 0.0 * sum(range(20_000)), output - y

def loop(number):
    path = os.path.join(sys.argv[1], f"{number}.safetensors")
    step = np.ones(8, np.float32)
    trainer = lw.Trainer(lstm, "squared_error", lw.optim.Adam(lr=1e-3))
    own = lw.Trainer(lstm, loss, lw.optim.SGD(lr=0.0))
    tape, sgd = lstm.record(x), lw.optim.SGD(lstm, lr=0.0)
    stream, large = lstm.stream(), lw.LSTM(8, 256, seed=0).stream()
    started.release()
    while True:
        LOOP

for number in range(3):
    threading.Thread(target=loop, args=(number,), daemon=True).start()
for _ in range(3):
    started.acquire()
time.sleep(0.1)
"""


def run(loop, folder):
    program = PROGRAM.replace("LOOP", loop)
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "LATCHWORK_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_ends_while_daemon_threads_are_in_a_call(loop, tmp_path):
    for _ in range(2):
        result = run(LOOPS[loop], tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
