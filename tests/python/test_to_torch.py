"""Models as modules of PyTorch's own layers, beside the models themselves, and back again."""

import inspect
import itertools
import warnings

import latchwork as lw
import numpy as np
import pytest
from cell_options import MODULES
from latchwork.interop import formats

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import latchwork.torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # which code computes it is no matter

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def numbers(*shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def equal(model, dtype, x, *state):
    """See that the module of a model gives what the model does, and that the way back gives the same bits."""
    theirs = lw.to_torch(model).eval()
    expected, ends = model(x, *state)
    with torch.no_grad():
        output, (their_ends) = theirs(torch.tensor(x), *(torch_of(each) for each in state))
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=TOLERANCE[dtype])
    for ours, other in zip(flat(ends), flat(their_ends), strict=True):
        np.testing.assert_allclose(other.numpy(), ours, rtol=0, atol=TOLERANCE[dtype])
    back = lw.from_torch(theirs)
    assert repr(back) == repr(model)
    assert bits(back) == bits(model)
    assert {name: tensor.numpy().tobytes() for name, tensor in theirs.state_dict().items()} == bits(model)
    return theirs


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def flat(state):
    return [array for each in state for array in (flat(each) if isinstance(each, tuple) else [each])]


def torch_of(state):
    return tuple(torch_of(each) for each in state) if isinstance(state, tuple) else torch.tensor(state)


