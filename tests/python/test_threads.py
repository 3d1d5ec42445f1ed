"""Threads of Python, threads of Latchwork, fork, and the settings of the machine."""

import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path, PurePosixPath

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits, same_bits
from forks import forks
from layers import normal, random_lstm

OPTIONS = {"input_size": 9, "hidden_size": 33, "num_layers": 2, "bidirectional": True}


def run_threads(works, seconds=120):
    """Run functions at the same time, and raise the first exception of any."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("writer", ["load_state_dict", "edit", "trainer"])
def test_eight_threads_call_while_another_writes(threads, writer, dtype):
    lw.set_num_threads(threads)
    lstm = random_lstm(dtype=dtype, **OPTIONS)
    weights = [random_lstm(seed=seed, dtype=dtype, **OPTIONS).state_dict() for seed in (1, 2)]
    x = normal(1, (11, 5, 9), dtype)
    d_output = normal(2, (11, 5, 66), dtype)
    answers = []
    for state in weights:
        lstm.load_state_dict(state)
        tape = lstm.record(x)
        answers.append((tape.output, dict(tape.backward(d_output).parameters)))
    stop = threading.Event()

    def write():
        place = 0
        while not stop.is_set():
            place = 1 - place
            if writer == "load_state_dict":
                lstm.load_state_dict(weights[place])
            elif writer == "edit":
                with lstm.edit() as parameters:
                    parameters.update(weights[place])
            else:
                # A step with learning rate 0 writes all parameters and changes none.
                lw.optim.SGD(lstm, lr=0.0).step(tape.backward(d_output))
                lstm.load_state_dict(weights[place])

    def one_of_two(actual, part):
        same = [
            all(same_bits(value, wanted[name]) for name, value in part(actual).items()) for wanted in map(part, answers)
        ]
        assert any(same), "a mixture of two sets of weights"

    def call(kind):
        for _ in range(25):
            if kind == 0:
                one_of_two((lstm(x)[0], None), lambda answer: {"output": answer[0]})
            elif kind == 1:
                tape = lstm.record(x)
                gradients = dict(tape.backward(d_output).parameters)
                one_of_two((tape.output, gradients), lambda answer: {"output": answer[0], **answer[1]})
            elif kind == 2:
                trace = lstm.trace(x)
                top = np.concatenate([trace["l1"].hidden, trace["l1_reverse"].hidden], axis=-1)
                one_of_two((top, None), lambda answer: {"output": answer[0]})
            else:
                state = lstm.state_dict()
                assert any(all(same_bits(state[name], one[name]) for name in one) for one in weights)

    def calls():
        try:
            run_threads([lambda kind=kind: call(kind % 4) for kind in range(8)])
        finally:
            stop.set()

    run_threads([calls, write])


def test_streams_of_one_layer_run_at_once():
    lw.set_num_threads(2)
    lstm = random_lstm(input_size=9, hidden_size=33, num_layers=2)
    xs = [normal(seed, (200, 9)) for seed in range(8)]
    expected = [lstm(x)[0] for x in xs]

    def work(place):
        stream = lstm.stream()
        assert_same_bits(np.stack([stream.step(step) for step in xs[place]]), expected[place])

    run_threads([lambda place=place: work(place) for place in range(8)])


def longest_pause(work):
    """The seconds that work took in another thread, and the longest time in which this thread did not run meanwhile."""
    thread = threading.Thread(target=work)
    longest, started = 0.0, time.perf_counter()
    thread.start()
    last = time.perf_counter()
    while thread.is_alive():
        time.sleep(0.0005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return last - started, longest


@pytest.mark.parametrize("what", ["call", "record", "backward", "step of training"])
def test_other_threads_run_meanwhile(what):
    lw.set_num_threads(1)
    lstm = random_lstm(input_size=64, hidden_size=64)
    x = normal(1, (200, 100, 64))
    tape = lstm.record(x)
    trainer = lw.Trainer(lstm, loss="squared_error", optimizer=lw.optim.SGD(lr=0.0))
    works = {
        "call": lambda: lstm(x),
        "record": lambda: lstm.record(x),
        "backward": lambda: tape.backward(x),
        "step of training": lambda: trainer.step(x, x),
    }
    # A busy machine may hold this thread up now and then; a lock that is not released does so every time.
    pauses = [longest_pause(works[what]) for _ in range(6)]
    assert any(longest < 0.5 * seconds for seconds, longest in pauses), pauses


def test_one_tape_may_be_differentiated_by_many_threads():
    lw.set_num_threads(2)
    lstm = random_lstm(**OPTIONS)
    tape = lstm.record(normal(1, (11, 40, 9)))
    d_outputs = [normal(seed, (11, 40, 66)) for seed in range(8)]
    expected = [dict(tape.backward(d_output).parameters) for d_output in d_outputs]

    def work(place):
        for _ in range(5):
            assert_same_bits(dict(tape.backward(d_outputs[place]).parameters), expected[place])

    run_threads([lambda place=place: work(place) for place in range(8)])


def test_changing_the_settings_meanwhile_changes_no_result_beyond_rounding():
    lstm = random_lstm(**OPTIONS)
    x, stop = normal(1, (11, 40, 9)), threading.Event()
    expected = {}
    for name in lw.cpu_info()["available_isas"]:
        lw.set_isa(name)
        expected[name] = lstm(x)[0]

    def change():
        count = 0
        while not stop.is_set():
            count += 1
            lw.set_num_threads(1 + count % 3)
            lw.set_isa(list(expected)[count % len(expected)])

    def work():
        for _ in range(40):
            output = lstm(x)[0]
            assert any(same_bits(output, wanted) for wanted in expected.values())

    def workers():
        try:
            run_threads([work] * 4)
        finally:
            stop.set()

    run_threads([workers, change])


def run_in_child(lstm, x, expected, queue):
    same = same_bits(lstm(x)[0], expected)
    tape = lstm.record(x)
    tape.backward(np.array(tape.output))
    queue.put(bool(same))


@forks
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_fork_after_use(threads):
    lw.set_num_threads(threads)
    lstm = random_lstm(**OPTIONS)
    x = normal(1, (11, 64, 9))
    expected, _ = lstm(x)
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        queue = context.SimpleQueue()
        child = context.Process(target=run_in_child, args=(lstm, x, expected, queue))
        child.start()
        child.join(60)
        hung = child.is_alive()
        if hung:
            child.kill()
            child.join(60)
        assert not hung, "the child hangs"
        assert child.exitcode == 0
        assert queue.get()
        assert_same_bits(lstm(x)[0], expected)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize(("input_size", "hidden_size"), [(64, 112), (64, 128), (128, 128)])
def test_a_step_that_threads_share_wakes_them(input_size, hidden_size):
    lw.set_num_threads(2)
    stream = random_lstm(input_size=input_size, hidden_size=hidden_size).stream()
    x = normal(1, (input_size,), np.float32)
    time.sleep(0.05)  # threads fall asleep after a millisecond
    deadline = time.monotonic() + 30
    others = 0.0
    while others < 0.01:
        assert time.monotonic() < deadline, "no other thread computes"
        before = time.process_time() - time.thread_time()
        for _ in range(5000):
            stream.step(x)
        others = time.process_time() - time.thread_time() - before


def test_the_number_of_threads_can_be_set():
    for count in (1, 2, 3, 7):
        lw.set_num_threads(count)
        assert lw.get_num_threads() == count
    lw.set_num_threads(np.int64(2))
    assert lw.get_num_threads() == 2


@pytest.mark.parametrize(
    ("count", "error"),
    [(0, ValueError), (-1, ValueError), (2**40, ValueError), (2**80, ValueError), (1.5, TypeError), ("2", TypeError)]
    + [(None, TypeError), (True, TypeError)],
)
def test_a_wrong_number_of_threads_changes_nothing(count, error):
    lw.set_num_threads(2)
    with pytest.raises(error, match=r"expected.*got"):
        lw.set_num_threads(count)
    assert lw.get_num_threads() == 2


def test_an_unknown_instruction_set_changes_nothing():
    before = lw.cpu_info()["isa"]
    for name in ("", "sse9", "AVX2 "):
        with pytest.raises(ValueError, match="baseline"):
            lw.set_isa(name)
    for name in (None, 2):
        with pytest.raises(TypeError):
            lw.set_isa(name)
    assert lw.cpu_info()["isa"] == before


def test_a_loop_of_changes_of_the_settings_holds_up_no_other_thread():
    # A thread that gives the GIL back for a moment, again and again, keeps others from it for seconds.
    names, stop = lw.cpu_info()["available_isas"], threading.Event()

    def change():
        while not stop.is_set():
            tuple(range(20_000))
            lw.set_num_threads(1)
            lw.get_num_threads()
            lw.set_isa(names[-1])

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    started = time.monotonic()
    others = [threading.Thread(target=lambda: [time.sleep(0) for _ in range(20)], daemon=True) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    seconds = time.monotonic() - started
    stop.set()
    changing.join(60)
    assert seconds < 10


def test_every_instruction_set_can_be_chosen():
    names = lw.cpu_info()["available_isas"]
    assert names[0] == "baseline"
    for name in names:
        lw.set_isa(name)
        assert lw.cpu_info()["isa"] == name


def in_a_fresh_process(expression, **environment):
    code = f"import latchwork as lw; print({expression})"
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)} | environment
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LATCHWORK_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "3"}, "3"),
        ({"LATCHWORK_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, "2"),
    ],
)
def test_the_environment_sets_the_number_of_threads(environment, expected):
    result = in_a_fresh_process("lw.get_num_threads()", **environment)
    assert result.stdout.strip() == expected, result.stderr


def test_a_wrong_number_of_threads_is_refused_where_a_stream_is_made():
    # Not in its first step, which must not throw.
    result = in_a_fresh_process("lw.LSTM(512, 512).stream()", LATCHWORK_NUM_THREADS="many")
    assert result.returncode == 1
    assert "ValueError: LATCHWORK_NUM_THREADS: expected an integer" in result.stderr


def container_cpus():
    """How many CPUs control groups allow, rounded up; infinite if there is no limit."""
    limit = math.inf
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in (PurePosixPath(group), *PurePosixPath(group).parents):
            directory = Path("/sys/fs/cgroup", controllers) / folder.relative_to("/")
            if (directory / "cpu.max").is_file():
                quota, period = (directory / "cpu.max").read_text().split()
            elif (directory / "cpu.cfs_quota_us").is_file():
                quota, period = ((directory / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            else:
                continue
            if quota != "max" and int(quota) > 0:
                limit = min(limit, math.ceil(int(quota) / int(period)))
    return limit


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_without_environment_threads_follow_the_affinity():
    cpus = sorted(os.sched_getaffinity(0))
    for count in {1, min(2, len(cpus)), len(cpus)}:
        expression = f"(__import__('os').sched_setaffinity(0, {cpus[:count]}), lw.get_num_threads())[1]"
        result = in_a_fresh_process(expression)
        assert result.stdout.strip() == str(min(count, container_cpus())), result.stderr


def test_the_environment_sets_the_instruction_set():
    for name in lw.cpu_info()["available_isas"]:
        result = in_a_fresh_process("lw.cpu_info()['isa']", LATCHWORK_ISA=name)
        assert result.stdout.strip() == name, result.stderr
    result = in_a_fresh_process("lw.LSTM(2, 3)([[0, 0]])", LATCHWORK_ISA="sse9")
    assert result.returncode != 0
    assert "sse9" in result.stderr
