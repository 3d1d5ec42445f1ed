"""Puts random faults into a copy of the code, one at a time, and says which of them the tests did not notice.

Python's faults come from Cosmic Ray's operators, those of C++ from universalmutator with the rules in cpp.rules. Every
place in the code is equally likely; the seed decides which. What cannot change what the code does (types, docstrings,
comments) is left out, and so is what does not compile.
"""

import argparse
import ast
import contextlib
import difflib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutation"
TREE, BUILD = WORK / "tree", WORK / "build"
RULES = Path(__file__).parent / "cpp.rules"
CPP_FOLDERS = ("cpp/src/layer", "cpp/src/network", "cpp/src/training")
# strategy.hpp chooses between ways to the same bits, so that no test of results can notice; the peers of the benchmarks
# are tested only if they are installed; cases.py lists the shapes that are timed, of which none is right or wrong.
LEFT_OUT = re.compile(
    r"cpp/src/layer/strategy\.hpp|benchmark/peers/(jax|onnxruntime|openvino|pytorch)\.py|benchmark/cases\.py"
)
JOBS = 2
MEMORY = 16 << 30


@dataclass(frozen=True)
class Mutant:
    """A file of the tree with another text."""

    path: str
    text: str

    def diff(self) -> str:
        before = (ROOT / self.path).read_text(encoding="utf-8")
        lines = difflib.unified_diff(before.splitlines(), self.text.splitlines(), self.path, "mutant", lineterm="")
        return "\n".join(lines)


class NotBuiltError(Exception):
    """A mutant does not compile."""


def run(command: list[str], timeout: float | None = None, **environment: str) -> tuple[int, str]:
    """Run a command in the tree. Return its exit status, or -1 if it took too long, and what it printed."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    process = subprocess.Popen(
        command, cwd=TREE, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True, preexec_fn=limit,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:  # Ctrl-C too must leave nothing running
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return -1, "too slow"
    return process.returncode, output


def checked(command: list[str]) -> str:
    status, output = run(command)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{output}")
    return output


def copy_tree() -> None:
    """Make the copy what git would commit. Files that did not change keep their time, so little is compiled again."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    wanted = {name for name in listed.splitlines() if (ROOT / name).is_file()}
    for name in wanted:
        source, copy = ROOT / name, TREE / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    for copy in [path for path in TREE.rglob("*") if path.is_file() and path.suffix not in (".so", ".pyc")]:
        if str(copy.relative_to(TREE)) not in wanted:
            copy.unlink()


def configure(*options: str) -> None:
    import pybind11

    checked(["cmake", "-S", str(TREE), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
             "-DLATCHWORK_BUILD_TESTS=ON", "-DLATCHWORK_BUILD_PYTHON=ON",
             f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}",
             *options])  # fmt: skip


def mentions(path: str, test: Path) -> int:
    """How often a test's text names the file, or what is in a file of that name."""
    stem = Path(path).stem.strip("_").replace("_", "")
    return test.read_text(encoding="utf-8").lower().replace("_", "").count(stem)