OPTIONS = list(itertools.product((1, 2), (True, False), (True, False), (True, False), (0, 3)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_lstm(options, dtype):
    layers, bias, first, both, projected = options
    lstm = lw.LSTM(
        7, 17, layers, bias, first, 0.25 * (layers > 1), both, projected, dtype=dtype, forget_bias=2.0 if bias else None
    )  # fmt: skip
    theirs = lw.to_torch(lstm)
    assert type(theirs) is nn.LSTM
    plain = lw.LSTM(7, 17, layers, bias, first, 0.25 * (layers > 1), both, projected, dtype=dtype, seed=1)
    plain.load_state_dict(lstm.state_dict())
    equal(plain, dtype, numbers(4, 3, 7, dtype=dtype))
    equal(plain, dtype, numbers(0, 3, 7, dtype=dtype) if first else numbers(1, 1, 7, dtype=dtype))
    rows, directions = (4, 2) if first else (3, 2)
    state = tuple(
        numbers(layers * (directions if both else 1), rows, size, dtype=dtype) for size in (projected or 17, 17)
    )
    equal(plain, dtype, numbers(4, 3, 7, dtype=dtype), state)


def test_a_cell_an_embedding_and_a_linear(dtype):
    cell = lw.LSTMCell(3, 5, dtype=dtype, seed=0)
    theirs = lw.to_torch(cell)
    assert type(theirs) is nn.LSTMCell
    x = numbers(2, 3, dtype=dtype)
    with torch.no_grad():
        for ours, other in zip(cell(x), theirs(torch.tensor(x)), strict=True):
            np.testing.assert_allclose(other.numpy(), ours, rtol=0, atol=TOLERANCE[dtype])
    assert bits(lw.from_torch(theirs)) == bits(cell)
    embedding = lw.Embedding(7, 3, dtype=dtype, seed=0)
    assert (lw.to_torch(embedding)(torch.tensor([[6, 0]])).detach().numpy() == embedding([[6, 0]])).all()
    linear = lw.Linear(3, 2, activation="relu", dtype=dtype, seed=0)
    np.testing.assert_allclose(lw.to_torch(linear)(torch.tensor(x)).detach().numpy(), linear(x), atol=TOLERANCE[dtype])
    assert type(lw.to_torch(lw.Linear(3, 2))) is nn.Linear


HEADS = {
    "each step": lambda features, dtype: [lw.Linear(features, 2, dtype=dtype, seed=3)],
    "last": lambda features, dtype: [
        lw.Dropout(0.2), lw.Last(), lw.Linear(features, 2, activation="tanh", dtype=dtype),
    ],
    "mean": lambda features, dtype: [lw.Mean(), lw.Linear(features, 5, False, "relu", dtype=dtype)],
    "max": lambda features, dtype: [lw.Max(), lw.Linear(features, 1, activation=("elu", 0.5), dtype=dtype)],
    "two": lambda features, dtype: [
        lw.Linear(features, 4, activation=("leaky_relu", 0.1), dtype=dtype),
        lw.Linear(4, 3, activation="sigmoid", dtype=dtype),
    ],
    "nothing": lambda features, dtype: [],
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_a_network(head, first, both, dtype):
    features = 10 if both else 5
    lstms = [lw.LSTM(3, 5, batch_first=first, bidirectional=both, dtype=dtype, seed=1)]
    if head == "two":
        lstms.append(lw.LSTM(features, 5, batch_first=first, bidirectional=both, proj_size=2, dtype=dtype, seed=2))
        features = 4 if both else 2
    layers = [*lstms, *HEADS[head](features, dtype)]
    scaled = [lw.Scale([1.0, 0.5, -2.0], [2.0, 1.0, 0.1]), lw.Dropout(0.1), *layers]
    network = lw.Network(scaled)
    equal(network, dtype, numbers(4, 3, 3, dtype=dtype))
    equal(network, dtype, numbers(4, 3, dtype=dtype))


@pytest.mark.parametrize("first", [True, False])
def test_an_input_skip(first, dtype):
    lstm, head = lw.LSTM(3, 5, batch_first=first, dtype=dtype), lw.Linear(5, 4, dtype=dtype)
    network = lw.Network([lw.Scale([0, 0, 1], [2, 1, 1]), lstm, head, lw.InputSkip(2, 0.5), lw.Scale([0] * 4, [3] * 4)])
    equal(network, dtype, numbers(4, 3, 3, dtype=dtype))
    equal(network, dtype, numbers(4, 3, dtype=dtype))


def test_tokens(dtype):
    network = lw.Network(
        [lw.Embedding(9, 3, dtype=dtype), lw.LSTM(3, 5, 2, dtype=dtype), lw.Last(), lw.Linear(5, 2, dtype=dtype)]
    )
    equal(network, dtype, np.random.default_rng(0).integers(0, 9, (4, 3)))


def test_an_estimator():
    x = numbers(12, 4, 2)
    model = lw.LSTMRegressor(
        hidden_size=3, max_epochs=1, random_state=0, early_stopping=False, recurrent_dropout=0.0
    ).fit(x, x[:, 0, 0])
    network = model.network_
    theirs = lw.to_torch(model).eval()
    with torch.no_grad():
        output, _ = theirs(torch.tensor(np.swapaxes(x, 0, 1) if not network.batch_first else x))
    expected, _ = network(np.swapaxes(x, 0, 1) if not network.batch_first else x)
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=1e-5)


def is_variant(kind, options):
    own = {"input_size", "hidden_size", "num_layers", "bias", "dropout", "bidirectional", "dtype"}
    return any(value for name, value in options.items() if name not in own)


@pytest.mark.parametrize(("kind", "options"), [case for case in MODULES if is_variant(*case.values)])
def test_variants_become_the_drop_in_s(kind, options, dtype):
    model = kind(**options | {"dtype": dtype, "seed": 3})
    theirs = lw.to_torch(model)
    assert type(theirs) is (latchwork.torch.LSTM if kind is lw.LSTM else latchwork.torch.LSTMCell)
    assert list(theirs.state_dict()) == list(model.state_dict())
    back = lw.from_torch(theirs)
    assert type(back) is kind
    assert without_initial_values(back) == without_initial_values(model)
    assert bits(back) == bits(model) == {name: t.numpy().tobytes() for name, t in theirs.state_dict().items()}
    x = numbers(4, 3, 3, dtype=dtype) if kind is lw.LSTM else numbers(4, 3, dtype=dtype)
    with torch.no_grad():
        given = flat(theirs.eval()(torch.tensor(x)))
    for ours, other in zip(flat(model(x)), given, strict=True):
        assert ours.tobytes() == other.numpy().tobytes()


def without_initial_values(model):
    """What a module is, apart from the options that chose its first weights."""
    initial = {"forget_bias", "init", "t_max"}
    return [{name: value for name, value in each.items() if name not in initial} for each in model._config.modules]


def test_a_network_of_variants(dtype):
    layers = [
        lw.LSTM(3, 5, peephole=True, merge="sum", bidirectional=True, dtype=dtype, seed=1),
        lw.LSTM(5, 4, dtype=dtype, seed=2),
        lw.LSTM(4, 4, reverse=True, zoneout=(0.1, 0.2), dtype=dtype, seed=3),
    ]
    for first in (True, False):
        chain = [lw.LSTM(**arguments(layer) | {"batch_first": first}) for layer in layers]
        network = lw.Network([*chain, lw.Last(), lw.Linear(4, 2, dtype=dtype, seed=4)])
        theirs = equal(network, dtype, numbers(4, 3, 3, dtype=dtype))
        kinds = [type(module) for module in theirs.children()][:3]
        assert kinds == [latchwork.torch.LSTM, nn.LSTM, latchwork.torch.LSTM]
        equal(network, dtype, numbers(4, 3, dtype=dtype))


def arguments(layer):
    return {name: getattr(layer, name) for name in inspect.signature(lw.LSTM).parameters if name != "seed"}


REFUSED = {
    "layer 1: activation": lambda: lw.Network([lw.LSTM(3, 5), lw.Linear(5, 2, activation=("scaled_tanh", 2.0, 1.0))]),
    "layer 0: expected a layer that PyTorch has, got Impute": lambda: lw.Network([lw.Impute(3), lw.LSTM(3, 5)]),
    "layer 1: expected a layer that PyTorch has, got Sort": lambda: lw.Network([lw.LSTM(3, 5), lw.Sort(5)]),
    "layer 1: expected an LSTM with merge='concat' before it, got 'sum'": lambda: lw.Network(
        [lw.LSTM(3, 5, bidirectional=True, merge="sum"), lw.Last()]
    ),
    "model: expected one member, got 3": lambda: lw.Network([lw.LSTM(3, 5)], members=3),
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_has_no_module_is_refused(option):
    with pytest.raises(ValueError, match=option):
        lw.to_torch(REFUSED[option]())


UNSAID = {
    "zoneout": lambda: lw.LSTM(3, 5, zoneout=(0.1, 0.0)),
    "forget_gate": lambda: lw.LSTMCell(3, 5, forget_gate="coupled"),
    "activations": lambda: lw.LSTM(3, 5, activations={"cell": "relu"}),
    "clip": lambda: lw.LSTM(3, 5, clip=3.0),
    "cell_clip": lambda: lw.LSTMCell(3, 5, cell_clip=3.0),
    "residual": lambda: lw.Network([lw.LSTM(3, 5, 2, residual=True), lw.Linear(5, 1)]),
    "merge": lambda: lw.LSTM(3, 5, bidirectional=True, merge="ave"),
}


@pytest.mark.parametrize("option", UNSAID)
def test_a_file_of_tensors_holds_no_options_that_tensors_do_not_say(option, tmp_path):
    with pytest.raises(ValueError, match=f"{option}: expected .* for a file of tensors, got"):
        formats.write(UNSAID[option](), tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_a_file_of_tensors_holds_what_they_say(tmp_path):
    options = {"peephole": True, "layer_norm": True, "learn_start_state": True}
    for model in (lw.LSTM(3, 5, 2, reverse=True, **options), lw.LSTMCell(3, 5, **options)):
        formats.write(model, tmp_path / "model.pt")
        again = formats.read(tmp_path / "model.pt")
        assert repr(again) == repr(model)
        assert bits(again) == bits(model)


def test_types():
    for model in (None, nn.LSTM(2, 3), lw.LSTM):
        with pytest.raises(TypeError, match="model: expected a layer, a Network or a fitted estimator"):
            lw.to_torch(model)


ACTIVATIONS = [
    "relu", "tanh", "sigmoid", "softsign", "softplus", "selu", "silu", "gelu", "gelu_tanh", "softmax", "log_softmax",
    ("elu", 0.5), ("leaky_relu", 0.2), ("hard_sigmoid", 1 / 6, 0.5),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("alone", [True, False])
def test_activations(activation, alone, dtype):
    head = lw.Linear(5, 3, dtype=dtype, seed=1, activation=None if alone else activation)
    above = [lw.Activation(activation)] if alone else []
    network = lw.Network([lw.LSTM(3, 5, dtype=dtype, seed=0), *above, head])
    equal(network, dtype, 10 * numbers(4, 3, 3, dtype=dtype))


def test_an_activation_of_functions_and_methods(dtype):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 5)

        def forward(self, x):
            return functional.gelu(self.lstm(x)[0].relu(), approximate="tanh").log_softmax(dim=-1)

    theirs = Model().to(getattr(torch, dtype))
    ours = lw.from_torch(theirs)
    x = numbers(4, 2, 3, dtype=dtype)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours(x)[0], expected, rtol=0, atol=TOLERANCE[dtype])
    assert [type(layer).__name__ for layer in ours] == ["LSTM", "Activation", "Activation", "Activation"]
