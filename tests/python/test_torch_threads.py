"""Calls of the drop-in run on PyTorch's own threads: with the same bits, in any program, and after a fork without."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import latchwork as lw
import pytest
from latchwork import _core

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import latchwork.torch as lt  # noqa: E402
from forks import forks  # noqa: E402
from latchwork.torch.threads import share_threads, team_function  # noqa: E402
from torch_graphs import fresh_compiler  # noqa: E402

LIMIT = 120  # seconds after which a process is taken to hang

with_teams = pytest.mark.skipif(team_function() == 0, reason="this PyTorch is built without OpenMP")


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    """Set the threads of both libraries for a test."""
    before = torch.get_num_threads(), lw.get_num_threads()

    def set_both(count: int) -> None:
        torch.set_num_threads(count)
        lw.set_num_threads(count)

    set_both(3)
    yield set_both
    torch.set_num_threads(before[0])
    lw.set_num_threads(before[1])


@pytest.fixture
def asked() -> Iterator[list[int]]:
    """The numbers of threads that the core has asked PyTorch's library for, call by call."""
    member = ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(None, member, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    original = kind(team_function())
    numbers: list[int] = []

    @kind
    def counting(function: Any, context: Any, count: int, flags: int) -> None:
        numbers.append(count)
        original(function, context, count, flags)

    _core.set_team_function(ctypes.cast(counting, ctypes.c_void_p).value or 0)
    yield numbers
    share_threads()


def everything(module: Any, x: Any) -> list[Any]:
    """What a call gives, with all gradients."""
    leaf = x.clone().requires_grad_()
    output = module(leaf)[0]
    data = output.data if isinstance(output, torch.nn.utils.rnn.PackedSequence) else output
    gradients = torch.autograd.grad((data * data).sum(), [leaf, *module.parameters()])
    with torch.no_grad():
        again = module(x)[0]
    return [data.detach(), again, *gradients]


def same(found: list[Any], expected: list[Any]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def model_and_input() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return lt.LSTM(24, 64, 2, bidirectional=True), torch.randn(30, 16, 24)


def of_layers() -> list[Any]:
    return everything(*model_and_input())


def of_a_cell() -> list[Any]:
    torch.manual_seed(0)
    return everything(lt.LSTMCell(64, 128), torch.randn(32, 64))


def of_a_packed_sequence() -> list[Any]:
    module, x = model_and_input()
    leaf = x.clone().requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(leaf, torch.arange(15, 31), enforce_sorted=False)
    data = module(packed)[0].data
    return [data.detach(), *torch.autograd.grad((data * data).sum(), [leaf, *module.parameters()])]


def of_a_compiled_layer() -> list[Any]:
    module, x = model_and_input()
    with fresh_compiler(allow_rnn=True):
        return everything(torch.compile(module, fullgraph=True, backend="aot_eager"), x)


# Of everything(), a recorded forward pass, backward, and a forward pass without gradients use threads.
@with_teams
@pytest.mark.parametrize(
    ("run", "calls"), [(of_layers, 3), (of_a_cell, 3), (of_a_packed_sequence, 2), (of_a_compiled_layer, 3)]
)
def test_the_bits_are_the_same_on_any_number_of_pytorchs_threads(
    run: Callable[[], list[Any]], calls: int, asked: list[int], threads: Callable[[int], None]
) -> None:
    threads(1)
    expected = run()
    assert asked == []
    for count in (2, 3):
        threads(count)
        assert same(run(), expected)
        assert asked == [count] * calls
        asked.clear()


@with_teams
def test_a_call_follows_the_numbers_of_threads(asked: list[int]) -> None:
    module, x = model_and_input()
    with torch.no_grad():
        for theirs, ours in ((3, 2), (2, 3), (1, 3), (3, 1), (2, 2)):
            torch.set_num_threads(theirs)
            lw.set_num_threads(ours)
            module(x)
    # As many as PyTorch's own operations, because its library would end those that it is not asked for.
    assert asked == [3, 2, 2]


@with_teams
def test_what_is_small_asks_for_no_threads(asked: list[int]) -> None:
    cell, layer = lt.LSTMCell(64, 128), lt.LSTM(8, 32)
    cell(torch.randn(1, 64))[0].sum().backward()
    layer(torch.randn(10, 1, 8))[0].sum().backward()
    assert asked == []


THREADS_OF_THE_PROCESS = """
import os, sys, torch
import latchwork as lw
import latchwork.torch as lt
from latchwork import _core
torch.set_num_threads(2)
lw.set_num_threads(2)
if sys.argv[1] == "without":
    _core.set_team_function(0)
(torch.ones(10**6, requires_grad=True) * 2).sum().backward()
before = len(os.listdir("/proc/self/task"))
lt.LSTM(64, 128)(torch.ones(20, 64, 64))[0].sum().backward()
print(len(os.listdir("/proc/self/task")) - before)
"""


@with_teams
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
@pytest.mark.parametrize(("how", "started"), [("with", 0), ("without", 1)])
def test_no_thread_is_started_beside_pytorchs(how: str, started: int) -> None:
    program = [sys.executable, "-c", THREADS_OF_THE_PROCESS, how]
    done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=LIMIT)
    assert int(done.stdout) == started


@pytest.mark.parametrize("missing", ["symbol", "library", "openmp"])
def test_without_the_function_calls_run_on_threads_of_their_own(missing: str, monkeypatch: Any) -> None:
    module, x = model_and_input()
    expected = everything(module, x)

    def load(path: str) -> object:
        if missing == "library":
            raise OSError(path)
        return object()

    with monkeypatch.context() as patch:
        if missing == "openmp":
            patch.setattr(torch.backends.openmp, "is_available", lambda: False)
        else:
            patch.setattr(ctypes, "CDLL", load)
        assert team_function() == 0
        share_threads()
    try:
        assert same(everything(module, x), expected)
    finally:
        share_threads()


def test_threads_that_call_at_once() -> None:
    module, x = model_and_input()
    inputs = [x[:, : 2 + 2 * number] for number in range(6)]
    expected = [everything(module, each) for each in inputs]
    wrong: list[int] = []

    def go(number: int) -> None:
        for _ in range(10):
            if not same(everything(module, inputs[number]), expected[number]):
                wrong.append(number)

    callers = [threading.Thread(target=go, args=(number,)) for number in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_a_signal_handler_that_raises_ends_a_call() -> None:
    lstm, x = lt.LSTM(64, 256), torch.randn(1000, 64, 64)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with torch.no_grad(), pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while True:
                lstm(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with torch.no_grad():
        expected = lstm(x)[0]
        torch.set_num_threads(1)
        assert torch.equal(lstm(x)[0], expected)


def outcome(pid: int) -> int | str:
    """Wait for a child, and end one that hangs."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


# In what follows PyTorch's own operations in a child are too small for its threads, which would hang.


@forks
@with_teams
def test_a_forked_child_has_threads_of_its_own(asked: list[int]) -> None:
    module, x = model_and_input()
    with torch.no_grad():
        expected = module(x)[0]
        assert asked == [3]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                found = module(x)[0]
                equal = found.numpy().tobytes() == expected.numpy().tobytes()
                status = 0 if equal and asked == [3] else 2
            finally:
                os._exit(status)
        assert outcome(pid) == 0
        assert torch.equal(module(x)[0], expected)
    assert asked == [3, 3]


@forks
def test_a_child_that_a_signal_handler_forks_in_the_middle_of_a_call() -> None:
    lstm, x = lt.LSTM(64, 128), torch.ones(2000, 64, 64)
    parent = os.getpid()
    children: list[int] = []
    with torch.no_grad():
        expected = lstm(x)[0]
        before = signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
        failed = False
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            while not children:
                try:
                    output = lstm(x)[0]
                except RuntimeError:  # the child has lost the threads that worked for this call
                    failed = True
            again = lstm(x)[0]
        finally:
            if os.getpid() != parent:
                fine = again.numpy().tobytes() == expected.numpy().tobytes()
                if failed:  # then PyTorch's own operations are computed too, on this thread alone
                    fine = fine and float(torch.ones(10**6).add_(1).sum()) == 2 * 10**6
                os._exit(0 if fine else 1)
            signal.signal(signal.SIGALRM, before)
        assert not failed
        assert torch.equal(output, expected)
        assert torch.equal(again, expected)
    assert outcome(children[0]) == 0
