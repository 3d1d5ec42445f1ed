"""``latchwork bench`` and what it is made of. No test here depends on how fast anything is."""

import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork.benchmark import cases, measuring, report, timing
from latchwork.benchmark.cases import Case
from latchwork.benchmark.peers import OTHERS, PEERS
from latchwork.benchmark.peers.peer import MissingPeerError
from latchwork.benchmark.report import Measurement, PeerResult
from latchwork.benchmark.verification import TOLERANCES, largest_difference
from latchwork.benchmark.workers import PeerError, Worker
from latchwork.cli import main

PACKAGES = {"torch": ["torch"], "onnxruntime": ["onnxruntime", "onnx"], "openvino": ["openvino"], "jax": ["jax"]}
TINY = [
    Case("tiny", 40, 3, 4, 5, 1, ("forward", "step", "training", "update")),
    Case("tiny-stack", 6, 2, 4, 5, 3, ("forward", "step", "training", "update")),
    Case("tiny-bi", 6, 2, 4, 5, 2, ("forward", "training", "update"), directions=2),
    Case("tiny-ragged", 40, 3, 4, 5, 2, ("training",), ragged=True),
    Case("tiny-bi-ragged", 40, 3, 4, 5, 2, ("training",), directions=2, ragged=True),
]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "latchwork", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def installed(peer: str) -> bool:
    return all(importlib.util.find_spec(package) for package in PACKAGES[peer])


