"""JSON of RTNeural, GuitarML and AIDA-X, and state dictionaries as JSON, beside the formula; and back again."""

import json
import random
import time
import tracemalloc

import latchwork as lw
import lstm_formula
import mutations
import numpy as np
import pytest

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


class Numbers:
    """Random numbers of one seed, as lists."""

    def __init__(self, seed=0):
        self._generator = np.random.default_rng(seed)

    def __call__(self, *shape):
        # Numbers that float32 holds, so that both dtypes run the same model.
        return self._generator.uniform(-0.7, 0.7, shape).astype(np.float32).astype(float).tolist()


def written(content, tmp_path, name="model.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content).replace("Infinity", "1e999"), encoding="utf-8")
    return path


def layer(kind, size, activation, weights):
    return {"type": kind, "activation": activation, "shape": [None, None, size], "weights": weights}


def rtneural_lstm(numbers, size, hidden):
    return layer("lstm", hidden, "tanh", [numbers(size, 4 * hidden), numbers(hidden, 4 * hidden), numbers(4 * hidden)])


def rtneural_dense(numbers, size, out, activation="", kind="dense"):
    return layer(kind, out, activation, [numbers(size, out), numbers(out)])


def run_layers(layers, x):
    """The formula of a list of RTNeural's layers."""
    for each in layers:
        weights = [np.array(weight) for weight in each["weights"]]
        if each["type"] == "lstm":
            x = lstm_formula.lstm(x, weights[0].T, weights[1].T, weights[2])
        else:
            x = x @ weights[0] + weights[1] if weights else x
            x = lstm_formula.ACTIVATIONS[each["activation"]](x)
    return x


def equal(path, expected, x, dtype, **options):
    model = lw.from_rtneural(path, dtype=dtype, **options)
    output, _ = model(x)
    assert output.dtype == np.dtype(dtype)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(expected).max(initial=0)))
    return model


def sound(steps, features):
    return np.random.default_rng(5).uniform(-1, 1, (steps, features))


