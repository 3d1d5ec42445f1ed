"""The drop-in copied, saved, shared with other processes, and used by many threads, beside torch.nn's layers."""

import copy
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from forks import forks  # noqa: E402
from torch_models import InWorker, averaged_gradients, share  # noqa: E402
from torch_programs import DROP_IN, agree, gradients, same  # noqa: E402

LIMIT = 120  # seconds after which a process is taken to hang


def through_pickle(module):
    return pickle.loads(pickle.dumps(module))


def through_a_file(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def through_a_state_dict(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    module.reset_parameters()
    module.load_state_dict(torch.load(buffer, weights_only=True))
    return module


COPIES = [copy.copy, copy.deepcopy, through_pickle, through_a_file, through_a_state_dict]


def copied(layers, make, after_a_call):
    lstm = layers.LSTM(3, 5, 2, dropout=0.5, bidirectional=True)
    x = torch.randn(4, 2, 3)
    if after_a_call:
        lstm(x)[0].sum().backward()
    other = make(lstm)
    output, _ = other(x)
    output.square().sum().backward()
    return output, gradients(other), repr(other), type(other) is type(lstm), other.training


@pytest.mark.parametrize("after_a_call", [False, True])
@pytest.mark.parametrize("make", COPIES, ids=lambda make: make.__name__)
def test_a_copy(make, after_a_call):
    same(copied, make, after_a_call)


def independent(layers):
    cell = layers.LSTMCell(3, 4)
    x = torch.randn(2, 3)
    with torch.no_grad():
        cell(x)
        other = copy.deepcopy(cell)
        other.weight_ih.zero_()
        return cell(x), other(x)


def test_a_copy_of_a_cell_has_weights_of_its_own():
    same(independent)


@pytest.mark.parametrize("make", [lambda: DROP_IN.LSTM(3, 4, 2, bidirectional=True), lambda: DROP_IN.LSTMCell(3, 4)])
def test_safe_loading_of_a_module(make):
    """A whole module loads safely once its class is allowed, and nothing else has to be."""
    module = make()
    x = torch.randn(5, 3)
    expected = module(x)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=type(module).__name__):
        torch.load(buffer, weights_only=True)
    buffer.seek(0)
    torch.serialization.add_safe_globals([type(module), set])  # PyTorch 2.4 has to be told of sets too
    try:
        agree(torch.load(buffer, weights_only=True)(x), expected, tolerance=0)
    finally:
        torch.serialization.clear_safe_globals()


def shared_in_memory(layers):
    lstm = layers.LSTM(3, 5)
    x = torch.randn(4, 2, 3)
    lstm(x)
    lstm.share_memory()
    output, _ = lstm(x)
    output.sum().backward()
    return output, gradients(lstm), all(parameter.is_shared() for parameter in lstm.parameters())


def test_shared_memory():
    same(shared_in_memory)


@pytest.mark.slow
@forks
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_weights_that_another_process_writes(method):
    """As in training by several processes on one shared set of weights: the parent sees what the child wrote."""
    lstm = DROP_IN.LSTM(3, 5)
    lstm.share_memory()
    x = torch.ones(4, 2, 3)
    before = lstm(x)[0].detach()
    context = torch.multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=share, args=(lstm, x, answers))
    process.start()
    theirs = torch.tensor(answers.get(timeout=LIMIT))
    process.join(LIMIT)
    assert process.exitcode == 0
    after = lstm(x)[0].detach()
    assert torch.equal(after, theirs)
    assert not torch.equal(after, before)


@pytest.mark.slow
@forks
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_run_the_model(method):
    """A DataLoader whose workers put each example through the model, after the parent ran it with all its threads."""
    lstm = DROP_IN.LSTM(3, 5)
    x = torch.randn(20, 8, 3)
    lstm(x)[0].sum().backward()
    examples = InWorker(lstm, torch.randn(12, 7, 3))
    loader = torch.utils.data.DataLoader(
        examples, batch_size=4, num_workers=2, multiprocessing_context=method, timeout=LIMIT
    )
    with torch.no_grad():
        expected = torch.stack([lstm(row)[0] for row in examples.rows])
    given = torch.cat(list(loader))
    assert torch.equal(given, expected)