class PythonCode:
    """Faults in the package, noticed by pytest."""

    def __init__(self) -> None:
        configure()
        checked(["ninja", "-C", str(BUILD), "_core"])
        for built in (BUILD / "cpp").glob("_core*.so"):
            shutil.copy(built, TREE / "python" / "latchwork" / built.name)
        self._tests = sorted((TREE / "tests" / "python").glob("test_*.py"))

    def places(self, name: str) -> list[tuple[object, list[tuple[object, int]]]]:
        """For each place in a file, the faults that can be put there: operators and their occurrence."""
        from cosmic_ray.ast import ast_nodes, get_ast
        from cosmic_ray.plugins import get_operator, operator_names

        tree = get_ast((ROOT / name).read_text(encoding="utf-8"))
        found: dict[object, list[tuple[object, int]]] = {}
        for operator_name in operator_names():
            operator_class = get_operator(operator_name)
            if operator_class.arguments():
                continue
            operator = operator_class()
            positions = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
            for occurrence, place in enumerate(positions):
                found.setdefault(place, []).append((operator, occurrence))
        return sorted(found.items())

    def mutants(self, names: list[str], generator: random.Random) -> Iterator[Mutant]:
        from cosmic_ray.mutating import mutate_code

        everywhere = [(name, faults) for name in names for _, faults in self.places(name)]
        for name, faults in generator.sample(everywhere, len(everywhere)):
            source = (ROOT / name).read_text(encoding="utf-8")
            text = mutate_code(source, *generator.choice(faults))
            if text is not None and changes_behaviour(source, text):
                yield Mutant(name, text)

    def test(self, mutant: Mutant | None, timeout: float | None) -> bool:
        """Whether all tests pass, those first that speak most of the changed file."""
        if mutant is None:
            return self._pass(self._tests, timeout)
        tests = sorted(self._tests, key=lambda test: -mentions(mutant.path, test))
        # A few files are collected much sooner than all.
        return self._pass(tests[:5], timeout) and self._pass(tests[5:], timeout)

    def _pass(self, tests: list[Path], timeout: float | None) -> bool:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-n", str(JOBS), "--dist", "load"]
        command += ["--hypothesis-profile=unshrunk", "-p", "no:cacheprovider", *map(str, tests)]
        environment = {"PYTHONPATH": str(TREE / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
        status, output = run(command, timeout, **environment)
        if timeout is None and status != 0:
            print(output)
        return status == 0


def changes_behaviour(before: str, after: str) -> bool:
    """Whether two sources differ in more than types and docstrings, and the second is one."""
    try:
        return without_types(before) != without_types(after)
    except SyntaxError:
        return False


def without_types(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("type")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.test, node.body = ast.Name("TYPE_CHECKING"), [ast.Pass()]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


class CppCode:
    """Faults in the core, noticed by the C++ tests."""

    def __init__(self) -> None:
        configure()
        self._build()
        listed = json.loads(checked(["ctest", "--test-dir", str(BUILD), "-LE", "slow", "--show-only=json-v1"]))
        # What looks at sources and object files is no test of behaviour.
        self._commands = {test["name"]: test["command"] for test in listed["tests"] if test["name"].endswith("_test")}
        self._seconds = dict.fromkeys(self._commands, 0.0)

    def _build(self) -> None:
        status, output = run(["ninja", "-C", str(BUILD), "latchwork_tests"], 1200)
        if status != 0:
            raise NotBuiltError(output)

    def mutants(self, names: list[str], generator: random.Random) -> Iterator[Mutant]:
        from universalmutator.mutator import mutants_regexp

        everywhere: dict[tuple[str, int], list[str]] = {}
        for name in names:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines(keepends=True)
            with contextlib.redirect_stdout(io.StringIO()):
                found = mutants_regexp(lines, [str(RULES)], ignorePatterns=[], ignoreStringOnly=True)
            for number, line, *_ in found:
                text = "".join(lines[: number - 1] + [line] + lines[number:])
                everywhere.setdefault((name, number), []).append(text)
        for name, number in generator.sample(sorted(everywhere), len(everywhere)):
            yield Mutant(name, generator.choice(everywhere[name, number]))

    def test(self, mutant: Mutant | None, timeout: float | None) -> bool:
        """Whether all tests pass, the shortest first."""
        if mutant is not None:
            self._build()
        waiting = sorted(self._commands, key=self._seconds.__getitem__)
        failed: list[str] = []

        def work() -> None:
            while waiting and not failed:
                name = waiting.pop(0)
                started = time.perf_counter()
                allowed = None if timeout is None else 5 * self._seconds[name] + 20
                status, output = run([*self._commands[name], "--abort-after=1"], allowed)
                if mutant is None:
                    self._seconds[name] = time.perf_counter() - started
                if status != 0 or re.search(r"test cases: +0 ", output):
                    failed.append(name)
                    if mutant is None:
                        print(output)

        with ThreadPoolExecutor(JOBS) as pool:
            for done in [pool.submit(work) for _ in range(JOBS)]:
                done.result()
        return not failed


def files(language: str, pattern: str) -> list[str]:
    """The files that faults are put into."""
    if language == "python":
        found = [str(path.relative_to(ROOT)) for path in (ROOT / "python" / "latchwork").rglob("*.py")]
    else:
        found = [str(path.relative_to(ROOT)) for folder in CPP_FOLDERS for path in (ROOT / folder).glob("*.[ch]pp")]
    return sorted(name for name in found if re.search(pattern, name) and not LEFT_OUT.search(name))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mutation/run", description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=["python", "cpp"])
    parser.add_argument("--count", type=int, default=20, help="how many faults to try")
    parser.add_argument("--seed", type=int, default=1, help="which faults")
    parser.add_argument("--files", default="", metavar="PATTERN", help="a regular expression that file names hold")
    arguments = parser.parse_args()

    copy_tree()
    code = PythonCode() if arguments.language == "python" else CppCode()
    started = time.perf_counter()
    if not code.test(None, None):
        raise SystemExit("the tests fail without any fault")
    timeout = 3 * (time.perf_counter() - started) + 30
    print(f"without a fault the tests take {time.perf_counter() - started:.0f} s", flush=True)

    noticed, survivors = 0, []
    for mutant in code.mutants(files(arguments.language, arguments.files), random.Random(arguments.seed)):
        if noticed + len(survivors) == arguments.count:
            break
        place, started = TREE / mutant.path, time.perf_counter()
        before = place.read_text(encoding="utf-8")
        try:
            place.write_text(mutant.text, encoding="utf-8")
            survived = code.test(mutant, timeout)
        except NotBuiltError:
            continue
        finally:
            place.write_text(before, encoding="utf-8")
        number, seconds = noticed + len(survivors) + 1, time.perf_counter() - started
        print(f"{number:>4} {'SURVIVED' if survived else 'noticed '} {seconds:4.0f} s  {mutant.path}", flush=True)
        if survived:
            survivors.append(mutant)
            print(mutant.diff(), flush=True)
        else:
            noticed += 1
    tried = noticed + len(survivors)
    print(
        f"\n{noticed} of {tried} faults were noticed, {noticed / max(tried, 1):.0%}. Judge the others by their diffs."
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
