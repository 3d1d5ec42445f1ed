"""Ctrl-C in a long call: heard soon, nothing changed, no thread left busy."""

import os
import signal
import threading
import time

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits, same_bits

SOON = 0.25  # seconds


class Case:
    """Models, and calls of them that take some seconds if nobody interrupts them."""

    def __init__(self, seconds=1.0):
        self.lstm = lw.LSTM(32, 256, 2, seed=0)
        self.net = lw.Network([lw.LSTM(32, 192, seed=0), lw.Linear(192, 8, seed=1)], members=2)
        self.head = lw.Network([lw.Linear(512, 512, activation="tanh", seed=0)])
        self.text = lw.Network([lw.Embedding(20_000, 64, seed=0), lw.LSTM(64, 64, seed=1)])
        self.trainer = lw.Trainer(self.lstm, "squared_error", lw.optim.Adam(lr=1e-3))
        self.ensemble = lw.Trainer(self.net, "absolute_error", lw.optim.SGD(lr=0.1, momentum=0.9), clip_norm=1.0)
        self.rows = np.random.default_rng(0).standard_normal((1, 64, 32), dtype=np.float32)
        self.tokens = np.random.default_rng(0).integers(0, 20_000, (1, 64))
        # The fastest of several, because the first one finds the threads asleep.
        fastest = min(self.seconds_of(100) for _ in range(5))
        self.steps = int(100 * seconds / fastest)

    def seconds_of(self, steps):
        started = time.perf_counter()
        self.trainer.evaluate(*self.data(steps, 256))
        return time.perf_counter() - started

    def data(self, steps, features):
        return np.broadcast_to(self.rows, (steps, 64, 32)), np.zeros((steps, 64, features), np.float32)


@pytest.fixture(scope="module")
def case():
    lw.set_num_threads(2)
    return Case()


