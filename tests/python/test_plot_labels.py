"""What stands along the axis of steps in pictures; and that pictures say what they need."""

import datetime
import subprocess
import sys

import numpy as np
import pytest
from latchwork.plot.step_labels import step_labels, visible
from tensors import Tensor


def test_without_labels_steps_have_numbers():
    labels = step_labels(None, 5, 3)
    assert labels == (None, "step", False)
    assert labels.of(2) == "step 2"


def test_texts_tokens_and_numbers():
    assert step_labels("to be", 5, 5).texts == ("t", "o", "\u2423", "b", "e")
    labels = step_labels(["a", 7, 0.25, np.float32(0.5), b"x", None], 6, 6)
    assert labels.texts == ("a", "7", "0.25", "0.5", "b'x'", "None")
    assert (labels.name, labels.rotates) == ("token", True)
    assert labels.of(1) == "7 (step 1)"
    assert step_labels(np.array([3, 4]), 2, 2).texts == ("3", "4")
    assert step_labels(np.array(["a", "b"]), 2, 2).texts == ("a", "b")
    assert step_labels(iter("ab"), 2, 2).texts == ("a", "b")


def test_padding_may_or_may_not_be_labelled():
    assert step_labels("abcde", 5, 3).texts == ("a", "b", "c")
    assert step_labels("abc", 5, 3).texts == ("a", "b", "c")
    with pytest.raises(ValueError, match="one for each of the 5 steps or of the 3 valid ones, got 4"):
        step_labels("abcd", 5, 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" ", "\u2423"),
        ("\n", "\u21b5"),
        ("a\tb", "a\u21e5b"),
        (" the", " the"),
        ("", '""'),
        ("\x00", "\\x00"),
        ("$x$", r"\$x\$"),
        ("x" * 30, "x" * 23 + "\u2026"),
    ],
)
def test_every_text_leaves_a_mark(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("labels", [{"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}, {"a": 1, "b": 2}.keys(), b"ab"])
def test_labels_have_an_order(labels):
    with pytest.raises(TypeError, match="labels: expected a sequence of texts, numbers or timestamps, got "):
        step_labels(labels, 2, 2)


def test_tensors_are_the_numbers_in_them():
    assert step_labels(Tensor([4, 5]), 2, 2).texts == ("4", "5")
    assert step_labels(list(Tensor([4, 5])), 2, 2).texts == ("4", "5")
    with pytest.raises(TypeError, match="labels: expected an array, got Tensor: .* requires grad"):
        step_labels(Tensor([4.0, 5.0], requires_grad=True), 2, 2)


def minutes(*numbers, start="2026-11-28T14:05"):
    return np.datetime64(start) + np.array(numbers) * np.timedelta64(1, "m")


@pytest.mark.parametrize(
    ("times", "texts", "name"),
    [
        (minutes(0, 5), ("14:05", "14:10"), "time on 2026-11-28"),
        (minutes(0, 5).astype("datetime64[ns]"), ("14:05", "14:10"), "time on 2026-11-28"),
        (minutes(0, 5) + np.timedelta64(30, "s"), ("14:05:30", "14:10:30"), "time on 2026-11-28"),
        (minutes(0, 5) + np.timedelta64(250, "ms"), ("14:05:00.250000", "14:10:00.250000"), "time on 2026-11-28"),
        (minutes(0, 1440), ("11-28 14:05", "11-29 14:05"), "time in 2026"),
        (minutes(0, 1440 * 40), ("2026-11-28 14:05", "2027-01-07 14:05"), "time"),
        (np.array(["2026-11-28", "2026-11-29"], "datetime64[D]"), ("2026-11-28", "2026-11-29"), "date"),
        ([datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)], ("2026-01-02", "2026-01-03"), "date"),
        ([datetime.datetime(2026, 1, 2, 3, 4)] * 2, ("03:04", "03:04"), "time on 2026-01-02"),
        (np.array(["2026-11-28T14:05", "NaT"], "datetime64[s]"), ("14:05", "NaT"), "time on 2026-11-28"),
        (np.array(["NaT"] * 2, "datetime64[s]"), ("NaT", "NaT"), "date"),
    ],
)
def test_timestamps_leave_out_what_all_share(times, texts, name):
    assert step_labels(times, 2, 2) == (texts, name, False)
    assert step_labels(list(times), 2, 2) == (texts, name, False)


def test_timestamps_of_pandas():
    pandas = pytest.importorskip("pandas", reason="the timestamps are pandas', which is not installed")
    index = pandas.date_range("2026-11-28 14:05", periods=3, freq="5min")
    for times in (index, pandas.Series(index), list(index), index.tz_localize("Europe/Berlin")):
        assert step_labels(times, 3, 3) == (("14:05", "14:10", "14:15"), "time on 2026-11-28", False)
    assert step_labels([*index[:2], pandas.NaT], 3, 3).texts == ("14:05", "14:10", "NaT")


@pytest.mark.parametrize("wrong", [b"ab", {"a": 1, "b": 2}, 3.5])
def test_what_is_no_sequence_of_texts_is_refused(wrong):
    with pytest.raises(TypeError, match="labels: expected a sequence of texts, numbers or timestamps"):
        step_labels(wrong, 2, 2)


CALLS = {
    "gates": "lw.plot.gates(trace)",
    "memory": "lw.plot.memory(trace)",
    "cell": "lw.plot.cell(trace, 1, 1)",
    "training": "lw.plot.training({'loss': [1.0]})",
}


@pytest.mark.parametrize("name", CALLS)
def test_without_matplotlib_the_error_says_how_to_get_it(name):
    code = f"""
import sys
sys.modules["matplotlib"] = None
import latchwork as lw
import numpy as np
trace = lw.LSTM(2, 3).trace(np.ones((4, 2)))
assert lw.plot.{name}.__doc__  # what needs matplotlib can be looked at without it
try:
    {CALLS[name]}
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert "pip install 'latchwork[plot]'" in run.stdout


def test_the_package_of_pictures_brings_matplotlib_when_it_draws():
    code = """
import sys
import latchwork as lw
import numpy as np
lw.plot.gates, lw.plot.memory, lw.plot.cell, lw.plot.training
assert "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