def test_every_kind_is_measured_without_peers(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    kinds = ["forward", "step", "training", "update"]
    arguments = f"--cases step-20 --kinds {','.join(kinds)} --threads 1,2 --rounds 1 --peers= --json".split()
    done = run(*arguments, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no terminal, no progress bar
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["format_version"] == 1
    assert document["versions"].keys() == {"latchwork"}
    assert document["missing"] == {}
    assert document["isa_limit"] is None
    assert document["dtype"] == "float32"
    assert "dtype: float32" in done.stdout
    assert document["machine"]["architecture"]
    found = [(measurement["kind"], measurement["threads"]) for measurement in document["measurements"]]
    assert found == [(kind, threads) for threads in (1, 2) for kind in kinds]
    shape = {"steps": 1, "rows": 1, "input_size": 1, "hidden_size": 20, "layers": 1, "directions": 1, "ragged": False}
    for measurement in document["measurements"]:
        assert measurement["case"] == "step-20"
        assert measurement["shape"] == shape
        ours = measurement["peers"]["latchwork"]
        assert 0 < ours["fastest"] <= ours["lower_quartile"] <= ours["microseconds"] <= ours["upper_quartile"]
        assert ours["rounds"] == 1
        assert measurement["kind"] in done.stdout


def test_progress_on_a_terminal() -> None:
    terminal, child_end = pty.openpty()
    command = [sys.executable, "-m", "latchwork", "bench", "--cases", "step-20", "--threads", "1", "--peers="]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=child_end) as process:
        os.close(child_end)
        shown = b""
        try:
            while piece := os.read(terminal, 65536):
                shown += piece
        except OSError:  # Linux's way to say that the other end is closed
            pass
        os.close(terminal)
    assert process.returncode == 0
    assert re.search(rb"\[[#.]+\] +\d+%  step-20 step, 1 thread: latchwork prepares", shown)
    assert shown.endswith(b"\r\x1b[K")


def test_an_instruction_set_limits_latchwork(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    options = {"--cases": "step-20", "--threads": 1, "--rounds": 1, "--peers": "onnxruntime", "--isa": "baseline"}
    done = run(*(part for option in options.items() for part in option), "--json", file)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["isa_limit"] == document["machine"]["isa"] == "baseline"
    assert "onnxruntime: missing: it cannot be limited to baseline" in done.stdout


@pytest.mark.parametrize(("note", "status"), [("", 0), ("its results differ", 1)])
def test_a_note_of_a_peer_shows_in_the_exit_status(note: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(workers: object, planned: measuring.Planned, *arguments: object) -> Measurement:
        result = PeerResult(timing.summarise([1e-6]), note=note)
        return Measurement(planned.case, planned.kind, planned.threads, None, {"latchwork": result})

    monkeypatch.setattr("latchwork.cli.bench._measure", measure)
    command = ["bench", "--peers", "", "--cases", "step-20", "--kinds", "step", "--threads", "1", "--rounds", "1"]
    assert main(command) == status


def test_peers_without_float64_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    options = {"--cases": "step-20", "--threads": 1, "--rounds": 1, "--peers": "onnxruntime,openvino"}
    done = run(*(part for option in options.items() for part in option), "--dtype", "float64", "--json", file)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["dtype"] == "float64"
    assert document["versions"].keys() == {"latchwork"}
    reason = "it does not compute LSTMs in float64"
    assert document["missing"] == {"onnxruntime": reason, "openvino": reason}
    assert f"onnxruntime: missing: {reason}" in done.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cases", "nothing"),
        ("--kinds", "nothing"),
        ("--peers", "nothing"),
        ("--threads", "0"),
        ("--isa", "z80"),
        ("--dtype", "float16"),
    ],
)
def test_an_unknown_value_is_named(option: str, value: str) -> None:
    done = run(option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert repr(value) in done.stderr


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert main(["bench", "--cases", "h48-bi-n3", "--kinds", "step"]) == 2
    assert "nothing to measure" in capsys.readouterr().err
    assert main(["bench", "--cases", "t-h48-n17-ragged", "--kinds", "forward"]) == 2
    assert "nothing to measure" in capsys.readouterr().err


class TestCases:
    def test_groups(self) -> None:
        assert cases.GROUPS.keys() == {"inference", "training", "floor", "shapes", "between", "training-shapes"}
        assert len(cases.GROUPS["inference"]) == 17
        assert sum(map(len, cases.GROUPS.values())) == len(cases.CASES)  # every name is used once
        assert not set(cases.GROUPS) & set(cases.CASES)

    @pytest.mark.parametrize("case", cases.CASES.values(), ids=str)
    def test_sizes_make_a_network(self, case: cases.Case) -> None:
        assert min(case.steps, case.rows, case.input_size, case.hidden_size, case.layers, case.directions) >= 1

    def test_names_say_the_sizes(self) -> None:
        pattern = re.compile(r"(?:step|seq|b(?P<rows>\d+)|hydro)-(?P<hidden>\d+)(?:x(?P<layers>\d+))?")
        matches = [pattern.fullmatch(case.name) for case in cases.CASES.values()]
        assert sum(match is not None for match in matches) >= 18
        for case, match in zip(cases.CASES.values(), matches, strict=True):
            if match is None:
                continue
            assert case.hidden_size == int(match["hidden"])
            assert case.layers == int(match["layers"] or 1)
            if not case.name.startswith("hydro"):
                assert case.rows == int(match["rows"] or 1)
                assert case.input_size in (1, 16, 64, case.hidden_size)

    def test_nearest_round_cases(self) -> None:
        uneven = [case for case in cases.CASES.values() if case.nearest_round]
        assert {case.hidden_size for case in uneven} == {12, 48, 75, 200, 333}
        for case in uneven:
            nearest = cases.CASES[case.nearest_round]
            assert nearest.nearest_round is None
            assert (nearest.hidden_size % 16, nearest.rows % 4, nearest.ragged) == (0, 0, False)
            assert (nearest.layers, nearest.directions, nearest.kinds) == (case.layers, case.directions, case.kinds)
            assert 0.7 < nearest.hidden_size / case.hidden_size < 1.4

    def test_weights_fit(self) -> None:
        for case in TINY:
            bidirectional = case.directions == 2
            lstm = lw.LSTM(case.input_size, case.hidden_size, case.layers, bidirectional=bidirectional)
            lstm.load_state_dict(cases.weights(case))
            output, _ = lstm(cases.inputs(case, "forward"), lengths=cases.lengths(case))
            assert output.shape == cases.output_sized(case).shape
            per_row = sum(2 * w.size for name, w in lstm.parameters.items() if name.startswith("weight"))
            computed = np.count_nonzero(output.any(axis=-1))
            assert (computed < case.steps * case.rows) == case.ragged
            assert case.floating_point_operations("forward") == per_row * computed
            assert case.floating_point_operations("training") == 3 * case.floating_point_operations("forward")

    def test_data_have_the_dtype_of_the_case(self) -> None:
        for dtype in cases.DTYPES:
            case = replace(TINY[0], dtype=dtype)
            arrays = [*cases.weights(case).values(), cases.inputs(case, "training"), cases.output_sized(case)]
            assert {array.dtype.name for array in arrays} == {dtype}

    def test_lengths(self) -> None:
        for case in (case for case in cases.CASES.values() if case.ragged):
            lengths = cases.lengths(case)
            assert case.steps / 10 <= lengths.min() < lengths.max() == case.steps
            rows = np.arange(case.rows)
            gradient = cases.output_sized(case)
            assert gradient[lengths - 1, rows].all()
            assert not any(gradient[length:, row].any() for row, length in enumerate(lengths))

    def test_plan(self) -> None:
        planned = measuring.plan(["step-20", "h48-bi-n3"], ["forward", "step"], [1, 2], "float64")
        assert {one.case.dtype for one in planned} == {"float64"}
        found = [(one.threads, one.case.name, one.kind) for one in planned]
        of_one = [("step-20", "forward"), ("step-20", "step"), ("h48-bi-n3", "forward")]
        assert found == [(threads, *rest) for threads in (1, 2) for rest in of_one]


class TestPeers:
    @pytest.mark.parametrize("name", OTHERS)
    def test_results_agree_and_loops_run(self, name: str) -> None:
        if not installed(name):
            pytest.skip(f"{' or '.join(PACKAGES[name])} is not installed")
        with closing(Worker("latchwork", 1)) as ours, closing(Worker(name, 1)) as theirs:
            for case in (replace(case, dtype=dtype) for case in TINY for dtype in PEERS[name].dtypes):
                tolerances = TOLERANCES[case.dtype]
                for kind in set(case.kinds) & set(PEERS[name].kinds):
                    results = theirs.prepare(case, kind)
                    assert largest_difference(results, ours.prepare(case, kind)) <= tolerances[kind], (case, kind)
                    assert theirs.calibrate() >= 1
                    assert theirs.sample()[0] > 0

    def test_kinds(self) -> None:
        everything, inference = set(cases.KINDS), {"forward", "step"}
        kinds = {name: set(peer.kinds) for name, peer in PEERS.items()}
        expected = dict.fromkeys(["latchwork", "torch", "jax"], everything)
        assert kinds == expected | dict.fromkeys(["onnxruntime", "openvino"], inference)
        assert {name for name, peer in PEERS.items() if "float64" in peer.dtypes} == {"latchwork", "torch", "jax"}

    @pytest.mark.parametrize("name", OTHERS)
    def test_a_missing_library_is_named(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, PACKAGES[name][0], None)
        with pytest.raises(MissingPeerError, match=PACKAGES[name][0]):
            PEERS[name](1)

    @pytest.mark.parametrize("name", PEERS)
    @pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
    def test_limits(self, name: str, isa: str) -> None:
        if name == "onnxruntime":
            with pytest.raises(MissingPeerError, match=isa):
                PEERS[name].environment(1, isa)
        else:
            assert PEERS[name].environment(1, isa) != PEERS[name].environment(1, None)

    @pytest.mark.skipif("avx2" not in lw.cpu_info()["available_isas"], reason="this CPU has no AVX2")
    def test_a_limit_reaches_pytorch(self) -> None:
        pytest.importorskip("torch", reason="PyTorch is not installed")
        code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
        environment = {**os.environ, **PEERS["torch"].environment(1, "baseline")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "DEFAULT"

    def test_jax_has_as_many_threads_as_asked_for(self) -> None:
        pytest.importorskip("jax", reason="JAX is not installed")
        if not Path("/proc/self/task").is_dir():
            pytest.skip("threads are named in /proc, which is missing here")
        code = "import glob, jax; jax.numpy.ones(2).block_until_ready(); "
        code += "print(sum('XLAEigen' in open(name).read() for name in glob.glob('/proc/self/task/*/comm')))"
        environment = {**os.environ, **PEERS["jax"].environment(3, None)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "3"


class TestWorker:
    def test_its_environment_is_set_before_anything_is_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LATCHWORK_ISA", raising=False)
        with closing(Worker("latchwork", 1, "baseline")) as worker:
            assert worker.description["machine"]["isa"] == "baseline"
        assert "LATCHWORK_ISA" not in os.environ

    def test_a_failure_is_reported_and_survived(self) -> None:
        with closing(Worker("latchwork", 1)) as worker:
            with pytest.raises(PeerError, match="nothing is prepared"):
                worker.sample()
            with pytest.raises(PeerError, match="hidden_size"):
                worker.prepare(Case("wrong", 1, 1, 1, 0, 1, ("forward",)), "forward")
            assert worker.prepare(TINY[0], "forward") is not None
        assert not worker.alive


def test_wrong_results_are_noticed() -> None:
    reference = {"output": np.array([[1.0, -4.0]], np.float32)}
    assert largest_difference({"output": reference["output"].copy()}, reference) == 0
    assert largest_difference({"output": reference["output"] + np.float32(0.5)}, reference) == 0.125
    tolerance = max(tolerance for of_dtype in TOLERANCES.values() for tolerance in of_dtype.values())
    for wrong in (
        {"output": np.array([[1.0, np.nan]], np.float32)},
        {"output": np.array([[1.0]], np.float32)},
        {"other": reference["output"]},
        {},
    ):
        assert largest_difference(wrong, reference) > tolerance


class TestTiming:
    @pytest.mark.parametrize("tick", [1e-5, 1e-3, 4e-3, 10e-3])
    @pytest.mark.parametrize("busy", [0.0, 3e-3, 45e-3, 0.3])
    def test_threads_that_spin_are_waited_for(self, monkeypatch: pytest.MonkeyPatch, tick: float, busy: float) -> None:
        # The CPU time of a thread that runs on another CPU is known at each tick of the system's clock.
        clock = 0.0

        def sleep(seconds: float) -> None:
            nonlocal clock
            clock += seconds

        monkeypatch.setattr(time, "perf_counter", lambda: clock)
        monkeypatch.setattr(time, "process_time", lambda: min(clock // tick * tick, busy))
        monkeypatch.setattr(time, "sleep", sleep)
        assert timing.settle()
        assert busy <= clock < busy + 0.05
        clock, busy = 0.0, 10.0
        assert not timing.settle()

    def test_samples_last_long_enough_and_are_warmed_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, call = 0.0, 3e-7

        def loop(iterations: int) -> None:
            nonlocal clock
            # The first two milliseconds are slow, as if threads had to be woken.
            clock += iterations * (call if clock - started > 0.002 else 5 * call)

        monkeypatch.setattr(time, "perf_counter", lambda: clock)
        started = -1.0
        iterations = timing.iterations_for_sample(loop)
        assert timing.SHORTEST_SAMPLE <= iterations * call < 2 * timing.SHORTEST_SAMPLE
        started = clock
        assert timing.sample(loop, iterations) == pytest.approx(call)

    @pytest.mark.parametrize(("call", "calls"), [(1e-3, 3), (0.03, 2), (0.06, 1)])
    def test_long_calls_are_made_as_few_times_as_possible(self, monkeypatch, call: float, calls: int) -> None:
        clock, made = 0.0, 0

        def loop(iterations: int) -> None:
            nonlocal clock, made
            clock, made = clock + iterations * call, made + iterations

        monkeypatch.setattr(time, "perf_counter", lambda: clock)
        assert timing.sample(loop, 1) == pytest.approx(call)
        assert made == calls

    def test_every_peer_comes_first(self) -> None:
        assert [timing.rotated(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
        assert timing.rotated([], 3) == []  # as if every peer had failed
        summary = timing.summarise([1.0, 2.0, 3.0, 4.0, 100.0])
        assert (summary.lower_quartile, summary.median, summary.upper_quartile) == (2.0, 3.0, 4.0)

    def test_rounds_end_when_time_is_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: clock)

        def count(rounds: int | None, seconds: float) -> int:
            nonlocal clock
            made = 0
            for number, done in measuring._rounds(rounds):
                assert number == made
                assert 0 <= done <= 1
                made, clock = made + 1, clock + seconds
            return made

        assert count(None, 0.1) == measuring.ROUNDS
        assert count(None, measuring.SECONDS_OF_ROUNDS / 6.5) == 7
        assert count(None, 100.0) == measuring.FEWEST_ROUNDS
        assert count(5, 100.0) == 5


class TestReport:
    @pytest.fixture
    def measurements(self) -> list[Measurement]:
        def measured(name: str, kind: str, threads: int, **microseconds: float) -> Measurement:
            peers = {peer: PeerResult(timing.summarise([value * 1e-6])) for peer, value in microseconds.items()}
            return Measurement(cases.CASES[name], kind, threads, "torch", peers)

        return [
            measured("seq-20", "forward", 1, latchwork=10, torch=40, jax=20),
            measured("seq-128", "forward", 1, latchwork=10, torch=80, jax=320),
            measured("seq-20", "forward", 2, latchwork=10, torch=5),
        ]

    def test_json_has_microseconds(self, measurements: list[Measurement]) -> None:
        torch = report.as_json(measurements[0])["peers"]["torch"]
        for name in ("microseconds", "lower_quartile", "upper_quartile", "fastest"):
            assert torch[name] == pytest.approx(40, rel=1e-12)

    def test_means_and_least_ratios(self, measurements: list[Measurement]) -> None:
        means = {(mean["threads"], mean["peer"]): mean["ratio"] for mean in report.geometric_means(measurements)}
        expected = {(1, "torch"): 32**0.5, (1, "jax"): 8, (1, "best peer"): 4, (2, "torch"): 0.5, (2, "best peer"): 0.5}
        assert means == pytest.approx(expected)
        least = [(one["threads"], one["ratio"], one["case"], one["peer"]) for one in report.least_ratios(measurements)]
        assert least == [(1, pytest.approx(2), "seq-20", "jax"), (2, pytest.approx(0.5), "seq-20", "torch")]
        lines = report.summary(measurements)
        assert lines[-2:] == [
            "least ratio on 1 thread: 2.00 (seq-20 forward, jax)",
            "least ratio on 2 threads: 0.50 (seq-20 forward, torch)",
        ]

    def test_time_per_operation_beside_the_nearest_round_case(self) -> None:
        def measured(name: str, threads: int, gigaflops: float) -> Measurement:
            case = cases.CASES[name]
            seconds = case.floating_point_operations("training") / gigaflops / 1e9
            return Measurement(case, "training", threads, None, {"latchwork": PeerResult(timing.summarise([seconds]))})

        measurements = [
            measured("t-h12-n3", 1, 20),
            measured("t-h16-n4", 1, 30),
            measured("t-h48-n17-ragged", 1, 40),
            measured("t-h48-n17-ragged", 2, 25),
            measured("t-h64-n16", 2, 50),
        ]
        ratios = [list(one.values()) for one in report.round_ratios(measurements)]
        assert ratios == [
            ["t-h12-n3", "training", 1, "t-h16-n4", pytest.approx(1.5)],
            ["t-h48-n17-ragged", "training", 2, "t-h64-n16", pytest.approx(2.0)],
        ]
        assert [" ".join(line.split()) for line in report.summary(measurements)[1:]] == [
            "t-h12-n3 training 1 thread 1.50 (t-h16-n4)",
            "t-h48-n17-ragged training 2 threads 2.00 (t-h64-n16)",
        ]

    def test_a_row_says_the_times_the_speed_and_the_ratios(self, measurements: list[Measurement]) -> None:
        first, _, last = measurements
        # 1000 steps of 2 * 4 * 20 * (1 + 20) operations in 10 microseconds.
        assert first.gigaflops() == pytest.approx(336.0)
        cells = report.row(first, ["torch", "jax", "openvino"]).split()
        assert cells[7:17] == ["forward", "1", "10.00", "336.0", "40.00", "4.00", "20.00", "2.00", "-", "-"]
        assert report.row(last, ["jax"]).split()[9:13] == ["10.00", "336.0", "-", "-"]

    def test_nothing_is_summarised_without_peers(self) -> None:
        alone = Measurement(TINY[0], "forward", 1, None, {"latchwork": PeerResult(timing.summarise([1.0]))})
        assert report.summary([alone]) == []
