"""Fixtures that several test files share."""

import os
import signal
import warnings
from pathlib import Path

import hypothesis
import latchwork as lw
import pytest
from explorer_pages import messages, open_browser, prefer, resize
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parent / "golden"

# No deadlines, because a busy machine is no failure. In CI the examples are always the same; elsewhere they are new
# each time, and those that failed before come again.
hypothesis.settings.register_profile(
    "anywhere",
    deadline=None,
    max_examples=250,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "repeatable", hypothesis.settings.get_profile("anywhere"), derandomize=True, database=None
)
# For tests/mutation, which asks only whether a test fails and needs no smallest example.
hypothesis.settings.register_profile(
    "unshrunk", hypothesis.settings.get_profile("repeatable"), phases=[hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("repeatable" if os.environ.get("CI") else "anywhere")


@pytest.fixture(scope="session")
def golden():
    """The stored answers of PyTorch in one golden file, by name."""
    return lambda name: load_file(GOLDEN / f"{name}.safetensors")


@pytest.fixture(scope="session")
def torch_peer():
    """PyTorch's live answers; the test is skipped if PyTorch is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch", reason="PyTorch is not installed; its golden answers are compared all the same")
        import torch_peer
    return torch_peer


@pytest.fixture(scope="session")
def torch_variants(torch_peer):
    """PyTorch's answers for every variant of the cell, written out."""
    import torch_variants

    return torch_variants


@pytest.fixture(scope="session", autouse=True)
def hear_ctrl_c():
    """If a shell runs the tests in its background (``&``), they and what they start ignore SIGINT: undo that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def restore_machine_settings():
    """The number of threads and the instruction set are the process's: put them back after every test."""
    threads, isa = lw.get_num_threads(), lw.cpu_info()["isa"]
    yield
    lw.set_num_threads(threads)
    lw.set_isa(isa)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=lw.cpu_info()["available_isas"])
def isa(request):
    """Each instruction set that runs here, chosen."""
    lw.set_isa(request.param)
    return request.param


@pytest.fixture(scope="session")
def chromium():
    browser = open_browser()
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium):
    """The browser, whose console must be empty at the end."""
    resize(chromium, 1280, 800)
    prefer(chromium, "light")
    yield chromium
    assert messages(chromium) == []
