"""The programs in tests/benchmarks work; nothing here depends on how fast anything is."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_ensembles_factors_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "ensemble.json"
    arguments = ["--members", "3", "--steps", "4", "--rows", "2", "--rounds", "1", "--threads", "1,2", "--json"]
    done = run("ensemble.py", *arguments, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document.keys() == {"1", "2"}
    for medians in document.values():
        for kind, (each, together) in medians.items():
            assert f"| {kind} | {each * 1e3:.2f} | {together * 1e3:.2f} | {each / together:.2f} |" in done.stdout
