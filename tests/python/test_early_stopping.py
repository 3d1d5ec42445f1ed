"""When training ends because validation gets no better, and which weights are kept then."""

import math

import numpy as np
import pytest
from latchwork.estimators.runs.fit_loop import FitLoop
from latchwork.estimators.runs.stopping import BestWeights
from training_runs import Sums, assert_equal_weights, fit, network_of, new_run, validation_of, weights_of


def run_of(losses, **options):
    """Run with these validation losses; give the loop, and the weights after each epoch."""
    given, weights = iter(losses), []
    loop = fit(
        max_epochs=len(losses),
        validate=lambda: {"validation_loss": next(given), "validation_score": 0.5},
        callbacks=lambda run, row: weights.append(weights_of(run)),
        **options,
    )
    return loop, weights


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3, 2, 1, 1, 1, 1], 2, 5, 3),
        ([3, 4, 5, 6, 7], 1, 2, 1),
        ([3, 4, 5, 6, 7], 3, 4, 1),
        ([3, 4, 2, 4, 1, 4], 2, 6, 5),
        ([math.nan, math.nan, 1, 2, 2], 2, 2, None),
        ([math.nan, 5, math.nan, 4, math.inf], 2, 5, 4),
        ([-1, -2, -3, -2], 2, 4, 3),
        ([1, 1, 1], 5, 3, 1),
    ],
)
def test_ends_and_puts_the_best_back(losses, patience, epochs, best):
    loop, weights = run_of(losses, early_stopping=True, n_iter_no_change=patience)
    assert len(loop.history) == epochs
    assert loop.ended_by == ("epochs" if epochs == len(losses) else "early_stopping")
    assert_equal_weights(loop, weights[-1 if best is None else best - 1])


def test_tol():
    """An improvement by less than tol does not count, but its weights are the best all the same."""
    losses = [1.0, 0.95, 0.9, 0.85]
    loop, weights = run_of(losses, early_stopping=True, n_iter_no_change=2, tol=0.06)
    assert len(loop.history) == 3
    assert_equal_weights(loop, weights[2])
    loop, weights = run_of(losses, early_stopping=True, n_iter_no_change=2, tol=0.04)
    assert len(loop.history) == 4
    assert_equal_weights(loop, weights[3])


def test_without_it_the_last_weights_stay():
    loop, weights = run_of([1.0, 2.0, 3.0, 4.0], n_iter_no_change=1)
    assert len(loop.history) == 4
    assert loop.ended_by == "epochs"
    assert_equal_weights(loop, weights[-1])


def test_rows_have_what_validation_gave():
    loop, _ = run_of([2.0, 1.0])
    assert [(row["validation_loss"], row["validation_score"]) for row in loop.history] == [(2.0, 0.5), (1.0, 0.5)]


def test_validation_sees_the_weights_of_the_epoch():
    run, data = new_run(), Sums()
    run.validate = validation_of(run)
    outputs = []
    run.callbacks = lambda loop, row: outputs.append(loop.network(data.x)[0])
    loop = FitLoop(run)
    loop.run()
    expected = [np.mean((output.astype(np.float64) - data.y) ** 2) for output in outputs]
    assert [row["validation_loss"] for row in loop.history] == pytest.approx(expected, rel=1e-5)


def test_an_epoch_that_the_clock_ended_is_validated():
    loop, _ = run_of([2.0] * 10**4, max_seconds=0.05)
    assert loop.ended_by == "seconds"
    assert "validation_loss" in loop.history[-1]


def test_the_best_of_a_run_that_ends_otherwise_is_put_back():
    losses = iter([3.0, 1.0, 2.0, 2.5])
    weights = []

    def stop(run, row):
        weights.append(weights_of(run))
        if row["epoch"] == 4:
            run.stop()

    validate = lambda: {"validation_loss": next(losses)}  # noqa: E731
    loop = fit(early_stopping=True, validate=validate, callbacks=stop)
    assert loop.ended_by == "callback"
    assert_equal_weights(loop, weights[1])


def test_members_are_put_back_together():
    losses = iter([1.0, 2.0])
    weights = []
    loop = fit(
        max_epochs=2,
        members=3,
        early_stopping=True,
        validate=lambda: {"validation_loss": next(losses)},
        callbacks=lambda run, row: weights.append(weights_of(run)),
    )
    assert_equal_weights(loop, weights[0])


def test_kept_weights_are_a_copy():
    best = BestWeights(1, 0.0)
    network = network_of(None)
    best.report(1.0, 1, network)
    kept = np.array(best.weights["2.bias"])
    with network.edit() as parameters:
        parameters["2.bias"] += 1
    np.testing.assert_array_equal(best.weights["2.bias"], kept)
    assert best.put_back(network)
    np.testing.assert_array_equal(network.parameters["2.bias"], kept)
    assert not BestWeights(1, 0.0).put_back(network)
