"""The variants of the cell beside PyTorch, ONNX Runtime and Keras, live."""

import importlib.util
import warnings

import keras_peer
import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import data, random_lstm, results_of, variant_problem, weights_from_above
from variants import PLAIN, random_options

OUTPUT_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
RESULTS = ("output", "h_n", "c_n")


def tolerance(name, dtype):
    return (OUTPUT_TOLERANCE if name in RESULTS else GRADIENT_TOLERANCE)[dtype]


def compare_with_torch(torch_variants, options, start=True, ragged=False, reset=False):
    lstm, x, state, d_output, d_state, call = variant_problem(options, start, ragged, reset)
    expected = torch_variants.answer(lstm, x, state, d_output, d_state, **call)
    if ragged:
        for row, length in enumerate(call["lengths"]):
            x[length:, row] = np.nan
            d_output[length:, row] = np.nan
    actual = results_of(lstm.record(x, state, **call, training=False), d_output, d_state)
    assert set(actual) == set(expected)
    for name, value in actual.items():
        assert_close(value, expected[name], tolerance(name, lstm.dtype.name), f"{name} of {lstm} {call}")
    output, (h_n, c_n) = lstm(x, state, **call)
    assert_same_bits((output, h_n, c_n), tuple(actual[name] for name in RESULTS))


@pytest.mark.parametrize("name", PLAIN)
def test_each_variant_equals_torch(torch_variants, name, dtype):
    compare_with_torch(torch_variants, PLAIN[name] | {"dtype": dtype})
    compare_with_torch(torch_variants, PLAIN[name] | {"dtype": dtype}, start=False, ragged=True, reset=True)


