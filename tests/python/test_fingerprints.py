"""What a run depends on, as JSON can hold it, and in what two runs differ."""

import functools
import json
import math

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.runs.fingerprints import data_digest, described, described_trainer, differences, options_of
from training_runs import Sums, new_run


def through_json(value):
    return json.loads(json.dumps(value))


def own_loss(output, y):
    return 0.0, output


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ({}, {}),
        ({"activations": {"cell": ("leaky_relu", 0.1)}}, {}),
        ({"clip": 3.0, "peephole": True}, {"loss": "quantile", "quantiles": (0.1, 0.5, 0.9)}),
        ({}, {"loss": own_loss, "gradient_blocks": 4}),
        ({}, {"optimizer": lw.optim.SGD(lr=lw.optim.schedules.Warmup(lw.optim.schedules.ReduceOnPlateau(0.1), 3))}),
    ],
    ids=["plain", "activations", "variant", "own loss", "schedules"],
)
def test_a_trainer_is_the_same_after_json(layer, options):
    network = lw.Network([lw.LSTM(3, 4, seed=0, **layer), lw.Last(), lw.Linear(4, 3, seed=0)])
    options = {"loss": "squared_error", "optimizer": lw.optim.AdamW(), "clip_norm": 1.0, "seed": 3, **options}
    if options["loss"] == "quantile":
        network = lw.Network([lw.LSTM(3, 4, seed=0, **layer), lw.Last(), lw.Linear(4, 3, seed=0)])
    told = described_trainer(lw.Trainer(network, **options))
    assert list(differences(through_json(told), told)) == []
    assert through_json(told) == told


def test_options():
    parameters = {
        "lr": np.float32(0.5),
        "layers": (1, 2),
        "class_weight": {1: 0.5, "a": None},
        "validation_data": (np.eye(2), [1, 2]),
        "labels": np.array(["a", None], object),
        "loss": own_loss,
        "model": lw.LSTMRegressor,
        "verbose": 2,
        "callbacks": [print],
        "checkpoint_dir": "there",
        "checkpoint_every": 3,
        "random_state": 1,
        "schedule": lw.optim.schedules.Constant(0.1),
    }
    told = options_of(parameters)
    assert through_json(told) == told
    assert told["lr"] == 0.5
    assert told["layers"] == [1, 2]
    assert told["class_weight"] == {"1": 0.5, "a": None}
    assert told["loss"].endswith(".own_loss")
    assert told["model"].endswith(".LSTMRegressor")
    assert told["schedule"] == {"kind": "Constant", "lr": 0.1}
    assert not {"verbose", "callbacks", "checkpoint_dir", "checkpoint_every", "random_state"} & set(told)
    for other in (np.eye(2, dtype=np.float32), np.eye(2).reshape(4), np.eye(2)[::-1]):
        assert described(other) != told["validation_data"][0]
    assert described(np.asfortranarray(np.eye(2))) == told["validation_data"][0]
    assert described(np.array(["b", None], object)) != told["labels"]
    assert described(functools.partial(own_loss)) == "functools.partial"


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: expected 1, got 2"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["b: expected 2, got 3"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: expected [1], got [1, 2]"]),
        ({"a": 1}, {}, ["a: expected 1, got None"]),
        ({}, {"a": 1}, ["a: expected None, got 1"]),
        ({"a": math.nan}, {"a": math.nan}, []),
        ({"a": math.nan}, {"a": 1.0}, ["a: expected nan, got 1.0"]),
        ({"a": "x" * 200}, {"a": 1}, [f"a: expected '{'x' * 96}..., got 1"]),
    ],
)
def test_differences(expected, got, found):
    assert list(differences(expected, got)) == found


def test_a_digest_covers_all_data():
    digests = {data_digest(Sums())}
    for change in range(2):
        data = Sums()
        array = (data.x, data.y)[change]
        array[(-1,) * array.ndim] += 1e-12
        digests.add(data_digest(data))
    assert len(digests) == 3
    assert data_digest(Sums()) == data_digest(new_run().data)