def backward(case, **options):
    x, _ = case.data(case.steps, 256)
    tape = case.lstm.record(x[: case.steps // 2], **options)
    into = case.lstm.record(x[:2]).backward(np.ones((2, 64, 256), np.float32))
    kept = np.array(into.parameters.flat)
    d_output = np.ones_like(tape.output)

    def check():
        assert_same_bits(into.parameters.flat, kept)

    return lambda: tape.backward(d_output, into=into), check


def long_call(case, name):
    """A call that takes some seconds, and what must hold after it was interrupted."""
    x, y = case.data(case.steps, 256)
    _, few = case.data(case.steps, 8)
    wide = np.broadcast_to(np.ones((1, 1, 512), np.float32), (4 * case.steps, 64, 512))
    tokens = np.broadcast_to(case.tokens, (20 * case.steps, 64))
    calls = {
        "call": lambda: case.lstm(x),
        "one row": lambda: case.lstm(np.broadcast_to(x[:, :1], (x.shape[0], 1, 32)).repeat(60, axis=0)),
        "ragged": lambda: case.lstm(x, lengths=np.arange(64) * case.steps // 64),
        "members": lambda: case.net(np.concatenate([x] * 3)),
        "skip": lambda: case.lstm(np.concatenate([x] * 2), skip=np.arange(2 * case.steps * 64).reshape(-1, 64) % 2),
        "linear": lambda: case.head(wide),
        "tokens": lambda: case.text(tokens),
        "record": lambda: case.lstm.record(x),
        "record with checkpoints": lambda: case.lstm.record(x, checkpoint=10),
        "trace": lambda: case.lstm.trace(x[: case.steps // 2]),
        "step of training": lambda: case.trainer.step(x, y),
        "step of an ensemble": lambda: case.ensemble.step(x, few),
        "gradient": lambda: case.trainer.gradient(x, y),
        "evaluate": lambda: case.trainer.evaluate(x, y),
    }
    if name == "backward":
        return backward(case)
    if name == "backward with checkpoints":
        return backward(case, checkpoint=10)
    return calls[name], lambda: None


NAMES = ["call", "one row", "ragged", "members", "skip", "linear", "tokens", "trace"]
NAMES += ["record", "record with checkpoints", "backward", "backward with checkpoints"]
NAMES += ["step of training", "step of an ensemble", "gradient", "evaluate"]
ALONE = ["call", "step of training", "backward"]


def everything(case):
    """What no interrupted call may change."""
    parts = {
        f"{number}.{name}": value
        for number, module in enumerate((case.lstm, case.net, case.head, case.text))
        for name, value in module.state_dict().items()
    }
    return parts | {"steps": np.array([case.trainer.steps, case.ensemble.steps])}


def interrupted_after(seconds, call):
    """Press Ctrl-C in the middle of a call; return how long the call took to hear it."""
    sent = []

    def send():
        time.sleep(seconds)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        while True:  # on a machine that is less busy than before, a call may have ended by then
            call()
    heard = time.perf_counter()
    thread.join()
    return heard - sent[0]


def assert_heard_soon(call):
    # A busy machine may hold a thread up now and then.
    delays = []
    while len(delays) < 3 and (not delays or delays[-1] > SOON):
        delays.append(interrupted_after(0.3, call))
    assert delays[-1] <= SOON, delays


def busy_seconds(seconds):
    """The CPU time that the process takes in some seconds in which it should sleep."""
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


@pytest.mark.parametrize(("name", "threads"), [(name, 2) for name in NAMES] + [(name, 1) for name in ALONE])
def test_ctrl_c_is_heard_and_changes_nothing(name, threads, case):
    lw.set_num_threads(threads)
    call, check = long_call(case, name)
    before = everything(case)
    assert_heard_soon(call)
    check()
    assert busy_seconds(0.2) < 0.1
    after = everything(case)
    assert all(same_bits(after[part], before[part]) for part in before)
    x, y = case.data(5, 256)
    fresh = lw.LSTM(32, 256, 2)
    fresh.load_state_dict(case.lstm.state_dict())
    assert_same_bits(case.lstm(x)[0], fresh(x)[0])
    assert case.trainer.evaluate(x, y)[0] == lw.Trainer(fresh, "squared_error", lw.optim.SGD(lr=0)).evaluate(x, y)[0]


def test_a_step_after_an_interrupted_one_does_what_it_would_have_done(case):
    x, y = case.data(case.steps, 256)
    short = x[:7], y[:7]
    trainers = []
    for _ in range(2):
        lstm = lw.LSTM(32, 256, 2, dropout=0.3, seed=0)
        trainers.append(lw.Trainer(lstm, "squared_error", lw.optim.Adam(lr=1e-2), seed=1))
    for trainer in trainers:
        trainer.step(*short)
    interrupted_after(0.2, lambda: trainers[0].step(x, y))
    with pytest.raises(RuntimeError, match="gradient"):
        trainers[0].apply()
    losses = [[trainer.step(*short)[0] for _ in range(3)] for trainer in trainers]
    assert losses[0] == losses[1]
    weights = [trainer.network.state_dict() for trainer in trainers]
    assert all(same_bits(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_handler_that_raises_nothing_interrupts_nothing(case):
    # It runs in the middle of the call, may use the library, and finds the arithmetic of a thread of its own.
    x, _ = case.data(case.steps // 2, 256)
    started = time.perf_counter()
    expected, _ = case.lstm(x)
    duration = time.perf_counter() - started
    seen = []

    def handler(*arguments):
        seen.append((time.perf_counter(), case.lstm(x[:3])[0], np.float32(1e-38) * np.float32(0.1) > 0))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, duration / 4)
        output, _ = case.lstm(x)
        ended = time.perf_counter()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert_same_bits(output, expected)
    ((when, inside, subnormal),) = seen
    assert when < ended - duration / 20
    assert subnormal
    assert_same_bits(inside, expected[:3])


def test_another_thread_goes_on_when_the_main_thread_is_interrupted(case):
    x, _ = case.data(case.steps, 256)
    expected, _ = case.lstm(x)
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(case.lstm(x)[0]))
    thread.start()
    interrupted_after(0.1, lambda: case.lstm(x))
    thread.join()
    assert_same_bits(outputs[0], expected)


def test_ctrl_c_while_another_thread_is_in_the_trainer(case):
    x, y = case.data(case.steps // 2, 256)
    done = threading.Event()

    def train():
        while not done.is_set():
            case.trainer.gradient(x, y)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        assert_heard_soon(lambda: case.trainer.lr)
    finally:
        done.set()
        thread.join()
