"""What a wheel holds for programs in C++: the shared library that the package itself uses, headers, files for CMake."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import pytest
from latchwork import _core

ROOT = Path(__file__).parents[2]
PACKAGE = Path(lw.__file__).parent


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "latchwork", *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def cmake_folder():
    done = command("--cmake-dir")
    if not (PACKAGE / "cmake").is_dir():
        assert done.returncode == 2
        assert done.stderr == (
            "latchwork: --cmake-dir: expected Latchwork as pip installs it, got one without files for CMake\n"
        )
        pytest.skip("Latchwork is not installed as a wheel")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.removesuffix("\n"))


def test_the_folder_has_what_cmake_looks_for(cmake_folder):
    assert {"latchworkConfig.cmake", "latchworkConfigVersion.cmake", "latchworkTargets.cmake"} <= {
        path.name for path in cmake_folder.iterdir()
    }
    version = (cmake_folder / "latchworkConfigVersion.cmake").read_text()
    assert re.search(rf'set\(PACKAGE_VERSION "{re.escape(lw.__version__)}"\)', version)


def test_there_is_one_library_which_the_package_uses_too(cmake_folder):
    (library,) = PACKAGE.rglob("liblatchwork*")
    assert library.parent == PACKAGE
    mapped = {
        line.split(maxsplit=5)[5].strip()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "latchwork" in line
    }
    assert str(library.resolve()) in mapped
    assert str(Path(_core.__file__).resolve()) in mapped


def test_programs_are_built_and_compute_what_python_does(cmake_folder):
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake or no C++ compiler")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "cpp" / "check_examples.py", cmake, cmake_folder],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