LISTS = {
    "lstm": lambda n: [rtneural_lstm(n, 1, 7)],
    "lstm, dense": lambda n: [rtneural_lstm(n, 2, 17), rtneural_dense(n, 17, 1)],
    "two lstms": lambda n: [rtneural_lstm(n, 3, 5), rtneural_lstm(n, 5, 5), rtneural_dense(n, 5, 2, "sigmoid")],
    "dense first": lambda n: [
        rtneural_dense(n, 1, 8, "tanh", "time-distributed-dense"), rtneural_lstm(n, 8, 4),
        rtneural_dense(n, 4, 31, "relu"), rtneural_dense(n, 31, 1, "elu"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("steps", [0, 1, 31])
def test_lists_of_layers(case, steps, dtype, tmp_path):
    layers = LISTS[case](Numbers())
    inputs = len(layers[0]["weights"][0])
    path = written({"in_shape": [None, None, inputs], "layers": layers}, tmp_path)
    x = sound(steps, inputs)
    model = equal(path, run_layers(layers, x), x, dtype)
    lw.to_rtneural(model, tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    for ours, theirs in zip(again["layers"], layers, strict=True):
        assert ours["weights"] == theirs["weights"]
        assert (ours["shape"], ours["activation"]) == (theirs["shape"], theirs["activation"])


def test_shapes_and_activations_may_be_left_out(tmp_path):
    layers = LISTS["two lstms"](Numbers())
    x = sound(5, 3)
    expected = run_layers(layers, x)
    for each in layers:
        del each["shape"]
    del layers[0]["activation"]
    equal(written({"layers": layers}, tmp_path), expected, x, "float32")


def activation_of(name):
    return {"type": "activation", "activation": name, "shape": [None, None, 3], "weights": []}


def test_activations_as_layers(dtype, tmp_path):
    numbers = Numbers()
    layers = [
        rtneural_lstm(numbers, 1, 3),
        activation_of("relu"),
        rtneural_dense(numbers, 3, 3),
        activation_of("softmax"),
    ]
    path = written({"in_shape": [1], "layers": layers}, tmp_path)
    x = sound(9, 1)
    model = equal(path, run_layers(layers, x), x, dtype)
    lw.to_rtneural(model, tmp_path / "again.json")
    equal(tmp_path / "again.json", run_layers(layers, x), x, dtype)


def state_dict(numbers, size, hidden, layers, outputs, recurrent="rec", linear="lin", bias=True):
    tensors = {}
    for index in range(layers):
        columns = size if index == 0 else hidden
        tensors[f"{recurrent}.weight_ih_l{index}"] = numbers(4 * hidden, columns)
        tensors[f"{recurrent}.weight_hh_l{index}"] = numbers(4 * hidden, hidden)
        if bias:
            tensors[f"{recurrent}.bias_ih_l{index}"] = numbers(4 * hidden)
            tensors[f"{recurrent}.bias_hh_l{index}"] = numbers(4 * hidden)
    tensors[f"{linear}.weight"] = numbers(outputs, hidden)
    if bias:
        tensors[f"{linear}.bias"] = numbers(outputs)
    return tensors


def run_tensors(tensors, x, recurrent="rec", linear="lin"):
    index = 0
    while (name := f"_l{index}") and f"{recurrent}.weight_ih{name}" in tensors:
        of_layer = {each: np.array(tensors.get(f"{recurrent}.{each}{name}", 0.0)) for each in ("bias_ih", "bias_hh")}
        weights = (np.array(tensors[f"{recurrent}.{each}{name}"]) for each in ("weight_ih", "weight_hh"))
        x = lstm_formula.lstm(x, *weights, sum(of_layer.values()))
        index += 1
    return x @ np.array(tensors[f"{linear}.weight"]).T + np.array(tensors.get(f"{linear}.bias", 0.0))


def guitarml(tensors, size, hidden, layers, outputs, skip):
    data = {
        "model": "SimpleRNN", "input_size": size, "skip": skip, "output_size": outputs, "unit_type": "LSTM",
        "num_layers": layers, "hidden_size": hidden, "bias_fl": True,
    }  # fmt: skip
    return {"model_data": data, "state_dict": tensors}


@pytest.mark.parametrize("names", [("rec", "lin"), ("lstm", "dense")])
@pytest.mark.parametrize(("size", "hidden", "layers", "outputs"), [(1, 7, 1, 1), (2, 5, 2, 1), (3, 17, 3, 2)])
def test_guitarml(names, size, hidden, layers, outputs, dtype, tmp_path):
    tensors = state_dict(Numbers(), size, hidden, layers, outputs, *names)
    x = sound(31, size)
    path = written(guitarml(tensors, size, hidden, layers, outputs, 0), tmp_path)
    equal(path, run_tensors(tensors, x, *names), x, dtype)


@pytest.mark.parametrize(("size", "outputs", "skip"), [(1, 1, 1), (2, 1, 1), (3, 2, 2)])
def test_guitarml_with_a_skip(size, outputs, skip, dtype, tmp_path):
    tensors = state_dict(Numbers(), size, 5, 2, outputs)
    x = sound(31, size)
    expected = run_tensors(tensors, x)
    expected[:, :skip] += x[:, :skip]
    equal(written(guitarml(tensors, size, 5, 2, outputs, skip), tmp_path), expected, x, dtype)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("wrap", ["", "module."])
@pytest.mark.parametrize("bias", [True, False])
def test_bare_state_dictionaries(nested, wrap, bias, dtype, tmp_path):
    tensors = state_dict(Numbers(), 1, 5, 2, 3, "my.lstm", "my.head", bias)
    content = {f"{wrap}{name}": value for name, value in tensors.items()}
    x = sound(17, 1)
    path = written({"state_dict": content, "epoch": 3} if nested else content, tmp_path)
    equal(path, run_tensors(tensors, x, "my.lstm", "my.head"), x, dtype)
    lstm = lw.from_rtneural(path, prefix="my.lstm")
    assert (lstm.num_layers, lstm.hidden_size) == (2, 5)


def test_two_linears_need_what_stands_between(dtype, tmp_path):
    numbers = Numbers()
    tensors = {**state_dict(numbers, 1, 5, 1, 4, "a", "b"), "c.weight": numbers(2, 4), "c.bias": numbers(2)}
    path = written(tensors, tmp_path)
    with pytest.raises(ValueError, match="expected prefix= with what stands between 'b' and 'c'"):
        lw.from_rtneural(path)
    x = sound(7, 1)
    hidden = np.maximum(run_tensors(tensors, x, "a", "b"), 0)
    expected = hidden @ np.array(tensors["c.weight"]).T + tensors["c.bias"]
    equal(path, expected, x, dtype, prefix=["a", "b", lw.Activation("relu"), "c"])


def aidax(numbers, size=1, hidden=6, **more):
    layers = [rtneural_lstm(numbers, size, hidden), rtneural_dense(numbers, hidden, 1)]
    return {"in_shape": [None, None, size], "layers": layers, "samplerate": 48000.0, **more}


@pytest.mark.parametrize(("in_gain", "out_gain"), [(-3.0, 4.0), (0.0, -6.0), (6, 0), (-100.0, 1.0)])
@pytest.mark.parametrize(
    "skip", [0, pytest.param(1, marks=pytest.mark.skipif(not hasattr(lw, "InputSkip"), reason="no skip"))]
)
@pytest.mark.parametrize("size", [1, 2])
def test_aidax(in_gain, out_gain, skip, size, dtype, tmp_path):
    content = aidax(Numbers(), size, in_gain=in_gain, out_gain=out_gain, in_skip=skip)
    x = sound(31, size)
    gained = x.copy()
    gained[:, 0] *= 10 ** (in_gain / 20) if in_gain > -90 else 0
    expected = 10 ** (out_gain / 20) * (run_layers(content["layers"], gained) + skip * gained[:, :1])
    path = written(content, tmp_path)
    model = equal(path, expected, x, dtype)
    if in_gain > -90:
        lw.to_rtneural(model, tmp_path / "again.json", sample_rate=48000)
        again = json.loads((tmp_path / "again.json").read_text())
        assert again["layers"] == [{**each, "shape": [None, None, each["shape"][-1]]} for each in content["layers"]]
        assert again.get("in_gain", 0) == pytest.approx(in_gain)
        assert again.get("out_gain", 0) == pytest.approx(out_gain)
        assert again.get("in_skip", 0) == skip
        assert again["samplerate"] == 48000
        equal(tmp_path / "again.json", expected, x, dtype)


def test_what_is_no_number_is_no_gain(tmp_path):
    content = aidax(Numbers(), in_gain=None, out_gain="", in_skip=None)
    x = sound(5, 1)
    equal(written(content, tmp_path), run_layers(content["layers"], x), x, "float32")


def changed(**more):
    return {**aidax(Numbers()), **more}


def with_layer(**more):
    content = aidax(Numbers())
    content["layers"][0] |= more
    return content


def test_the_order_of_guitarml_s_tensors_says_nothing(tmp_path):
    tensors = state_dict(Numbers(), 1, 7, 1, 1)
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, names in zip(paths, (sorted(tensors), sorted(tensors, reverse=True)), strict=True):
        path.write_text(json.dumps(guitarml({name: tensors[name] for name in names}, 1, 7, 1, 1, 0)))
    x = np.random.default_rng(0).normal(size=(5, 1)).astype(np.float32)
    one, other = (lw.from_rtneural(path)(x)[0] for path in paths)
    assert (one == other).all()
    assert abs(one - run_tensors(tensors, x)).max() < 1e-5


@pytest.mark.parametrize("write", [lw.to_rtneural, lw.to_nam])
def test_what_json_does_not_hold_is_not_written(write, tmp_path):
    model = lw.Network([lw.LSTM(1, 3, seed=0), lw.Linear(3, 1, seed=0)])
    for rate, error, message in (
        (float("nan"), ValueError, "sample_rate: expected at least 0, got nan"),
        (0, ValueError, "sample_rate: expected a number above 0, got 0"),
        (-48000, ValueError, "sample_rate: expected at least 0, got -48000"),
        ("48000", TypeError, "sample_rate: expected float, got str"),
        (True, TypeError, "sample_rate: expected float, got bool"),
    ):
        with pytest.raises(error, match=message):
            write(model, tmp_path / "m.json", sample_rate=rate)
    model[1].parameters["bias"] = [np.nan]
    with pytest.raises(ValueError, match="model: expected finite numbers"):
        write(model, tmp_path / "m.json")
    assert not list(tmp_path.iterdir())


def with_weights(*shapes):
    return with_layer(weights=[Numbers()(*shape) for shape in shapes])


def guitarml_with(**more):
    content = guitarml(state_dict(Numbers(), 2, 5, 2, 1), 2, 5, 2, 1, 0)
    content["model_data"] |= more
    return content


REFUSED = {
    r"layers\[0\] \(lstm\): expected weights for 2 inputs, as in_shape": lambda: changed(in_shape=[None, 2]),
    r"layers\[0\] \(lstm\): expected weights for 8 units, as its shape says, got 6": lambda: with_layer(shape=[8]),
    r"layers\[1\] \(dense\): expected weights for 6 inputs, as the layer before says, got 5": lambda: changed(
        layers=[rtneural_lstm(Numbers(), 1, 6), rtneural_dense(Numbers(), 5, 1)]
    ),
    r"recurrent kernel: expected \(5, 20\), got \(5, 24\)": lambda: with_weights((1, 20), (5, 24), (20,)),
    r" kernel: expected \(1, 20\), got \(1, 24\)": lambda: with_weights((1, 24), (5, 24), (24,)),
    r"bias: expected \(24,\), got \(23,\)": lambda: with_weights((1, 24), (6, 24), (23,)),
    r"weights: expected 3 arrays, got 2": lambda: with_weights((1, 24), (6, 24)),
    r"weights\[0\]: expected 2 dimensions, got shape \(3,\)": lambda: with_layer(weights=[[1, 2, 3], [[1]], [1]]),
    r"weights\[0\]: expected lists of one length": lambda: with_layer(weights=[[[1, 2], [3]], [[1]], [1]]),
    r"weights\[0\]: expected lists of numbers": lambda: with_layer(weights=[[["a"]], [[1]], [1]]),
    r"weights\[2\]: expected finite numbers": lambda: with_layer(weights=[[[1] * 4], [[1] * 4], [1e999] * 4]),
    r"weights\[0\]: expected lists of numbers, got an object": lambda: with_layer(weights=[{}, [[1]], [1]]),
    r"got 'gru'": lambda: with_layer(type="gru"),
    r"got 'conv1d'": lambda: with_layer(type="conv1d"),
    r"activation: expected 'tanh', got 'relu'": lambda: with_layer(activation="relu"),
    r"activation: expected one of linear, tanh, .*, got 'swish'": lambda: with_layer(activation="swish"),
    r"in_skip: expected 0 or 1, got 2": lambda: changed(in_skip=2),
    r"in_skip: expected a whole number of at least 0, got 0.5": lambda: changed(in_skip=0.5),
    r"out_gain: expected decibels below 1000": lambda: changed(out_gain=1e300),
    r"layers: expected a list of layers": lambda: {"layers": []},
    r"layers\[0\]: expected an object with a type": lambda: {"layers": [3]},
    r"in_shape: expected a whole number of at least 1, got a list": lambda: changed(in_shape=[[]]),
    r"model_data.hidden_size: expected 8, as it says, got weights for 5": lambda: guitarml_with(hidden_size=8),
    r"model_data.input_size: expected 1, as it says, got weights for 2": lambda: guitarml_with(input_size=1),
    r"model_data.num_layers: expected 1, as it says, got weights for 2": lambda: guitarml_with(num_layers=1),
    r"model_data.output_size: expected 3, as it says, got weights for 1": lambda: guitarml_with(output_size=3),
    r"model_data.unit_type: expected LSTM, got 'GRU'": lambda: guitarml_with(unit_type="GRU"),
    r"model_data.model: expected SimpleRNN, got 'GatedConv'": lambda: guitarml_with(model="GatedConv"),
    r"rec.weight_hh_l0: expected \(20, 5\), got \(20, 4\)": lambda: {
        **state_dict(Numbers(), 1, 5, 1, 1), "rec.weight_hh_l0": Numbers()(20, 4),
    },
    r"expected an LSTM, a Linear or an Embedding, got Conv1d": lambda: {"c.weight": Numbers()(2, 3, 4), "c.bias": [1]},
    r"or a state dictionary, got other JSON": lambda: {"a": 3},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_contradicts_itself_is_refused(message, tmp_path):
    path = written(REFUSED[message](), tmp_path)
    with pytest.raises(ValueError, match=message) as refused:
        lw.from_rtneural(path)
    assert str(refused.value).startswith(str(path))


CHAINS = {
    "got Embedding": lambda: lw.Network([lw.Embedding(3, 2), lw.LSTM(2, 3)]),
    "got Last": lambda: lw.Network([lw.LSTM(2, 3), lw.Last()]),
    "direction: expected 'forward'": lambda: lw.LSTM(2, 3, bidirectional=True),
    "learn_start_state: expected False for RTNeural's lstm": lambda: lw.LSTM(2, 3, learn_start_state=True),
    "proj_size": lambda: lw.LSTM(2, 3, proj_size=2),
    "activation: expected one of tanh": lambda: lw.Network([lw.LSTM(2, 3), lw.Linear(3, 2, activation="softsign")]),
    "Scale at the input: expected shift 0": lambda: lw.Network([lw.Scale([1, 0], [1, 1]), lw.LSTM(2, 3)]),
    "Scale at the output: expected shift 0, and one": lambda: lw.Network([lw.LSTM(2, 2), lw.Scale([0, 0], [1, 2])]),
    "more than -90 decibels, got 0": lambda: lw.Network([lw.Scale([0], [0]), lw.LSTM(1, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("message", CHAINS)
def test_what_the_format_cannot_hold_is_refused(message, tmp_path):
    with pytest.raises(ValueError, match=message):
        lw.to_rtneural(CHAINS[message](), tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_what_acts_in_training_alone_is_left_out(tmp_path):
    lstm = lw.LSTM(2, 3, 2, dropout=0.1, recurrent_dropout=0.2, weight_dropout=0.1, bias=False, seed=0)
    network = lw.Network([lstm, lw.Dropout(0.5), lw.Linear(3, 1, bias=False, seed=1)])
    lw.to_rtneural(network, tmp_path / "a.json")
    again = lw.from_rtneural(tmp_path / "a.json")
    x = sound(9, 2).astype(np.float32)
    assert (again(x)[0] == network(x)[0]).all()


def test_both_biases_become_one(dtype, tmp_path):
    network = lw.Network([lw.LSTM(2, 7, 2, dtype=dtype, seed=0), lw.Linear(7, 1, dtype=dtype, seed=1)])
    lw.to_rtneural(network, tmp_path / "a.json")
    lw.to_nam(network, tmp_path / "a.nam")
    x = sound(9, 2)
    for again in (lw.from_rtneural(tmp_path / "a.json", dtype=dtype), lw.from_nam(tmp_path / "a.nam", dtype=dtype)):
        assert (again(x)[0] == network(x)[0]).all()


HOSTILE = {
    "nested": (b"[" * 100_000, "nested too deep"),
    "nested objects": (b'{"a":' * 100_000, "nested too deep"),
    "large": (b'{"layers": [' + b"1" * 26_000_000, "at most 25,000,000 bytes"),
    "many values": (b"[" + b"1," * 2_000_000, "at most 1,500,000 values"),
    "many lists": (b"[" + b"[]," * 300_000, "at most 200,000 lists"),
    "many texts": (b"{" + b'"a":1,' * 200_000, "at most 100,000 texts"),
    "a long number": (b'{"layers": ' + b"9" * 100_000 + b"}", "expected a model as JSON"),
    "not a number": (b'{"layers": NaN}', "NaN is no number"),
    "no text": (b"\xff\xfe{", "expected a model as JSON"),
    "a list": (b"[1, 2]", "expected a JSON object, got a list"),
    "no end": (b'{"layers": [', "expected a model as JSON, got a JSON file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little(name, tmp_path):
    content, message = HOSTILE[name]
    (tmp_path / "a.json").write_bytes(content)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        lw.from_rtneural(tmp_path / "a.json")
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 100e6


def test_the_largest_values_cost_little(tmp_path):
    for value in (b"[" + b"1.5," * 1_400_000 + b"1]", b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"):
        (tmp_path / "a.json").write_bytes(value)
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"."):
            lw.from_rtneural(tmp_path / "a.json")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6


def faulty(content, generator):
    """Put other values into a parsed file, which text mutations seldom do."""
    content = json.loads(json.dumps(content))
    values = [None, -1, 0, 2**70, 1e308, "a", [], {}, [[]], True, [[[1.0]]], 10**12, -0.5]
    for _ in range(generator.randint(1, 3)):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = generator.choice(list(keys))
            if isinstance(place[key], (dict, list)) and place[key] and generator.random() < 0.7:
                place = place[key]
            else:
                place[key] = generator.choice(values)
                break
    return content


def contents():
    yield aidax(Numbers(), 2, 3, in_gain=1.0, out_gain=2.0)
    yield guitarml(state_dict(Numbers(), 2, 3, 2, 1), 2, 3, 2, 1, 0)
    yield state_dict(Numbers(), 1, 2, 1, 1)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["AIDA-X", "GuitarML", "bare"])
def test_mutated_files_are_value_errors(which, tmp_path):
    content = list(contents())[which]
    text = json.dumps(content).encode()
    assert mutations.are_read_or_refused(lw.from_rtneural, text, mutations.COUNT, tmp_path / "a.json") > 0.5
    generator, refused = random.Random(0), 0
    for _ in range(mutations.COUNT):
        try:
            lw.from_rtneural(written(faulty(content, generator), tmp_path))
        except ValueError:
            refused += 1
    assert refused > mutations.COUNT // 3
