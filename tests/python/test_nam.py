"""Neural Amp Modeler's files, beside the formula, and back again."""

import json

import latchwork as lw
import lstm_formula
import mutations
import numpy as np
import pytest
from latchwork.interop import nam

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def weights_of(size, hidden, layers, outputs=1):
    generator = np.random.default_rng(0)
    count = sum(4 * hidden * ((size if k == 0 else hidden) + hidden + 1) + 2 * hidden for k in range(layers))
    return generator.uniform(-0.7, 0.7, count + outputs * (hidden + 1)).astype(np.float32).astype(float)


def content_of(size, hidden, layers, outputs=1, **more):
    config = {"input_size": size, "hidden_size": hidden, "num_layers": layers}
    if outputs > 1:
        config |= {"in_channels": size, "out_channels": outputs}
    weights = weights_of(size, hidden, layers, outputs).tolist()
    return {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights, **more}


def formula(weights, size, hidden, layers, outputs, x):
    """What the plug-in computes: it takes numbers from one list as it needs them."""
    weights = list(weights)

    def take(*shape):
        taken = np.array(weights[: int(np.prod(shape))]).reshape(shape)
        del weights[: taken.size]
        return taken

    for layer in range(layers):
        columns = size if layer == 0 else hidden
        both, bias, h, c = take(4 * hidden, columns + hidden), take(4 * hidden), take(hidden), take(hidden)
        x = lstm_formula.lstm(x, both[:, :columns], both[:, columns:], bias, h, c)
    output = x @ take(outputs, hidden).T + take(outputs)
    assert not weights
    return output


def written(content, tmp_path):
    path = tmp_path / "a.nam"
    path.write_text(json.dumps(content).replace("Infinity", "1e999"), encoding="utf-8")
    return path


SIZES = [(1, 3, 1, 1), (1, 16, 2, 1), (2, 7, 3, 1), (1, 1, 1, 1), (3, 5, 2, 2)]


@pytest.mark.parametrize(("size", "hidden", "layers", "outputs"), SIZES)
def test_models(size, hidden, layers, outputs, dtype, tmp_path):
    content = content_of(size, hidden, layers, outputs)
    model = lw.from_nam(written(content, tmp_path), dtype=dtype)
    x = np.random.default_rng(1).uniform(-1, 1, (31, size))
    expected = formula(content["weights"], size, hidden, layers, outputs, x)
    output, _ = model(x)
    assert output.dtype == np.dtype(dtype)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(expected).max()))
    lw.to_nam(model, tmp_path / "again.nam")
    again = json.loads((tmp_path / "again.nam").read_text())
    assert again["weights"] == content["weights"]
    assert again["config"] == content["config"]


def test_a_reset_goes_back_to_the_state_in_the_file(tmp_path):
    model = lw.from_nam(written(content_of(1, 5, 2), tmp_path))
    stream = model.stream()
    x = np.linspace(-1, 1, 7, dtype=np.float32)[:, np.newaxis]
    first = [stream.step(step).copy() for step in x]
    stream.reset()
    assert [stream.step(step).tolist() for step in x] == [step.tolist() for step in first]
    assert (model.parameters["0.h_0_l1"] != 0).all()
    reset = np.zeros(14, bool)
    reset[7] = True
    both, _ = model(np.concatenate([x, x]), reset=reset)
    assert (both[:7] == both[7:]).all()


def test_metadata(tmp_path):
    path = written(content_of(1, 3, 1, sample_rate=44100, metadata={"name": "amp"}), tmp_path)
    said = nam.metadata(path)
    assert (said["sample_rate"], said["metadata"], "weights" in said) == (44100, {"name": "amp"}, False)
    lw.to_nam(lw.from_nam(path), tmp_path / "b.nam", sample_rate=44100, metadata=said["metadata"])
    assert nam.metadata(tmp_path / "b.nam") == said
    with pytest.raises(TypeError, match="JSON"):
        lw.to_nam(lw.from_nam(path), tmp_path / "c.nam", metadata={"name": object()})


def test_without_start_states_and_biases_zeros_are_written(tmp_path):
    network = lw.Network(
        [lw.LSTM(1, 3, bias=False, recurrent_dropout=0.1, seed=0), lw.Linear(3, 1, bias=False, seed=1)]
    )
    lw.to_nam(network, tmp_path / "a.nam")
    x = np.linspace(-1, 1, 9, dtype=np.float32)[:, np.newaxis]
    assert (lw.from_nam(tmp_path / "a.nam")(x)[0] == network(x)[0]).all()


def changed(**more):
    content = content_of(1, 3, 1)
    content["config"] |= more.pop("config", {})
    return {**content, **more}


REFUSED = {
    "architecture: expected LSTM, got 'WaveNet'": lambda: changed(architecture="WaveNet"),
    "architecture: expected LSTM, got 'CatLSTM'": lambda: changed(architecture="CatLSTM"),
    "architecture: expected LSTM, got None": lambda: {"weights": [1]},
    "config: expected an object": lambda: changed() | {"config": 3},
    "weights: expected 109 numbers for .* got 70": lambda: changed(config={"hidden_size": 4}),
    "weights: expected 160 numbers for .* got 70": lambda: changed(config={"num_layers": 2}),
    "config.hidden_size: expected a whole number of at least 1, got 0": lambda: changed(config={"hidden_size": 0}),
    "config.input_size: expected a whole number of at least 1, got True": lambda: changed(config={"input_size": True}),
    "num_layers 1000000000000 and 1 outputs, got 70": lambda: changed(config={"num_layers": 10**12}),
    "input_size 1000000000000, hidden_size 3": lambda: changed(config={"input_size": 10**12}),
    "weights: expected finite numbers": lambda: changed(weights=[1e999] * 70),
    "weights: expected numbers that float32 holds": lambda: changed(weights=[1e308] * 70),
    "weights: expected lists of numbers, got a text": lambda: changed(weights="abc"),
    r"weights: expected 1 dimensions, got shape \(70, 1\)": lambda: changed(weights=[[1.0]] * 70),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_contradicts_itself_is_refused(message, tmp_path):
    path = written(REFUSED[message](), tmp_path)
    with pytest.raises(ValueError, match=message) as refused:
        lw.from_nam(path)
    assert str(refused.value).startswith(str(path))


MODELS = {
    "expected an LSTM and a Linear without an activation, got LSTM": lambda: lw.LSTM(1, 3),
    "got LSTM, Last, Linear": lambda: lw.Network([lw.LSTM(1, 3), lw.Last(), lw.Linear(3, 1)]),
    "got LSTM, Linear": lambda: lw.Network([lw.LSTM(1, 3), lw.Linear(3, 1, activation="tanh")]),
    "peephole: expected False for NAM's LSTM": lambda: lw.Network([lw.LSTM(1, 3, peephole=True), lw.Linear(3, 1)]),
    "direction: expected 'forward'": lambda: lw.Network([lw.LSTM(1, 3, reverse=True), lw.Linear(3, 1)]),
}  # fmt: skip


@pytest.mark.parametrize("message", MODELS)
def test_what_the_format_cannot_hold_is_refused(message, tmp_path):
    with pytest.raises(ValueError, match=message):
        lw.to_nam(MODELS[message](), tmp_path / "a.nam")


def test_mutated_files_are_value_errors(tmp_path):
    text = json.dumps(content_of(1, 2, 1)).encode()
    assert mutations.are_read_or_refused(lw.from_nam, text, mutations.COUNT, tmp_path / "a.nam") > 0.5
