"""plot.training: the history of a training, panel by panel."""

import re

import latchwork as lw
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
from matplotlib import pyplot
from matplotlib.figure import Figure
from pictures import assert_inside, boxes_of, nothing_drawn, overlapping
from tensors import Tensor

HISTORY = {
    "seconds": [1.0, 2.0, 3.0, 4.0],
    "val_loss": [2.5, 1.5, 1.75, 2.0],
    "loss": [2.0, 1.0, 0.5, 0.25],
    "learning_rate": [1e-2, 5e-3, 1e-3, 1e-5],
    "accuracy": [0.1, 0.5, 0.8, 0.9],
    "grad_norm": [3.0, 2.0, 2.0, 1.0],
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def curve(ax, label):
    x, y = lines(ax)[label].get_data()
    return list(map(float, x)), list(map(float, y))


def check_history(axes):
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy", "learning rate", "gradient norm"]
    epochs = [1.0, 2.0, 3.0, 4.0]
    assert curve(axes[0], "training data") == (epochs, HISTORY["loss"])
    assert curve(axes[0], "held-out data") == (epochs, HISTORY["val_loss"])
    assert curve(axes[0], "best: 1.5, epoch 2") == ([2.0], [1.5])
    assert curve(axes[1], "training data") == (epochs, HISTORY["accuracy"])
    assert list(axes[2].lines[0].get_ydata()) == HISTORY["learning_rate"]
    assert list(axes[3].lines[0].get_ydata()) == HISTORY["grad_norm"]
    assert [ax.get_yscale() for ax in axes] == ["linear", "linear", "log", "linear"]
    assert axes[-1].get_xlabel() == "epoch"
    assert {text.get_text() for text in axes[0].get_legend().get_texts()} == set(lines(axes[0]))
    assert axes[2].get_legend() is None


def test_a_mapping_of_sequences():
    check_history(lw.plot.training(HISTORY))
    check_history(lw.plot.training({name: np.array(values) for name, values in HISTORY.items()}))


def test_a_sequence_of_records():
    records = [{name: values[epoch] for name, values in HISTORY.items()} for epoch in range(4)]
    check_history(lw.plot.training(records))


class Keras:
    """What its fit returns."""

    history = HISTORY


class Estimator:
    history_ = HISTORY


@pytest.mark.parametrize("fitted", [Keras(), Estimator()])
def test_what_holds_a_history(fitted):
    check_history(lw.plot.training(fitted))


def test_a_table_of_pandas():
    pandas = pytest.importorskip("pandas", reason="the table is one of pandas, which is not installed")
    check_history(lw.plot.training(pandas.DataFrame(HISTORY)))


def test_a_language_model():
    model = lw.LSTMLanguageModel(hidden_size=4, embedding_size=4, max_epochs=2, random_state=0)
    with (
        pytest.raises(TypeError, match="got LSTMLanguageModel, which has no history_: call fit first"),
        nothing_drawn(),
    ):
        lw.plot.training(model)
    model.fit("to be or not to be " * 20)
    for history in (model, model.history_):
        axes = lw.plot.training(history)
        assert [ax.get_ylabel() for ax in axes] == ["bits per character", "learning rate", "gradient norm"]
        assert curve(axes[0], "training data")[1] == [epoch["bits_per_character"] for epoch in model.history_]


def test_epochs_are_numbered_as_the_history_says():
    (ax,) = lw.plot.training([{"epoch": 5, "loss": 2.0}, {"epoch": 7, "loss": 1.0}])
    assert curve(ax, "training data") == ([5.0, 7.0], [2.0, 1.0])


def test_gaps_and_lone_numbers():
    records = [{"loss": 2.0, "valid_loss": None}, {"loss": np.float32(1.5), "valid_loss": 1.8}, {"loss": 1.25}]
    (ax,) = lw.plot.training(records)
    y = lines(ax)["held-out data"].get_ydata()
    assert np.isnan(y[[0, 2]]).all()
    assert y[1] == 1.8
    assert lines(ax)["held-out data"].get_marker() == "o"  # a line through one number would not be seen
    assert lines(ax)["training data"].get_marker() == "None"
    (ax,) = lw.plot.training({"loss": [3.0]})
    assert lines(ax)["training data"].get_marker() == "o"
    (ax,) = lw.plot.training({"val_loss": [np.nan, np.inf], "loss": [np.nan, 1.0]})
    assert not any(label.startswith("best") for label in lines(ax))


def test_what_is_no_number_is_left_out():
    records = [{"train_loss": 1.0, "valid_loss_best": True, "batches": [{"loss": 3}], "event": "saved", "dur": 0.1}]
    axes = lw.plot.training(records)
    assert [ax.get_ylabel() for ax in axes] == ["loss"]


def test_data_are_told_apart_by_more_than_colour():
    (ax,) = lw.plot.training({"train_loss": [2, 1], "validation_loss": [3, 2], "test_loss": [4, 3]})
    drawn = [lines(ax)[label] for label in ("training data", "held-out data", "test data")]
    assert len({line.get_linestyle() for line in drawn}) == 3
    assert len({line.get_color() for line in drawn}) == 3


def test_axes_given_are_used():
    figure = Figure()
    given = figure.subplots(2, 2)
    with nothing_drawn():
        axes = lw.plot.training(HISTORY, axes=given)
    assert [one is other for one, other in zip(axes, given.ravel(), strict=True)] == [True] * 4
    check_history(axes)
    assert all(ax.get_xlabel() == "epoch" for ax in given[1])
    ax = Figure().subplots()
    assert lw.plot.training({"loss": [1, 2]}, axes=ax)[0] is ax


def test_tensors_are_the_numbers_in_them():
    for history in (
        {"loss": Tensor([2.0, 1.0])},
        {"loss": list(Tensor([2.0, 1.0]))},
        [{"loss": each} for each in Tensor([2, 1])],
    ):
        (ax,) = lw.plot.training(history)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, 1])