def child_of_fork(work, seconds=LIMIT):
    """Fork; the child does some work and leaves with its answer as the exit status; a child that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


@forks
def test_a_fork_while_threads_run_the_model():
    lstm, cell = DROP_IN.LSTM(6, 16, 2), DROP_IN.LSTMCell(6, 16)
    x = torch.randn(30, 8, 6)

    def answer():
        output, _ = lstm(x)
        return [output.detach(), cell(x[0])[1].detach(), *torch.autograd.grad(output.sum(), list(lstm.parameters()))]

    expected = answer()
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            answer()

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()

    def forward_alone():
        with torch.no_grad():
            return torch.equal(lstm(x)[0], expected[0]) and torch.equal(cell(x[0])[1], expected[1])

    try:
        ends = [child_of_fork(forward_alone) for _ in range(5)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert ends == [0] * 5
    agree(answer(), expected, tolerance=0)


def test_threads_that_share_a_module():
    lstm, cell = DROP_IN.LSTM(6, 16, 2, bidirectional=True), DROP_IN.LSTMCell(6, 16)
    inputs = [torch.randn(11, 1 + number, 6) for number in range(8)]

    def answer(x):
        leaf = x.clone().requires_grad_()
        output, _ = lstm(leaf)
        h, _ = cell(leaf[0], cell(leaf[1]))
        return [
            output.detach(),
            h.detach(),
            *torch.autograd.grad(output.sum() + h.square().sum(), [leaf, *lstm.parameters()]),
        ]

    expected = [answer(x) for x in inputs]
    given = [[] for _ in inputs]
    barrier = threading.Barrier(len(inputs))

    def go(number):
        barrier.wait()
        given[number] = [answer(inputs[number]) for _ in range(10)]

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(given, expected, strict=True):
        assert len(mine) == 10
        for each in mine:
            agree(each, theirs, tolerance=0)


def test_gradients_that_threads_accumulate():
    """Many threads call backward at once on one module, as in asynchronous training."""
    lstm = DROP_IN.LSTM(3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    lstm(x)[0].sum().backward()
    once = {name: parameter.grad.clone() for name, parameter in lstm.named_parameters()}
    lstm.zero_grad()
    losses = [lstm(x)[0].sum() for _ in range(8)]
    threads = [threading.Thread(target=loss.backward) for loss in losses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agree({name: parameter.grad for name, parameter in lstm.named_parameters()}, {k: 8 * v for k, v in once.items()})


@pytest.mark.slow
@forks
def test_distributed_data_parallel(tmp_path):
    """Two processes that train on halves of the rows, as torch.nn's layers do in one process on all of them."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch was built without gloo")
    context = torch.multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=averaged_gradients, args=(rank, str(tmp_path / "meeting"), str(tmp_path / f"rank{rank}.pt"))
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        assert process.exitcode == 0
    found = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    agree(found[0]["drop-in"], found[1]["drop-in"], tolerance=0)
    agree(found[0]["drop-in"], found[0]["torch"])


def test_an_interpreter_that_ends_amid_a_call():
    """A daemon thread is in a call when the program ends.

    It is one long call, because between calls it would be in PyTorch's own functions, of which ``Tensor.new_empty``
    aborts a program that ends meanwhile.
    """
    program = (
        "import threading, time, torch, latchwork.torch\n"
        "torch.set_num_threads(2)\n"
        "lstm = latchwork.torch.LSTM(64, 512)\n"
        "x = torch.randn(4000, 16, 64)\n"
        "begun, ended = threading.Event(), threading.Event()\n"
        "def go():\n"
        "    with torch.no_grad():\n"
        "        begun.set()\n"
        "        lstm(x)\n"
        "    ended.set()\n"
        "threading.Thread(target=go, daemon=True).start()\n"
        "begun.wait()\n"
        "time.sleep(0.1)\n"
        "assert not ended.is_set()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, timeout=LIMIT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
