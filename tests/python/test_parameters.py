"""parameters, edit, state_dict, load_state_dict, pickle and deepcopy."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from configurations import CONFIGURATIONS
from layers import normal, random_lstm

OPTIONS = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True, "proj_size": 2}


@pytest.fixture
def lstm(dtype):
    return random_lstm(dtype=dtype, **OPTIONS)


def copies(module):
    return {name: np.array(value) for name, value in module.parameters.items()}


def assert_unchanged(module, before, output):
    assert_same_bits(copies(module), before)
    x = normal(1, (4, 2, 3), module.dtype)
    assert_same_bits(module(x)[0], output)


def output_of(module):
    return module(normal(1, (4, 2, 3), module.dtype))[0]


def test_names_shapes_and_order_are_torchs():
    for configuration in CONFIGURATIONS[:60]:
        lstm = lw.LSTM(**configuration.options)
        shapes = {name: value.shape for name, value in lstm.parameters.items()}
        assert list(shapes.items()) == list(configuration.parameter_shapes().items())


def test_views_are_read_only_and_of_the_layers_dtype(lstm, dtype):
    for name, value in lstm.parameters.items():
        assert value.dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            value.flags.writeable = True
        with pytest.raises(ValueError, match="WRITEABLE"):
            lstm.parameters[name].setflags(write=True)


def test_views_show_later_writes(lstm):
    view = lstm.parameters["weight_hh_l1"]
    lstm.parameters["weight_hh_l1"] = np.full(view.shape, 0.25)
    assert np.all(view == 0.25)


def test_views_are_contiguous_in_one_buffer(lstm):
    end = None
    for value in lstm.parameters.values():
        begin = value.__array_interface__["data"][0]
        assert value.flags.c_contiguous
        assert end is None or begin == end
        end = begin + value.nbytes


def test_views_outlive_their_model():
    view = random_lstm(input_size=3, hidden_size=5).parameters["weight_ih_l0"]
    kept = np.array(view)
    for seed in range(5):
        random_lstm(seed=seed, input_size=3, hidden_size=5)
    assert_same_bits(np.array(view), kept)


def test_parameters_are_a_mapping(lstm):
    parameters = lstm.parameters
    assert len(parameters) == len(list(parameters)) == 20
    assert "weight_hr_l1_reverse" in parameters
    assert "weight_hr_l2" not in parameters
    assert dict(parameters.items()).keys() == set(parameters.keys())
    with pytest.raises(KeyError):
        parameters["weight_hr_l2"]


def test_a_parameter_cannot_be_deleted(lstm):
    with pytest.raises((TypeError, AttributeError)):
        del lstm.parameters["weight_hr_l1"]


def test_assignment_changes_results(lstm):
    before = output_of(lstm)
    lstm.parameters["bias_ih_l1"] = lstm.parameters["bias_ih_l1"] + 0.5
    assert not np.array_equal(output_of(lstm), before)


@pytest.mark.parametrize("other", ["float32", "float64", "int32", ">f4", ">f8", "float16"])
def test_assignment_converts_real_numbers(lstm, dtype, other):
    value = np.arange(20).reshape(20, 1) % 7 + np.zeros((20, 2))
    lstm.parameters["weight_hh_l0"] = value.astype(other)
    assert_same_bits(lstm.parameters["weight_hh_l0"], value.astype(dtype))


def test_assignment_takes_any_layout(lstm, dtype):
    value = normal(3, (20, 2), dtype)
    for other in (np.asfortranarray(value), np.repeat(value, 2, axis=1)[:, ::2], value[::-1].copy()[::-1]):
        lstm.parameters["weight_hh_l0"] = other
        assert_same_bits(lstm.parameters["weight_hh_l0"], value)
    lstm.parameters["weight_hh_l0"] = value.tolist()
    assert_same_bits(lstm.parameters["weight_hh_l0"], value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros((20, 3)), ValueError),
        (np.zeros((2, 20)), ValueError),
        (np.zeros(40), ValueError),
        (np.zeros((20, 2, 1)), ValueError),
        (np.float64(0), ValueError),
        (np.zeros((0, 2)), ValueError),
        (np.zeros((20, 2), complex), TypeError),
        (np.full((20, 2), "a"), TypeError),
        (np.full((20, 2), None), TypeError),
        (None, TypeError),
    ],
)
def test_a_wrong_assignment_changes_nothing(lstm, value, error):
    before, output = copies(lstm), output_of(lstm)
    with pytest.raises(error, match="weight_hh_l0"):
        lstm.parameters["weight_hh_l0"] = value
    assert_unchanged(lstm, before, output)


def test_an_unknown_name_is_refused(lstm):
    before, output = copies(lstm), output_of(lstm)
    with pytest.raises((KeyError, ValueError), match="weight_hh_l9"):
        lstm.parameters["weight_hh_l9"] = np.zeros((20, 2))
    assert_unchanged(lstm, before, output)


def test_edit_writes_at_its_end(lstm, dtype):
    before, output = copies(lstm), output_of(lstm)
    step = {name: normal(7, value.shape, dtype) for name, value in before.items()}
    with lstm.edit() as parameters:
        for name in parameters:
            parameters[name] -= step[name]
        assert_unchanged(lstm, before, output)
    assert_same_bits(copies(lstm), {name: before[name] - step[name] for name in before})
    assert not np.array_equal(output_of(lstm), output)


def edit_and(change):
    """An edit that subtracts from one parameter and then calls a function."""

    def run(module):
        with module.edit() as parameters:
            parameters["bias_ih_l0"] -= 1
            change(parameters)

    return run


def interrupt(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (interrupt, KeyboardInterrupt),
        (lambda parameters: parameters["bias_hh_l9"], KeyError),
        (lambda parameters: parameters.update(bias_hh_l0=np.zeros(3)), ValueError),
        (lambda parameters: parameters.update(bias_hh_l0="a"), TypeError),
        (lambda parameters: parameters.update(nothing=np.zeros(3)), (KeyError, ValueError)),
        (lambda parameters: parameters.pop("bias_hh_l0"), (KeyError, ValueError)),
    ],
)
def test_edit_is_all_or_nothing(lstm, change, error):
    before, output = copies(lstm), output_of(lstm)
    with pytest.raises(error):
        edit_and(change)(lstm)
    assert_unchanged(lstm, before, output)


def test_state_dict_is_a_copy(lstm):
    before, output = copies(lstm), output_of(lstm)
    state = lstm.state_dict()
    assert_same_bits(state, before)
    for value in state.values():
        value += 1
    assert_unchanged(lstm, before, output)


def test_load_state_dict_copies(lstm, dtype):
    other = random_lstm(seed=9, dtype=dtype, **OPTIONS)
    state = other.state_dict()
    lstm.load_state_dict(state)
    for value in state.values():
        value[...] = np.nan
    assert_same_bits(output_of(lstm), output_of(other))


def broken(state, change):
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("bias_hh_l1"), "bias_hh_l1"),
        (lambda state: state.update(extra=np.zeros(3)), "extra"),
        (lambda state: state.update(bias_hh_l1=np.zeros(19)), "bias_hh_l1"),
        (lambda state: state.update(bias_hh_l1=np.zeros((20, 1))), "bias_hh_l1"),
        (lambda state: state.update(bias_hh_l1=np.zeros(20, complex)), "bias_hh_l1"),
        (lambda state: state.update(bias_hh_l1="a"), "bias_hh_l1"),
    ],
)
def test_a_wrong_state_dict_changes_nothing(lstm, change, named):
    before, output = copies(lstm), output_of(lstm)
    state = broken({name: value + 1 for name, value in before.items()}, change)
    with pytest.raises((ValueError, TypeError, KeyError), match=named):
        lstm.load_state_dict(state)
    assert_unchanged(lstm, before, output)


def test_a_lenient_load_takes_what_fits_by_name(lstm):
    before = copies(lstm)
    lstm.load_state_dict({"bias_ih_l0": before["bias_ih_l0"] + 1, "extra": np.zeros(3)}, strict=False)
    expected = before | {"bias_ih_l0": before["bias_ih_l0"] + 1}
    assert_same_bits(copies(lstm), expected)
    with pytest.raises(ValueError, match="bias_ih_l0"):
        lstm.load_state_dict({"bias_ih_l0": np.zeros(3)}, strict=False)
    assert_same_bits(copies(lstm), expected)


def test_state_dict_round_trip_with_torch(torch_peer, dtype):
    torch = torch_peer.torch
    for configuration in CONFIGURATIONS[:30]:
        peer = torch.nn.LSTM(**configuration.options, dtype=getattr(torch, dtype))
        lstm = lw.LSTM(**configuration.options, dtype=dtype)
        lstm.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
        other = torch.nn.LSTM(**configuration.options, dtype=getattr(torch, dtype))
        other.load_state_dict({name: torch.from_numpy(value) for name, value in lstm.state_dict().items()})
        for name, value in peer.state_dict().items():
            assert torch.equal(other.state_dict()[name], value)


def network(dtype="float32"):
    lstm = random_lstm(input_size=4, hidden_size=5, dtype=dtype)
    return lw.Network([lw.Embedding(7, 4, dtype=dtype), lstm, lw.Last(), lw.Linear(5, 3, dtype=dtype)])


def cell(dtype="float32"):
    return lw.LSTMCell(3, 5, dtype=dtype)


def linear(dtype="float32"):
    return lw.Linear(3, 5, activation="tanh", dtype=dtype)


def stack(dtype="float32"):
    return random_lstm(dtype=dtype, dropout=0.25, batch_first=True, bias=False, **OPTIONS)


CALLS = {
    stack: lambda module: module(normal(1, (4, 2, 3), module.dtype)),
    cell: lambda module: module(normal(1, (4, 3), module.dtype)),
    linear: lambda module: module(normal(1, (4, 3), module.dtype)),
    network: lambda module: module(np.arange(12).reshape(6, 2) % 7)[0],
}


@pytest.mark.parametrize("clone", [copy.deepcopy, copy.copy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("make", CALLS)
def test_clones_are_equal(make, clone, dtype):
    module = make(dtype)
    other = clone(module)
    assert type(other) is type(module)
    assert repr(other) == repr(module)
    assert_same_bits(other.state_dict(), module.state_dict())
    assert_same_bits(CALLS[make](other), CALLS[make](module))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("make", CALLS)
def test_deep_clones_are_independent(make, clone, dtype):
    module = make(dtype)
    other = clone(module)
    before = module.state_dict()
    for name in other.parameters:
        other.parameters[name] = np.zeros(other.parameters[name].shape)
    assert_same_bits(module.state_dict(), before)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(protocol):
    module = stack()
    assert_same_bits(pickle.loads(pickle.dumps(module, protocol)).state_dict(), module.state_dict())