def test_a_name_is_no_formula():
    (ax,) = lw.plot.training({r"$\no$": [2, 1]})
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("width", [3.9, 9.0])
def test_nothing_overlaps_and_nothing_is_cut_off(width):
    many = {name: values * 50 for name, values in HISTORY.items()}
    figure = Figure((width, 8), layout="constrained")
    axes = lw.plot.training(many, axes=figure.subplots(4, 1))
    figure.draw_without_rendering()
    for ax in axes:
        boxes = boxes_of(ax.xaxis)
        assert overlapping(boxes) == 0
        assert_inside(figure, [*boxes, ax.yaxis.label.get_window_extent()])
    assert [len(boxes_of(ax.xaxis)) > 2 for ax in axes] == [False, False, False, True]


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ([], ValueError, "history: expected at least one epoch, got none"),
        ({}, ValueError, "history: expected at least one epoch, got none"),
        ({"loss": []}, ValueError, "history: expected at least one epoch, got none"),
        (
            {"loss": [1, 2], "val_loss": [1]},
            ValueError,
            "equally many epochs for every name, got 2 for loss, 1 for val_loss",
        ),
        ({"loss": 3.0}, TypeError, "history['loss']: expected a sequence with a number for each epoch, got float"),
        ({"loss": "low"}, TypeError, "history['loss']: expected a sequence with a number for each epoch, got str"),
        ([1.0, 2.0], TypeError, "history[0]: expected a mapping from names to numbers, got float"),
        (
            {"seconds": [1.0]},
            ValueError,
            "expected a loss or another number for each epoch, got nothing that can be drawn",
        ),
        ({"loss": [10**400, 1]}, ValueError, "expected numbers within the range of float, got a larger one in 'loss'"),
        ("loss", TypeError, "history: expected a mapping of sequences"),
        (None, TypeError, "history: expected a mapping of sequences"),
    ],
)
def test_errors_come_before_any_drawing(history, error, message):
    with pytest.raises(error, match=re.escape(message)), nothing_drawn():
        lw.plot.training(history)


def test_bad_axes_are_refused():
    with pytest.raises(ValueError, match="axes: expected 4, one for each panel, got 1"), nothing_drawn():
        lw.plot.training(HISTORY, axes=Figure().subplots())
    with pytest.raises(TypeError, match="axes: expected 4 matplotlib Axes, got str"), nothing_drawn():
        lw.plot.training(HISTORY, axes="here")
    with pytest.raises(TypeError, match="axes: expected 4 matplotlib Axes, got Tensor"), nothing_drawn():
        lw.plot.training(HISTORY, axes=Tensor(0.0, requires_grad=True))
