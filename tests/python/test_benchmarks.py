"""The benchmark programs work; nothing here depends on how fast anything is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(*arguments: str, program: str = "speed.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_every_kind_is_measured_without_peers(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    kinds = ["forward", "step", "training", "update"]
    arguments = f"--cases step-20 --kinds {','.join(kinds)} --threads 1,2 --rounds 1 --peers= --json".split()
    done = run(*arguments, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["format_version"] == 1
    assert document["versions"].keys() == {"latchwork"}
    assert document["missing"] == {}
    assert document["machine"]["architecture"]
    found = [(measurement["kind"], measurement["threads"]) for measurement in document["measurements"]]
    assert found == [(kind, threads) for threads in (1, 2) for kind in kinds]
    for measurement in document["measurements"]:
        assert measurement["case"] == "step-20"
        assert measurement["shape"] == {"steps": 1, "rows": 1, "input_size": 1, "hidden_size": 20, "layers": 1}
        ours = measurement["peers"]["latchwork"]
        assert 0 < ours["fastest"] <= ours["lower_quartile"] <= ours["microseconds"] <= ours["upper_quartile"]
        assert ours["rounds"] == 1
        assert measurement["kind"] in done.stdout


def test_an_ensembles_factors_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "ensemble.json"
    arguments = ["--members", "3", "--steps", "4", "--rows", "2", "--rounds", "1", "--threads", "1,2", "--json"]
    done = run(*arguments, str(file), program="ensemble.py")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document.keys() == {"1", "2"}
    for medians in document.values():
        for kind, (each, together) in medians.items():
            assert f"| {kind} | {each * 1e3:.2f} | {together * 1e3:.2f} | {each / together:.2f} |" in done.stdout


@pytest.mark.parametrize(
    ("option", "value"), [("--cases", "nothing"), ("--kinds", "nothing"), ("--peers", "nothing"), ("--threads", "0")]
)
def test_an_unknown_value_is_named(option: str, value: str) -> None:
    done = run(option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert repr(value) in done.stderr


def test_wrong_results_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from verification import TOLERANCES, largest_difference

    reference = {"output": np.array([[1.0, -4.0]], np.float32)}
    assert largest_difference({"output": reference["output"].copy()}, reference) == 0
    assert largest_difference({"output": reference["output"] + np.float32(0.5)}, reference) == 0.125
    tolerance = max(TOLERANCES.values())
    for wrong in (
        {"output": np.array([[1.0, np.nan]], np.float32)},
        {"output": np.array([[1.0]], np.float32)},
        {"other": reference["output"]},
        {},
    ):
        assert largest_difference(wrong, reference) > tolerance


def test_samples_last_long_enough_and_every_peer_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import timing

    clock = 0.0

    def loop(iterations: int) -> None:
        nonlocal clock
        clock += iterations * 3e-7

    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    iterations = timing.iterations_for_sample(loop)
    assert timing.SHORTEST_SAMPLE <= iterations * 3e-7 < 2 * timing.SHORTEST_SAMPLE
    assert timing.sample(loop, iterations) == pytest.approx(3e-7)
    assert [timing.rotated(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    summary = timing.summarise([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (summary.lower_quartile, summary.median, summary.upper_quartile) == (2.0, 3.0, 4.0)