ACTIVATIONS = [
    "sigmoid", "tanh", "relu", "hard_sigmoid", ("hard_sigmoid", 0.4), ("hard_sigmoid", -0.3, 0.6), "affine",
    ("affine", -0.7, 0.3), "leaky_relu", ("leaky_relu", 0.3), "thresholded_relu", ("thresholded_relu", 0.2),
    "scaled_tanh", ("scaled_tanh", -1.3, 0.8), "elu", ("elu", 0.6), "softsign", "softplus", "selu", "silu", "gelu",
    "gelu_tanh", "exponential",
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_each_activation_equals_torch_at_each_place(torch_variants, activation, dtype):
    for place in ("input", "forget", "candidate", "output", "cell"):
        # Without bounds an exponential in the recurrence multiplies rounding errors.
        bounds = {"clip": 1.0, "cell_clip": 1.0} if activation == "exponential" else {}
        compare_with_torch(torch_variants, {"activations": {place: activation}, "dtype": dtype} | bounds)


@pytest.mark.parametrize("index", range(100))
def test_combinations_equal_torch(torch_variants, index, dtype):
    options = random_options(index) | {"dtype": dtype}
    start, ragged, reset = (index & bit != 0 for bit in (1, 2, 4))
    compare_with_torch(torch_variants, options, start, ragged, reset)


@pytest.fixture(scope="module")
def onnx_peer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("onnx", reason="onnx, which writes the models for ONNX Runtime, is not installed")
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
        import onnx_peer
    return onnx_peer


def onnx_activations(gates="sigmoid", candidate="tanh", cell="tanh", coupled=False):
    """ONNX has one activation for all gates, one for the candidate and one for the cell's output."""
    forget = {} if coupled else {"forget": gates}
    return {"input": gates, "output": gates, "candidate": candidate, "cell": cell} | forget


ONNX_VARIANTS = {
    "plain": {},
    "no bias": {"bias": False},
    "reverse": {"reverse": True, "peephole": True},
    "peephole": {"peephole": True},
    "input_forget": {"forget_gate": "coupled"},
    "input_forget and peephole": {"forget_gate": "coupled", "peephole": True},
    "clip": {"clip": 0.4},
    "clip and peephole": {"clip": 0.4, "peephole": True},
    "both directions": {"bidirectional": True, "peephole": True, "clip": 0.6},
    "both directions with their own activations": {
        "bidirectional": True,
        "peephole": True,
        "activations": (
            onnx_activations(candidate=("leaky_relu", 0.2), cell="softsign"),
            onnx_activations(("hard_sigmoid", 0.3, 0.4), ("elu", 0.7), ("scaled_tanh", 1.5, 0.6)),
        ),
    },
    "both directions with the second's activations alone": {
        "bidirectional": True,
        "activations": ({}, onnx_activations(("affine", 0.2, 0.5), ("scaled_tanh", -1.5, 0.6), "relu")),
    },
    "everything": {
        "bidirectional": True,
        "forget_gate": "coupled",
        "peephole": True,
        "clip": 0.7,
        "activations": (
            onnx_activations(("hard_sigmoid", 0.3, 0.4), "softsign", "softplus", coupled=True),
            onnx_activations("softsign", ("thresholded_relu", 0.1), ("affine", 0.5, -0.2), coupled=True),
        ),
    },
}


def compare_with_onnx(onnx_peer, options, start=True, lengths=None, **attributes):
    for hidden in (5, 16, 17):
        lstm = random_lstm(input_size=4, hidden_size=hidden, **options)
        x, state, _ = data(lstm, steps=6, rows=5)
        state = state if start else None
        actual = lstm(x, state, lengths=lengths)
        expected = onnx_peer.run(lstm, x, state, lengths, **attributes)
        for name, one, other in zip(RESULTS, (actual[0], *actual[1]), (expected[0], *expected[1]), strict=True):
            assert_close(one, other, OUTPUT_TOLERANCE["float32"], f"{name} of {lstm}")


@pytest.mark.parametrize("name", ONNX_VARIANTS)
def test_variants_equal_onnx_runtime(onnx_peer, name):
    options = ONNX_VARIANTS[name]
    compare_with_onnx(onnx_peer, options)
    compare_with_onnx(onnx_peer, options, start=False)
    # No length of 0: see onnx_peer.
    compare_with_onnx(onnx_peer, options, lengths=[6, 1, 3, 6, 2])


ONNX_ACTIVATIONS = [
    "sigmoid", "tanh", "relu", ("hard_sigmoid", -0.3, 0.6), ("affine", -0.7, 0.3), ("leaky_relu", 0.3),
    ("thresholded_relu", 0.2), ("scaled_tanh", -1.3, 0.8), ("elu", 0.6), "softsign", "softplus",
]  # fmt: skip


@pytest.mark.parametrize("activation", ONNX_ACTIVATIONS, ids=str)
def test_each_activation_equals_onnx_runtimes(onnx_peer, activation):
    for place in ("gates", "candidate", "cell"):
        compare_with_onnx(onnx_peer, {"activations": onnx_activations(**{place: activation})})


@pytest.mark.parametrize("activation", ["hard_sigmoid", "leaky_relu", "elu"])
def test_default_alpha_and_beta_are_onnx_runtimes(onnx_peer, activation):
    activations = ["Sigmoid", "".join(part.capitalize() for part in activation.split("_")), "Tanh"]
    compare_with_onnx(
        onnx_peer,
        {"activations": {"candidate": activation}},
        activations=activations,
        activation_alpha=None,
        activation_beta=None,
    )


# Keras's names, and Latchwork's activations. Keras has one activation for all gates, one for candidate and cell.
KERAS_ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "linear": "affine",
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "leaky_relu": ("leaky_relu", 0.2),
    "elu": "elu",
    "softsign": "softsign",
    "softplus": "softplus",
}
KERAS_VARIANTS = {
    "plain": {},
    "no bias": {"use_bias": False},
    "masked": {"zero_output_for_mask": True},
    "masked, with holes": {"zero_output_for_mask": True},
    "masked, with holes, repeated": {"zero_output_for_mask": False},
    "masked, with holes, backwards": {"zero_output_for_mask": False, "go_backwards": True},
    "backwards": {"go_backwards": True, "recurrent_activation": "hard_sigmoid"},
    "both": {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
}
KERAS_LENGTHS = np.array([6, 1, 3, 6, 2])  # of "masked"
KERAS_SKIPPED = np.random.RandomState(0).random_sample((6, 5)) < 0.4  # where a mask has its holes
for _name in KERAS_ACTIVATIONS:
    KERAS_VARIANTS |= {f"activation {_name}": {"activation": _name}, f"gates {_name}": {"recurrent_activation": _name}}


def keras_lstm(options, dtype):
    """The latchwork.LSTM that equals a keras.layers.LSTM of these options; the gate order is the same."""
    activation = KERAS_ACTIVATIONS[options.get("activation", "tanh")]
    gates = KERAS_ACTIVATIONS[options.get("recurrent_activation", "sigmoid")]
    lstm = random_lstm(
        input_size=4,
        hidden_size=9,
        bias=options.get("use_bias", True),
        reverse=options.get("go_backwards", False),
        activations=onnx_activations(gates, activation, activation),
        dtype=dtype,
    )
    suffix = "_l0_reverse" if lstm.reverse else "_l0"
    if lstm.bias:  # Keras has one
        lstm.parameters[f"bias_hh{suffix}"] = np.zeros(4 * lstm.hidden_size)
    return lstm, suffix


KERAS_WEIGHTS = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih"}


def keras_question(name, dtype):
    options = KERAS_VARIANTS[name]
    lstm, suffix = keras_lstm(options, dtype)
    x, (h_0, c_0), _ = data(lstm, steps=6, rows=5)
    d_output, (d_h_n, d_c_n) = weights_from_above(lstm, steps=6, rows=5)
    arrays = {"x": x, "h_0": h_0[0], "c_0": c_0[0], "d_output": d_output, "d_h_n": d_h_n[0], "d_c_n": d_c_n[0]}
    for key, here in KERAS_WEIGHTS.items():
        if here + suffix in lstm.parameters:
            arrays[key] = lstm.parameters[here + suffix].T
    if name.startswith("masked"):
        arrays["mask"] = np.arange(6)[:, None] < KERAS_LENGTHS if name == "masked" else ~KERAS_SKIPPED
    return options | {"dtype": dtype}, arrays


def keras_tolerance(name, part, dtype):
    """The usual tolerance, but that of float32 if Keras 3.15 or PyTorch 2.13 computes float64 in float32.

    With a mask Keras does not use PyTorch's product but its own, which multiplies float64 in float32; the slope of
    PyTorch's hard sigmoid is 1/6 in float32.
    """
    if name.startswith("masked"):
        return tolerance(part, "float32")
    uses_hard_sigmoid = "hard_sigmoid" in KERAS_VARIANTS[name].values()
    return max(tolerance(part, dtype), 1e-7 if uses_hard_sigmoid and part not in RESULTS else 0.0)


KERAS_LAYERS = {
    "large layer": {"count": 1, "units": 64, "features": 30},
    "small layers": {"count": 300, "units": 3, "features": 2},
    "no forget bias": {"count": 1, "units": 8, "features": 2, "unit_forget_bias": False},
}


@pytest.fixture(scope="module")
def keras_answers(tmp_path_factory):
    """Keras's answers to all questions of this file, asked at once because Keras takes seconds to start."""
    for peer in ("keras", "torch"):
        if importlib.util.find_spec(peer) is None:
            pytest.skip(f"Keras with PyTorch as its backend needs {peer}, which is not installed")
    questions = {name: (options, {}) for name, options in KERAS_LAYERS.items()}
    for dtype in OUTPUT_TOLERANCE:
        questions |= {f"{name}, {dtype}": keras_question(name, dtype) for name in KERAS_VARIANTS}
    return keras_peer.ask(questions, tmp_path_factory.mktemp("keras"))


@pytest.mark.parametrize("name", KERAS_VARIANTS)
def test_variants_equal_keras(keras_answers, name, dtype):
    options, arrays = keras_question(name, dtype)
    expected = dict(keras_answers[f"{name}, {dtype}"])
    lstm, suffix = keras_lstm(options, dtype)
    start, d_state = (tuple(arrays[part][None] for part in pair) for pair in (("h_0", "c_0"), ("d_h_n", "d_c_n")))
    d_output = arrays["d_output"]
    if lstm.reverse:  # Keras gives the outputs in the order in which it made them
        d_output, expected["output"] = d_output[::-1], expected["output"][::-1]
    masks = {"lengths": KERAS_LENGTHS} if name == "masked" else {}
    if name.startswith("masked, with holes"):
        masks = {"skip": KERAS_SKIPPED, "skip_output": "zero" if options["zero_output_for_mask"] else "repeat"}
    tape = lstm.record(arrays["x"], start, **masks)
    actual = results_of(tape, d_output, d_state)
    expected |= {part: expected[part][None] for part in ("h_n", "c_n", "h_0", "c_0")}
    for key, here in KERAS_WEIGHTS.items():
        if f"d_{key}" in expected:
            expected[here + suffix] = expected.pop(f"d_{key}").T
    assert set(actual) - set(expected) <= {f"bias_hh{suffix}"}
    for part, value in expected.items():
        assert_close(actual[part], value, keras_tolerance(name, part, dtype), f"{part} of {lstm}")


def test_initial_values_are_distributed_as_keras(keras_answers):
    """Limits, orthogonality and biases; the determinants of the orthogonal matrices have both signs."""

    def parameters(units, features, seed=0, **options):
        lstm = lw.LSTM(features, units, init="keras", seed=seed, **options)
        return {
            "kernel": lstm.parameters["weight_ih_l0"].T,
            "recurrent": lstm.parameters["weight_hh_l0"].T,
            "bias": lstm.parameters["bias_ih_l0"] + lstm.parameters["bias_hh_l0"],
        }

    here = parameters(64, 30)
    there = {name: value[0] for name, value in keras_answers["large layer"].items()}
    np.testing.assert_array_equal(here["bias"], there["bias"])
    limit = np.sqrt(6 / (30 + 4 * 64))
    for kernel in (here["kernel"], there["kernel"]):
        assert kernel.shape == (30, 256)
        assert 0.99 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
        # The empirical distribution is within 0.02 of the uniform one: Kolmogorov's distance at 1e-4 for 7,680 numbers.
        ranks = (np.sort(kernel, axis=None) / limit + 1) / 2
        assert np.abs(ranks - (np.arange(kernel.size) + 0.5) / kernel.size).max() < 2.2 / np.sqrt(kernel.size)
    for recurrent in (here["recurrent"], there["recurrent"]):
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(64), atol=1e-5)
    unbiased = parameters(8, 2, forget_bias=0.0)
    np.testing.assert_array_equal(unbiased["bias"], keras_answers["no forget bias"]["bias"][0])

    count = KERAS_LAYERS["small layers"]["count"]
    many = np.stack([parameters(3, 2, seed)["recurrent"] for seed in range(count)])
    for recurrent in (many, keras_answers["small layers"]["recurrent"]):
        # Uniform over all orthogonal matrices: every element has mean 0 and variance 1 / 12.
        assert np.abs(recurrent.mean(axis=0)).max() < 5 * np.sqrt(1 / 12 / count)
        assert np.abs(recurrent.var(axis=0) * 12 - 1).max() < 5 * np.sqrt(2 / count)
