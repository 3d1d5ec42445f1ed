"""What `import latchwork` imports, and how long it takes."""

import importlib
import importlib.metadata
import inspect
import json
import pydoc
import re
import statistics
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest

ALLOWED = {"latchwork", "numpy", "safetensors"}


def in_a_fresh_process(code):
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120).stdout)


def test_all_names_resolve():
    assert len(set(lw.__all__)) == len(lw.__all__) > 10
    for name in lw.__all__:
        assert getattr(lw, name) is not None, name
        assert name in dir(lw)
    namespace = {}
    exec("from latchwork import *", namespace)
    assert set(lw.__all__) <= set(namespace)


def test_dir_shows_the_public_names_alone():
    importlib.import_module("latchwork.cli.train")  # which brings many modules of the package's in
    assert dir(lw) == sorted(lw.__all__)


def public_objects():
    """All that a user may ask help for: the names of the package, and what the classes among them have."""
    for name in lw.__all__:
        value = getattr(lw, name)
        if name.startswith("_"):
            continue
        yield name, value
        for member in dir(value) if isinstance(value, type) else ():
            if not member.startswith("_"):
                yield f"{name}.{member}", getattr(value, member)


@pytest.mark.parametrize("name", [name for name, _ in public_objects()])
def test_help_has_something_to_say(name):
    value = dict(public_objects())[name]
    text = pydoc.render_doc(value)
    assert len(text) > 50
    if callable(value) or isinstance(value, property):
        assert inspect.getdoc(value), name


def test_what_is_shared_and_what_is_copied_is_said_at_once():
    first_line = {name: inspect.getdoc(getattr(lw.Network, name)).splitlines()[0] for name in ("__getitem__", "member")}
    assert "shares its weights with the network" in first_line["__getitem__"]
    assert first_line["member"].startswith("Copy one member")


def test_a_stream_s_step_has_help():
    assert "Run one step and return the output" in pydoc.render_doc(lw.Stream.step)
    stream = lw.LSTM(2, 3).stream()
    assert list(inspect.signature(lw.Stream.step).parameters)[1:] == list(inspect.signature(stream.step).parameters)
    x = np.ones(2, np.float32)
    stepped = stream.step(x)
    stream.reset()
    assert (lw.Stream.step(stream, x) == stepped).all()


def test_the_designs_names_are_there():
    names = "LSTM LSTMCell Network Embedding Linear Last LSTMLanguageModel load optim set_num_threads get_num_threads"
    for name in (names + " set_isa cpu_info show_versions").split():
        assert name in lw.__all__
    for name in ("SGD", "Adam", "AdamW", "clip_grad_norm"):
        assert hasattr(lw.optim, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        lw.no_such_name  # noqa: B018
    with pytest.raises(ImportError):
        from latchwork import no_such_name  # noqa: F401


def test_version_is_the_cores():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+|\.dev\d+)?", lw.__version__)
    assert lw.__version__ == importlib.import_module("latchwork._core").build_info()["version"]


def test_version_is_the_distributions():
    try:
        installed = importlib.metadata.version("latchwork")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("latchwork is imported from a folder and not installed")
    assert lw.__version__ == installed


def test_the_package_is_typed():
    assert (Path(lw.__file__).parent / "py.typed").is_file()


def test_importing_brings_nothing_optional():
    code = """
import json, sys
import numpy as np
before = set(sys.modules)
import latchwork
first = set(sys.modules) - before
for name in latchwork.__all__:
    getattr(latchwork, name)
print(json.dumps([sorted(first), sorted(set(sys.modules) - before)]))
"""
    first, all_of_it = in_a_fresh_process(code)
    standard = set(sys.stdlib_module_names)
    for modules in (first, all_of_it):
        # NumPy's extension modules put modules of Cython's into sys.modules.
        tops = {module.partition(".")[0] for module in modules if "cython" not in module}
        assert tops - standard <= ALLOWED, tops - standard - ALLOWED
    assert len(first) < 100


def test_importing_costs_little_beyond_numpy():
    code = """
import json, time
import numpy as np
start = time.process_time()  # CPU time, because what else the machine does must not matter
import latchwork
latchwork.LSTM
print(json.dumps(time.process_time() - start))
"""
    in_a_fresh_process(code)  # the files are in the page cache afterwards
    seconds = statistics.median(in_a_fresh_process(code) for _ in range(5))
    assert seconds < 0.1, f"import latchwork took {seconds:.3f} s beyond NumPy"


def test_importing_starts_no_thread():
    code = "import json, os, numpy; n = len(os.listdir('/proc/self/task')); import latchwork as lw; lw.LSTM(2, 3); "
    code += "print(json.dumps(len(os.listdir('/proc/self/task')) - n))"
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads of a process are counted in /proc, which is missing here")
    assert in_a_fresh_process(code) == 0
