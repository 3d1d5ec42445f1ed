"""Memory does not grow with the data: tests/benchmarks/large_data.py reads 2 GB, and 300 MB here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "large_data.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the largest resident memory is asked of Linux")


def measured(kind, megabytes, tmp_path, *options):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    file = tmp_path / "figures.json"
    arguments = ["--megabytes", str(megabytes), "--kinds", kind, "--write", str(file), *options]
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    assert document["megabytes"] == megabytes
    assert done.stdout.splitlines()[1].split()[0] == kind
    return document["results"][kind]


@pytest.mark.parametrize("kind", ["mapped", "parquet", "function", "text"])
def test_a_little_data(kind, tmp_path):
    result = measured(kind, 0.6, tmp_path)
    assert result["read"] == pytest.approx(0.6e6 / (1.13 if kind == "text" else 36), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mapped", "parquet", "function"])
def test_memory_of_one_pass(kind, tmp_path):
    result = measured(kind, 300, tmp_path)
    assert result["read"] == pytest.approx(300e6 / 36, rel=0.001)
    assert result["growth"] < 80e6


@pytest.mark.slow
def test_memory_of_a_text(tmp_path):
    """All of it is read to find its characters; then a part that the time is enough for, from all its places."""
    result = measured("text", 300, tmp_path, "--seconds", "60")
    assert result["read"] > 1e6
    assert result["growth"] < 80e6
