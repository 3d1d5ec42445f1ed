"""A fork at any moment, from any thread, leaves a child in which every model works."""

import os
import signal
import tempfile
import threading
import time

import latchwork as lw
import numpy as np
import pytest
from comparison import same_bits
from forks import forks

pytestmark = forks

PATIENCE = 20  # seconds that a child may take


def outcome(pid):
    """What became of a child: its exit status, or "hung" for one that had to be killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def fork_to(work):
    """Fork a child that ends with 0 if work() is true."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return pid


class Busy:
    """Threads that use a network, its trainer, its tapes and streams in every way, until told to stop."""

    def __init__(self):
        self.net = lw.Network([lw.LSTM(6, 24, seed=0), lw.Linear(24, 3, seed=1)], members=3)
        self.x, self.y = np.ones((9, 8, 6), np.float32), np.zeros((9, 8, 3), np.float32)
        self.trainer = lw.Trainer(self.net, "squared_error", lw.optim.Adam(lr=1e-3))
        # A step that adds the same number to every weight: whole, if all weights are the same.
        self.even = lw.LSTM(40, 40, seed=0)
        self.even.load_state_dict({name: np.zeros_like(value) for name, value in self.even.parameters.items()})
        self.sgd = lw.optim.SGD(self.even, lr=1.0)
        self.gradients = self.even.record(np.ones((1, 1, 40), np.float32)).backward()
        self.gradients.parameters.flat[:] = -1
        large = lw.LSTM(64, 192, seed=0)
        self.streams = [large.stream(), large.stream(batch_size=2), self.net.stream(batch_size=2)]
        self.steps = [np.ones(64, np.float32), np.ones((2, 64), np.float32), np.ones((2, 6), np.float32)]
        self.stop = threading.Event()
        self.folder = tempfile.TemporaryDirectory()
        works = [self.train, self.train_evenly, self.call, self.record, self.read, self.run_streams, self.make]
        works.append(self.save_and_load)
        self.threads = [threading.Thread(target=self.repeat, args=(work,)) for work in works]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.folder.cleanup()

    def repeat(self, work):
        while not self.stop.is_set():
            work()

    def train(self):
        self.trainer.step(self.x, self.y)

    def train_evenly(self):
        self.sgd.step(self.gradients)

    def call(self):
        self.net(self.x)

    def record(self):
        tape = self.net.record(self.x)
        tape.backward(np.array(tape.output))

    def read(self):
        self.net.state_dict()
        self.even.state_dict()

    def run_streams(self):
        for stream, step in zip(self.streams, self.steps, strict=True):
            stream.step(step)
            stream.refresh()

    def make(self):
        lw.Network([lw.LSTM(4, 4)], members=2).stream()

    def save_and_load(self):
        path = f"{self.folder.name}/{os.getpid()}.safetensors"
        self.net.save(path)
        lw.load(path)

    def works_in_child(self):
        """Use everything, in a child that has only this thread."""
        whole = np.concatenate([value.ravel() for value in self.even.state_dict().values()])
        if not (whole == whole[0]).all():
            return False
        weights = self.net.state_dict()
        one, two = self.net(self.x), self.net(self.x)
        again = lw.Network([lw.LSTM(6, 24), lw.Linear(24, 3)], members=3)
        again.load_state_dict(weights)
        if not (same_bits(one[0], two[0]) and same_bits(one[0], again(self.x)[0])):
            return False
        self.record()
        before = self.trainer.steps
        self.train()
        self.train_evenly()
        self.run_streams()
        self.make()
        self.save_and_load()
        return self.trainer.steps == before + 1


def fork_often(count):
    with Busy() as busy:
        time.sleep(0.05)
        return [outcome(fork_to(busy.works_in_child)) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 2])
def test_forked_children_work_while_other_threads_do(threads):
    lw.set_num_threads(threads)
    outcomes = fork_often(40)
    assert outcomes == [0] * 40


@pytest.mark.slow
def test_a_thousand_forked_children_work_while_other_threads_do():
    lw.set_num_threads(2)
    outcomes = fork_often(1000)
    assert outcomes == [0] * 1000


def test_a_child_forked_in_the_middle_of_gradient_goes_on():
    lw.set_num_threads(2)
    net = lw.Network([lw.LSTM(6, 24, seed=0), lw.LSTM(24, 3, seed=1)])
    x, y = np.ones((9, 64, 6), np.float32), np.zeros((9, 64, 3), np.float32)
    trainer = lw.Trainer(net, "squared_error", lw.optim.SGD(lr=0.1))
    trainer.gradient(x, y)
    expected, children = np.array(trainer.gradients.flat), []

    def fork(*arguments):
        pid = os.fork()
        children.append(pid)

    trainer.gradient(x, y, ready=fork)
    same = same_bits(np.array(trainer.gradients.flat), expected)
    if 0 in children:  # a child, or a child's child
        trainer.apply()
        net(x)
        os._exit(0 if same else 1)
    assert same
    assert [outcome(pid) for pid in children] == [0, 0]


def test_a_child_forked_by_a_signal_handler_in_the_middle_of_a_call_works():
    lw.set_num_threads(2)
    lstm = lw.LSTM(64, 128, seed=0)
    x = np.ones((2000, 64, 64), np.float32)
    expected, _ = lstm(x)
    parent, children = os.getpid(), []
    before = signal.signal(signal.SIGALRM, lambda *arguments: children.append(os.fork()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while not children:
            try:
                output, _ = lstm(x)
            except RuntimeError:  # the child has lost the threads that worked for this call
                output = expected
    finally:
        if os.getpid() != parent:
            os._exit(0 if same_bits(lstm(x)[0], expected) and same_bits(output, expected) else 1)
        signal.signal(signal.SIGALRM, before)
    assert same_bits(output, expected)
    assert outcome(children[0]) == 0
