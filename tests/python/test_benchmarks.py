"""The programs in tests/benchmarks work. No test here depends on how fast anything is."""

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean, median
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import latchwork as lw
import numpy as np
import pytest
from latchwork.benchmark import cases
from latchwork.estimators.language_model import LSTMLanguageModel

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def load(program: str) -> ModuleType:
    """Give a program as a module of its own."""
    specification = importlib.util.spec_from_file_location(program, BENCHMARKS / f"{program}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_factors_of_members_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "members.json"
    arguments = ["--members", "3", "--steps", "4", "--rows", "2", "--rounds", "1", "--threads", "1,2", "--json"]
    done = run("members.py", *arguments, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document.keys() == {"1", "2"}
    for medians in document.values():
        for kind, (each, together) in medians.items():
            assert f"| {kind} | {each * 1e3:.2f} | {together * 1e3:.2f} | {each / together:.2f} |" in done.stdout


# What the programs on recurrent reinforcement learning compare, by the package it needs.
LIBRARIES = ("sb3_contrib", "torchrl")


def test_the_drop_in_is_timed(
    torch_peer: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = load("torch_drop_in")
    case = dataclasses.replace(next(iter(program.training_cases())), steps=3, rows=2, input_size=3, hidden_size=5)
    monkeypatch.setattr(program, "training_cases", lambda: [case])
    small = {"RAGGED": ((3, 5),), "SMALL_STEPS": (1,), "CELL_SIZES": ((3, 5),), "CELL_ROWS": (2,)}
    for name, value in small.items():
        monkeypatch.setattr(program, name, value)
    torch = program.torch
    threads = lw.get_num_threads(), torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["torch_drop_in.py", "--threads", "1", "--rounds", "1"])
    try:
        program.main()
    finally:
        lw.set_num_threads(threads[0])
        torch.set_num_threads(threads[1])
    printed = capsys.readouterr().out
    assert re.search(rf"^{case.name}: -?\d+\.\d%$", printed, re.MULTILINE)
    assert re.search(rf"^\| training step, {case.name} \| \d+\.\d\d \| \d+\.\d\d \| ", printed, re.MULTILINE)
    rest = re.findall(r"^\| ((?:packed|LSTM|LSTMCell)\b.*?) \| \d+\.\d\d \|", printed, re.MULTILINE)
    assert rest == [
        "packed, N = 3, H = 5",
        "LSTM(8, 32), T = 1, forward",
        "LSTMCell(3, 5), N = 2, 10 steps, forward",
        "LSTM(8, 32), T = 1, forward and backward",
        "LSTMCell(3, 5), N = 2, 10 steps, forward and backward",
    ]


def test_updates_of_recurrent_ppo_are_timed(torch_peer: object) -> None:
    sizes = ["--steps", "9", "--rows", "4", "--environments", "2", "--hidden-size", "5", "--share", "0.2"]
    done = run("recurrent_ppo.py", *sizes, "--rounds", "1", "--threads", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    tables = re.findall(r"^\| (.+) \| ms \|", done.stdout, flags=re.MULTILINE)
    missing = re.findall(r"^(\w+) is not installed$", done.stdout, flags=re.MULTILINE)
    assert missing == [library for library in LIBRARIES if importlib.util.find_spec(library) is None]
    expected = {"sb3_contrib": ["`RecurrentPPO.train()`", "`RecurrentPPO.learn()` of one rollout"]}
    expected["torchrl"] = ["recurrent mode, forward and backward"]
    expected = [table for library in LIBRARIES if library not in missing for table in expected[library]]
    assert tables == ["PPO update", *expected]
    assert len(re.findall(r"\| \d+\.\d \| 1\.00 \|$", done.stdout, flags=re.MULTILINE)) >= len(tables)


def test_updates_that_differ_are_not_timed(torch_peer: object) -> None:
    recurrent_ppo = load("recurrent_ppo")
    ways = recurrent_ppo.WITH_RESETS
    recurrent_ppo.WITH_RESETS = {**ways, "wrong": (recurrent_ppo.nn.LSTM, recurrent_ppo.at_once)}
    with pytest.raises(SystemExit, match="wrong: the gradients differ by"):
        recurrent_ppo.policies(9, 4, 5, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_returns_are_compared(library: str, torch_peer: object) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    done = run("recurrent_returns.py", "--libraries", library, "--frames", "1000", "--seeds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.findall(rf"^\| {name} \| (.+) \|$", done.stdout, re.MULTILINE) for name in ("with Latchwork", "without")]
    assert [len(row[0].split(" | ")) for row in rows] == [4, 4]


def test_the_decomposition_is_timed() -> None:
    done = run("decomposition.py", "--steps", "40", "--units", "5", "--dtype", "float64")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^  (\w+) +\d\.\d{3} s, at most", done.stdout, flags=re.MULTILINE) == [
        "memory", "written_by", "erased_by"
    ] * 2  # fmt: skip


# A sitecustomize.py, which Python imports when it starts: it makes each training step ten times.
SLOW_TRAINER = """
import latchwork as lw

def ten_steps(self, *arguments, step=lw.Trainer.step):
    return [step(self, *arguments) for _ in range(10)][-1]

lw.Trainer.step = ten_steps
"""


def test_builds_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old, file = tmp_path / "new", tmp_path / "old-python", tmp_path / "builds.json"
    new.mkdir()
    package = Path(lw.__file__).parent
    (new / "latchwork").symlink_to(package)
    (new / "sitecustomize.py").write_text(SLOW_TRAINER, encoding="utf-8")
    path = f"${{PYTHONPATH:+$PYTHONPATH:}}{package.parent}"
    old.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} "$@"\n', encoding="utf-8")
    old.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(new))  # this must not reach the old build
    arguments = ["--cases", "small-step-20-8-4-12,step-20", "--rounds", "2", "--threads", "1,2", "--output", str(file)]
    done = run("compare_builds.py", str(old), str(new), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert [Path(document["builds"][label]["folder"]) for label in ("old", "new")] == [package, new / "latchwork"]
    results = {(each["case"], each["kind"], each["threads"]): each for each in document["measurements"]}
    slow, step = ("small-step-20-8-4-12", "update"), ("step-20", "step")
    assert list(results) == [(*slow, 1), (*step, 1), (*slow, 2), (*step, 2)]
    for (case, kind, threads), result in results.items():
        rounds = {label: [min(samples) for samples in result["samples"][label]] for label in ("old", "new")}
        assert [len(values) for values in rounds.values()] == [2, 2]
        medians = {label: median(values) for label, values in rounds.items()}
        ratio = medians["old"] / medians["new"]
        least = [min(values) for values in rounds.values()]
        cells = [*(f"{1e6 * value:,.2f}" for value in medians.values()), f"{ratio:.3f}", f"{least[0] / least[1]:.3f}"]
        assert f"| {case} | {kind} | {threads} | 2 | {' | '.join(cells)} |" in done.stdout
        below = f"  {case} {kind}, {threads} thread{'s' * (threads > 1)}: {ratio:.3f}, by minima" in done.stdout
        assert below == (ratio < 0.97)
        if (case, kind) == slow:
            assert below
    ratios = [result["ratio"] for result in results.values()]
    assert f"geometric mean of 4: {geometric_mean(ratios):.3f} by medians" in done.stdout
    assert re.search(rf"^worst: .*: {min(ratios):.3f}, by minima", done.stdout, re.MULTILINE)
    assert f"below 0.97: {sum(ratio < 0.97 for ratio in ratios)}\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "."], "missing: expected a Python interpreter or a folder"),
        ([sys.executable, str(Path(lw.__file__).parents[1]), "--rounds", "0"], "--rounds"),
        ([str(Path(lw.__file__).parents[1])] * 2 + ["--cases", "small,none"], "expected groups (inference, "),
        ([str(Path(lw.__file__).parents[1])] * 2 + ["--kinds", "walk"], "leave nothing to measure"),
        ([str(BENCHMARKS)] * 2, "expected a folder that holds the package latchwork"),
        ([shutil.which("false")] * 2, "the old build's process ended with status 1"),
    ],
)
def test_builds_that_cannot_be_compared_are_refused(arguments: list[str], message: str) -> None:
    done = run("compare_builds.py", *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "|" not in done.stdout


def test_a_training_steps_memory_is_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    kinds = "training,varied"
    done = run("training_memory.py", "--cases", "rl", "--kinds", kinds, "--threads", "1", "--json", str(file))
    if done.returncode == 2:
        assert "needs Linux" in done.stderr
        pytest.skip("there is no /proc/self/clear_refs or no malloc_trim here")
    assert done.returncode == 0, done.stdout + done.stderr
    measurement, varied = json.loads(file.read_text(encoding="utf-8"))
    case = cases.CASES["rl"]
    # What must be in memory: the output; the recording's gates, cells, h and x; the weights packed twice; their
    # gradients in the four blocks of rows in which they are summed, and once more as they are returned.
    numbers = case.steps * case.rows * (7 * case.hidden_size + case.input_size)
    numbers += 7 * sum(value.size for value in cases.weights(case).values())
    ours = measurement["peers"]["latchwork"]
    # A chunk's gradients of the gates come on top. The weights, x and d_output would be 2 MB more and are not counted.
    for peak in (ours["first"], ours["further"], varied["peers"]["latchwork"]["first"]):
        assert 4 * numbers < peak < 4 * numbers + 2e6
    assert 0 < ours["kept"] <= ours["further"]
    assert "jax" not in varied["peers"]
    for name, figures in measurement["peers"].items():
        assert figures["whole"] > figures["data"] + max(figures["first"], figures["further"])
        cells = [f"{figures[key] / 1e6:.1f}" for key in ("first", "further", "kept", "whole")]
        if name != "latchwork":
            cells += [f"{ours[step] / figures[step]:.2f}" for step in ("first", "further")]
        assert f"| rl | training | 1 | {name} {figures['version']} | {' | '.join(cells)} |" in done.stdout


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """The file of a run that timed two cases, the second on one thread alone."""

    def measurement(case: str, threads: int, **microseconds: float) -> dict[str, object]:
        ours = microseconds["latchwork"]
        peers = {name: {"microseconds": time, "ratio": time / ours} for name, time in microseconds.items()}
        shape = {
            "steps": 100,
            "rows": 3,
            "input_size": 16,
            "hidden_size": 48,
            "layers": 1,
            "directions": 2,
            "ragged": case == "second",
        }
        best = min(peers.keys() - {"latchwork"}, key=microseconds.__getitem__)
        return {"case": case, "shape": shape, "kind": "forward", "threads": threads, "best_peer": best, "peers": peers}

    caches = {"l1d": (48 << 10, 1), "l2": (1280 << 10, 2), "l3": (32 << 20, 16)}
    document = {
        "machine": {
            "cpu": "Some CPU",
            "maker": "GenuineIntel",
            "family": 6,
            "model": 143,
            "hypervisor": "KVMKVMKVM",
            "caches": {level: {"bytes": size, "shared_by": cpus} for level, (size, cpus) in caches.items()},
            "usable_cpus": 2,
            "isa": "avx512",
        },
        "isa_limit": None,
        "versions": {"latchwork": "0.1.0", "torch": "2.13.0+cpu", "jax": "0.10.2"},
        "measurements": [
            measurement("first", 1, latchwork=10, torch=30, jax=40),
            measurement("second", 1, latchwork=1000, torch=2500),
            measurement("first", 2, latchwork=8, torch=40, jax=4),
        ],
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


MACHINE = (
    "Some CPU (GenuineIntel family 6 model 143), 2 CPUs, avx512, L1D 48 KB, "
    "L2 1.25 MB shared by 2 CPUs, L3 32 MB shared by 16 CPUs, under KVMKVMKVM"
)


# The root of 3.0 times 2.5.
MEANS = [
    "1 thread: geometric mean 2.74, least 2.50 (second forward)",
    "2 threads: geometric mean 0.50, least 0.50 (first forward)",
]


def test_table(result: Path) -> None:
    done = run("table.py", str(result))
    assert done.stdout.splitlines() == [
        MACHINE,
        "",
        "| case | T x N: in, H, layers | kind | threads | latchwork 0.1.0, us | torch 2.13.0+cpu, us | jax 0.10.2, us "
        "| best ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| first | 100 x 3: 16, 48, 1 bi | forward | 1 | 10 | 30 | 40 | 3.00 (torch) |",
        "| second | 100 x 3: 16, 48, 1 bi ragged | forward | 1 | 1,000 | 2,500 |  | 2.50 (torch) |",
        "| first | 100 x 3: 16, 48, 1 bi | forward | 2 | 8 | 40 | 4 | 0.50 (jax) |",
        "",
        *MEANS,
    ]


def test_tables_of_a_folder_of_machines(result: Path, tmp_path: Path) -> None:
    folder = tmp_path / "machines"
    for name in ("second/training.json", "first/inference.json"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(result, folder / name)
    done = run("table.py", str(folder))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("|") and line] == [
        f"first/inference.json: {MACHINE}",
        *MEANS,
        f"second/training.json: {MACHINE}",
        *MEANS,
    ]
    assert lines.count("| first | 100 x 3: 16, 48, 1 bi | forward | 1 | 10 | 30 | 40 | 3.00 (torch) |") == 2


def test_pictures_of_a_folder_of_machines(result: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder, pictures = tmp_path / "machines", tmp_path / "pictures"
    for name in ("one/inference.json", "one/training.json", "two/inference.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(result, folder / name)
    done = run("picture.py", str(folder), str(pictures))
    assert done.returncode == 0, done.stderr
    names = {"one-inference.svg", "one-training.svg", "two-inference.svg"}
    assert {picture.name for picture in pictures.iterdir()} == names


def test_picture(result: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        done = run("picture.py", str(result), str(tmp_path / "picture.svg"))
        assert done.returncode == 2
        assert "needs matplotlib" in done.stderr
        pytest.skip("matplotlib is not installed")
    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for picture in pictures:
        done = run("picture.py", str(result), str(picture))
        assert done.returncode == 0, done.stderr
    content = pictures[0].read_bytes()
    assert content == pictures[1].read_bytes()
    texts = [element.text for element in ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}text")]
    for expected in ("first  forward", "torch 3.00 / jax 0.50", "torch 2.50", "1 thread", "2 threads"):
        assert expected in texts


class TestTrainMinute:
    TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 120
    SMALL = {
        "hidden_size": 24, "embedding_size": 8, "batch_size": 4, "window": 40, "clip_norm": 0.2, "random_state": 0,
        "forget_gate": True,
    }  # fmt: skip

    @pytest.fixture
    def train_minute(self):
        return load("train_minute")

    def test_both_sides_do_the_same(self, train_minute, torch_peer):
        model = LSTMLanguageModel(**self.SMALL)
        losses = {side: train_minute.first_losses(side, model, self.TEXT) for side in train_minute.SIDES}
        assert len(losses["Latchwork"]) == train_minute.COMPARED_STEPS == 50
        assert losses["Latchwork"][-1] < 0.8 * losses["Latchwork"][0]
        assert train_minute.largest_difference(losses) <= 1e-4

    def test_latchworks_side_is_fit(self, train_minute):
        model = LSTMLanguageModel(**self.SMALL, max_epochs=3)
        run = train_minute.new_run("Latchwork", model, self.TEXT)
        train_minute.Watch(run, marks=())
        run.loop.run()
        model.fit(self.TEXT)
        for name, value in run.network.parameters.items():
            np.testing.assert_array_equal(value, model.network_.parameters[name])

    @pytest.mark.parametrize("side", ["Latchwork", "PyTorch"])
    def test_what_was_learned_when_the_epochs_are_over_stays(self, train_minute, side, request):
        if side == "PyTorch":
            request.getfixturevalue("torch_peer")
        text, held_out = self.TEXT, self.TEXT[:500]
        fitted = LSTMLanguageModel(**self.SMALL, max_epochs=2).fit(text)
        model = LSTMLanguageModel(**self.SMALL, max_epochs=2, max_seconds=1e9)
        marks = train_minute.measure(side, model, text, held_out)
        assert len(marks) == 12
        assert marks == marks[:1] * 12
        assert marks[0]["characters"] == fitted.history_[-1]["characters"]
        assert marks[0]["bits_per_character"] == pytest.approx(fitted.bits_per_character(held_out), rel=1e-3)

    def test_weights_are_kept_at_the_marks_and_the_clock_stands_meanwhile(self, train_minute, monkeypatch):
        now = 0.0

        def step(inputs, *others):
            nonlocal now
            now += inputs.size / 10
            return 1.0, None

        def weights():
            nonlocal now
            now += 1000.0  # while the clock stands
            return {"characters": sum(read)}

        monkeypatch.setattr(train_minute.time, "perf_counter", lambda: now)
        trainer = SimpleNamespace(step=step)
        loop = SimpleNamespace(trainer=trainer, _started=0.0)
        watch = train_minute.Watch(SimpleNamespace(loop=loop, weights=weights), [5, 10, 15])
        read = []
        for size in (49, 2, 9, 92, 1, 37):
            read.append(size)
            started = loop._started
            assert trainer.step(np.zeros(size), None) == (1.0, None)
            assert (loop._started > started) == (sum(read) in (51, 152))
        assert [moment.characters for moment in watch.moments] == [51, 152, 152]
        assert [moment.seconds for moment in watch.moments] == pytest.approx([5.1, 15.2, 15.2])
        assert [moment.weights["characters"] for moment in watch.moments] == [51, 152, 152]

    @pytest.mark.slow
    def test_program(self, torch_peer, tmp_path):
        file = tmp_path / "minute.json"
        done = run("train_minute.py", "--seconds", "1", "--threads", "1", "--json", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads(file.read_text(encoding="utf-8"))
        assert document["largest_difference"] <= 1e-4
        ours, theirs = (document["marks"][side][-1] for side in ("Latchwork", "PyTorch"))
        bits = f"{ours['bits_per_character']:.4f} | {theirs['bits_per_character']:.4f}"
        assert f"| 1 | {bits} | {ours['characters']:,} | {theirs['characters']:,} |" in done.stdout
        for side, last in (("Latchwork", ours), ("PyTorch", theirs)):
            rate = last["characters"] / last["seconds"]
            assert f"{side:<9} {last['characters']:,} characters" in done.stdout
            assert f": {rate:,.0f} a second" in done.stdout
