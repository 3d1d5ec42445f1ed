"""explain.clamp and explain.ablate: gates held at a value, and units that a loss needs."""

import copy
import functools

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits, same_bits
from latchwork.explain import ablate, clamp, interventions
from layers import data, normal, random_lstm
from members import VOCABULARY
from tensors import Tensor
from variants import EVERY, PLAIN, random_options

SIZES = {"input_size": 3, "hidden_size": 7}
STEPS, ROWS = 5, 4
GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
LENGTHS = np.array([5, 0, 3, 1])


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gates_of(lstm):
    return [gate for gate in GATES if gate != "forget_gate" or lstm.forget_gate is True]


def others(name, lstm, gate, unit, layer):
    """A parameter without what belongs to a gate of a unit in one layer and direction."""
    value = lstm.parameters[name]
    if not name.endswith(f"_{layer}") or name.startswith(("weight_hr", "norm_cell", "h_0", "c_0")):
        return value
    order = gates_of(lstm)
    if name.startswith("weight_peephole"):
        order = [each for each in order if each != "candidate"]
        if gate == "candidate":
            return value
    rows = np.arange(len(value)) != order.index(gate) * lstm.hidden_size + unit
    return value[rows]


# ---- clamp: every variant.


@pytest.mark.parametrize("name", EVERY)
def test_a_gate_is_held_at_what_it_once_was_in_every_variant(name, isa, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, **EVERY[name])
    x, start, reset = data(lstm, STEPS, ROWS)
    whole = lstm.trace(x, start, reset=reset)
    for layer in whole:
        for place, gate in enumerate(gates_of(lstm)):
            unit = 2 + place
            value = getattr(whole[layer], gate)[3, 1, unit]
            held = clamp(lstm, layer, unit, **{gate: float(value)})
            shown = held.trace(100 * x, start, reset=reset, lengths=LENGTHS)
            assert_same_bits(getattr(shown[layer], gate)[:3, 2, unit], np.full(3, value), f"{gate} of {layer}")
            assert not getattr(shown[layer], gate)[3:, 2, unit].any()
            assert list(held.parameters) == list(lstm.parameters)
            for parameter in lstm.parameters:
                if not (lstm.layer_norm and parameter.startswith(("weight_ih", "weight_hh"))):
                    mine, theirs = (others(parameter, each, gate, unit, layer) for each in (held, lstm))
                    assert_same_bits(mine, theirs, parameter)
                else:
                    assert_same_bits(held.parameters[parameter], lstm.parameters[parameter], parameter)


@pytest.mark.parametrize("name", PLAIN)
def test_all_other_gates_compute_what_they_did(name, dtype):
    """At the first step, before the held gate can act on anything through the state."""
    lstm = random_lstm(dtype=dtype, **SIZES, **PLAIN[name])
    x, start, _ = data(lstm, 1, ROWS)
    before = lstm.trace(x, start)["l0"]
    for place, gate in enumerate(gates_of(lstm)):
        unit = 1 + place
        held = clamp(lstm, "l0", unit, **{gate: float(np.sort(getattr(before, gate).reshape(-1))[5])})
        after = held.trace(x, start)["l0"]
        for other in GATES:
            rest = np.ones(7, bool)
            # A coupled forget gate follows the input gate, and an output gate with a peephole sees the cell.
            if other == gate or other == "forget_gate" and gate == "input_gate" and lstm.forget_gate == "coupled":
                rest[unit] = False
            if other == "output_gate" and lstm.peephole:
                rest[unit] = False
            assert_same_bits(getattr(after, other)[..., rest], getattr(before, other)[..., rest], f"{other} by {gate}")


@pytest.mark.parametrize("index", range(60))
def test_random_combinations(index):
    options = random_options(index)
    lstm = random_lstm(dtype=("float32", "float64")[index % 2], **options)
    x, start, reset = data(lstm, STEPS, ROWS)
    whole = lstm.trace(x, start, reset=reset)
    layer = list(whole)[index % len(whole)]
    for gate in gates_of(lstm):
        value = getattr(whole[layer], gate)[2, 3, 0]
        held = clamp(lstm, layer, 0, **{gate: float(value)})
        assert_same_bits(getattr(held.trace(x, start)[layer], gate)[..., 0], np.full((STEPS, ROWS), value), gate)


@pytest.mark.parametrize("activation", ["sigmoid", "hard_sigmoid", ("hard_sigmoid", -1.0, 0.5), ("affine", -2.0, 0.5),
                                        "relu", ("elu", 0.5), "softsign", ("scaled_tanh", 1.5, -2.0), "selu", "silu",
                                        "gelu"])  # fmt: skip
@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 0.73, 1.0])
def test_open_shut_and_between(activation, value, dtype):
    gates = ("input", "forget", "output")
    lstm = random_lstm(dtype=dtype, **SIZES, activations=dict.fromkeys(gates, activation))
    held = clamp(lstm, 0, [1, -1], input_gate=value, forget_gate=value, output_gate=value)
    shown = held.trace(1e3 * normal(1, (STEPS, ROWS, 3)))
    for gate in ("input_gate", "forget_gate", "output_gate"):
        values = getattr(shown, gate)[..., [1, 6]]
        assert (values == values[0, 0, 0]).all()
        # A stretched tanh may jump over 1 from one float to the next, and so may these two.
        if value == 0.0 or value == 1.0 and activation[0] != "scaled_tanh" and activation not in ("silu", "gelu"):
            assert (values == value).all()
        assert_close(values, np.full(values.shape, value), np.finfo(dtype).eps)
        assert not (getattr(shown, gate)[..., :1] == values[0, 0, 0]).all()


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_an_activation_that_falls_before_it_rises(activation, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, activations={"input": activation})
    for value in (-0.15, 0.0, 3.0):
        shown = clamp(lstm, 0, 1, input_gate=value).trace(normal(1, (STEPS, ROWS, 3)))
        assert_close(shown["l0"].input_gate[..., 1], np.full((STEPS, ROWS), value), 4 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match=f"input_gate: expected a value that {activation} reaches, from -0.[12]"):
        clamp(lstm, 0, 1, input_gate=-0.5)


def test_the_value_is_the_same_on_every_instruction_set():
    lstm = random_lstm(**SIZES, activations={"forget": "hard_sigmoid"})
    held = clamp(lstm, 0, 3, input_gate=1.0, output_gate=0.0, forget_gate=1.0, candidate=-1.0)
    for isa in lw.cpu_info()["available_isas"]:
        lw.set_isa(isa)
        shown = held.trace(normal(1, (STEPS, ROWS, 3)))
        assert [float(values[..., 3].min()) for values in shown["l0"][:4]] == [1, 1, -1, 0]
        assert [float(values[..., 3].max()) for values in shown["l0"][:4]] == [1, 1, -1, 0]
        assert np.isfinite(held(1e30 * normal(1, (STEPS, ROWS, 3)))[0]).all()


def test_clamped_outputs_are_those_of_plain_loops():
    lstm = random_lstm(**SIZES, dtype="float64")
    x, start, _ = data(lstm, STEPS, ROWS)
    held = clamp(lstm, "l0", [2, 5], forget_gate=1.0, input_gate=0.25)
    output, (h_n, c_n) = held(x, start)
    w, r = lstm.parameters["weight_ih_l0"], lstm.parameters["weight_hh_l0"]
    bias = lstm.parameters["bias_ih_l0"] + lstm.parameters["bias_hh_l0"]
    for row in range(ROWS):
        h, c = start[0][0, row], start[1][0, row]
        for step in range(STEPS):
            i, f, g, o = np.split(w @ x[step, row] + r @ h + bias, 4)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            for unit in (2, 5):
                i[unit], f[unit] = 0.25, 1.0
            c = f * c + i * g
            h = o * np.tanh(c)
            assert_close(output[step, row], h, 1e-14)
        assert_close(c_n[0, row], c, 1e-14)


# ---- clamp: what it copies.


def test_the_copy_is_independent(dtype):
    lstm = random_lstm(**SIZES, dtype=dtype)
    before = lstm.state_dict()
    held = clamp(lstm, "l0", 1, output_gate=0.0)
    held.parameters["weight_ih_l0"] = np.zeros((28, 3))
    assert_same_bits(lstm.state_dict(), before)


def test_a_layer_without_biases_gets_some(dtype):
    lstms = [lw.LSTM(3, 7, bias=False, dtype=dtype, seed=1), lw.LSTM(7, 2, bias=False, dtype=dtype, seed=2)]
    network = lw.Network([lw.Embedding(VOCABULARY, 3, dtype=dtype, seed=0), *lstms])
    x = np.arange(20).reshape(STEPS, ROWS) % VOCABULARY
    held = clamp(network, "1.l0", 4, forget_gate=1.0)
    assert (held[1].bias, held[2].bias, network[1].bias) == (True, False, False)
    shown, was = held.trace(x)["1.l0"], network.trace(x)["1.l0"]
    assert (shown.forget_gate[..., 4] == 1).all()
    assert_same_bits(shown.forget_gate[0, :, :4], was.forget_gate[0, :, :4])
    assert_same_bits(shown.input_gate[0], was.input_gate[0])
    assert_same_bits(clamp(network, "1.l0", [], forget_gate=1.0)(x)[0], network(x)[0])
    lstm = random_lstm(**SIZES, bias=False, dtype=dtype, num_layers=2, bidirectional=True)
    held = clamp(lstm, "l1_reverse", 4, input_gate=1.0)
    assert (held.trace(normal(1, (STEPS, ROWS, 3)))["l1_reverse"].input_gate[..., 4] == 1).all()
    assert_same_bits(held.trace(normal(1, (STEPS, ROWS, 3)))["l0"], lstm.trace(normal(1, (STEPS, ROWS, 3)))["l0"])


def test_random_masks_go_on_as_in_the_original():
    for options in ({}, {"bias": False}):
        lstm = random_lstm(**SIZES, recurrent_dropout=0.5, **options)
        expected = copy.deepcopy(lstm).record(normal(1, (STEPS, ROWS, 3))).mask_seed
        assert clamp(lstm, "l0", 1, output_gate=0.0).record(normal(1, (STEPS, ROWS, 3))).mask_seed == expected


@pytest.mark.parametrize("bias", [True, False])
def test_every_member_is_held(bias):
    network = lw.Network([lw.LSTM(3, 7, seed=0, bias=bias), lw.Linear(7, 2, seed=0)], members=3)
    x = normal(1, (3, STEPS, ROWS, 3))
    held = clamp(network, None, -2, candidate=0.5)
    assert held.members == 3
    assert (held.trace(x)["0.l0"].candidate[..., 5] == np.float32(0.5)).all()
    for member in range(3):
        alone = clamp(network.member(member), None, 5, candidate=0.5)
        assert_same_bits(held(x)[0][member], alone(x[member])[0])


def test_layers_by_name_and_number():
    network = lw.Network([lw.LSTM(3, 4, 2, bidirectional=True, seed=0), lw.LSTM(8, 4, seed=1)])
    by_number = [clamp(network, number, 1, output_gate=0.0).state_dict() for number in (0, 1, 2, -1)]
    for number, name in enumerate(("0.l0", "0.l1", "1.l0", "1.l0")):
        assert_same_bits(by_number[number], clamp(network, name, 1, output_gate=0.0).state_dict())
    assert not same_bits(by_number[0]["0.bias_ih_l0"], network.parameters["0.bias_ih_l0"])
    reverse = lw.LSTM(3, 4, reverse=True, seed=0)
    assert_same_bits(
        clamp(reverse, 0, 1, output_gate=0.0).state_dict(),
        clamp(reverse, "l0_reverse", 1, output_gate=0.0).state_dict(),
    )


def test_a_layer_of_a_network_is_copied_alone():
    network = lw.Network([lw.LSTM(3, 4, seed=0), lw.Linear(4, 1, seed=0)])
    held = clamp(network[0], "l0", 1, output_gate=0.0)
    assert isinstance(lw.Network([held, lw.Linear(4, 1)]), lw.Network)


def test_units_as_other_sequences():
    lstm = random_lstm(**SIZES)
    expected = clamp(lstm, 0, [1, 2, 3], output_gate=0.0).state_dict()
    for units in (range(1, 4), np.array([3, 2, 1]), (1, 2, 3, 3), {1, 2, 3}, [np.int32(1), 2, -4]):
        assert_same_bits(clamp(lstm, 0, units, output_gate=0.0).state_dict(), expected)


def test_coupled_gates_are_one():
    lstm = random_lstm(**SIZES, forget_gate="coupled")
    x = normal(1, (STEPS, ROWS, 3))
    for values in ({"forget_gate": 1.0}, {"input_gate": 0.0}, {"input_gate": 0.0, "forget_gate": 1.0}):
        shown = clamp(lstm, 0, 2, **values).trace(x)
        assert (shown.input_gate[..., 2] == 0).all()
        assert (shown.forget_gate[..., 2] == 1).all()
    with pytest.raises(ValueError, match=r"forget_gate: expected 1 - input_gate.* got 1 with input_gate=0\.5"):
        clamp(lstm, 0, 2, input_gate=0.5, forget_gate=1.0)


# ---- clamp: refusals.


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        ({"forget_gate": False}, {"forget_gate": 1.0}, "forget_gate: expected None for a cell without a forget gate"),
        ({"clip": 2.0}, {"output_gate": 1.0}, r"sigmoid with clip=2 reaches, from 0\.119.* to 0\.88.*got 1"),
        ({}, {"output_gate": 1.5}, "output_gate: expected a value that sigmoid reaches, from 0 to 1, got 1.5"),
        ({}, {"candidate": -1.1}, "candidate: expected a value that tanh reaches, from -1 to 1, got -1.1"),
        ({"activations": {"input": "thresholded_relu"}}, {"input_gate": 0.4}, "got 0.4; the nearest is 0"),
        ({"activations": {"input": ("affine", 0.0, 0.5)}}, {"input_gate": 0.4}, "from 0.5 to 0.5, got 0.4"),
        ({}, {}, "clamp: expected a value for input_gate"),
        ({}, {"forget_gate": np.nan}, "forget_gate: expected a finite number, got nan"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_held(options, values, message):
    with pytest.raises(ValueError, match=message):
        clamp(random_lstm(**SIZES, **options), 0, 1, **values)


def test_a_clip_that_a_value_lies_within(dtype):
    lstm = random_lstm(**SIZES, clip=2.0, dtype=dtype)
    values = clamp(lstm, 0, 1, output_gate=0.25).trace(normal(1, (STEPS, ROWS, 3))).output_gate[..., 1]
    assert_close(values, np.full(values.shape, 0.25), np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("layer", "unit", "error", "message"),
    [
        ("l1", 0, ValueError, "layer: expected one of l0, got 'l1'"),
        (1, 0, IndexError, "layer: expected -1 to 0, got 1"),
        (0.5, 0, TypeError, "layer: expected str or int, got float"),
        (True, 0, TypeError, "layer: expected str or int, got bool"),
        (0, 7, IndexError, "unit: expected -7 to 6, got 7"),
        (0, [0, -8], IndexError, r"unit\[1\]: expected -7 to 6, got -8"),
        (0, 1.0, TypeError, "unit: expected int or a sequence of int, got float"),
        (0, [[1]], TypeError, r"unit\[0\]: expected int, got list"),
        (0, "1", TypeError, "unit: expected int or a sequence of int, got str"),
        (0, None, TypeError, "unit: expected int or a sequence of int, got NoneType"),
        (0, [True] * 7, TypeError, r"unit\[0\]: expected int, got bool"),
    ],
)
def test_places_that_are_not_there(layer, unit, error, message):
    with pytest.raises(error, match=message):
        clamp(random_lstm(**SIZES), layer, unit, output_gate=0.0)


def test_modules_that_have_no_gates_over_time():
    with pytest.raises(TypeError, match="network: expected LSTM or Network, got LSTMCell"):
        clamp(lw.LSTMCell(3, 7), 0, 0, output_gate=0.0)
    with pytest.raises(ValueError, match="network: expected one with an LSTM, got Network"):
        clamp(lw.Network([lw.Linear(3, 7)]), 0, 0, output_gate=0.0)
    model = lw.LSTMLanguageModel(hidden_size=4, max_epochs=1, random_state=0).fit("to be or not to be " * 20)
    with pytest.raises(TypeError, match="got LSTMLanguageModel; its network_ is one"):
        clamp(model, 0, 0, output_gate=0.0)
    assert clamp(model.network_, 0, 0, output_gate=0.0).parameters
    with pytest.raises(TypeError, match="output_gate: expected float, got str"):
        clamp(random_lstm(**SIZES), 0, 0, output_gate="open")


# ---- ablate.


def network_and_batch(dtype="float32", **options):
    network = lw.Network([lw.LSTM(3, 7, seed=0, dtype=dtype, **options), lw.Linear(7, 2, seed=1, dtype=dtype)])
    return network, normal(1, (STEPS, ROWS, 3), dtype), normal(2, (STEPS, ROWS, 2), dtype)


def losses_one_by_one(network, layer, units, x, y, loss, gates=None, **call):
    """Copy, run and measure each alone."""
    result = []
    for unit in units:
        output = clamp(network, layer, unit, **(gates or {"output_gate": 0.0}))(x, **call)[0]
        lengths = {name: value for name, value in call.items() if name == "lengths"}
        result.append(loss(output, y, **lengths)[0])
    return np.array(result)


@pytest.mark.parametrize("budget", [1, 20_000, interventions._BYTES])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"layer_norm": True, "bias": False}, {"peephole": True}])
def test_losses_are_those_of_clamped_copies(options, budget, monkeypatch, dtype):
    monkeypatch.setattr(interventions, "_BYTES", budget)
    network, x, y = network_and_batch(dtype, **options)
    before = network.state_dict()
    found = ablate(network, x, y, "squared_error", lengths=LENGTHS)
    expected = losses_one_by_one(network, 0, range(7), x, y, lw.losses.squared_error, lengths=LENGTHS)
    assert_same_bits(found.losses, expected[found.units])
    assert sorted(found.units) == list(range(7))
    assert (np.diff(found.losses) <= 0).all()
    baseline = lw.losses.squared_error(network(x, lengths=LENGTHS)[0], y, lengths=LENGTHS)[0]
    assert found.baseline == baseline
    assert_same_bits(found.increases, found.losses - baseline)
    assert_same_bits(network.state_dict(), before)


def test_a_small_budget_means_fewer_copies_at_a_time(monkeypatch):
    network, x, y = network_and_batch()
    sizes = []
    unset = lw.Network._unset.__func__
    monkeypatch.setattr(
        lw.Network,
        "_unset",
        classmethod(lambda cls, config, members: sizes.append(members) or unset(cls, config, members)),
    )
    ablate(network, x, y, "squared_error")
    monkeypatch.setattr(interventions, "_BYTES", 20_000)
    ablate(network, x, y, "squared_error")
    monkeypatch.setattr(interventions, "_BYTES", 1)
    ablate(network, x, y, "squared_error")
    assert sizes[0] == 7
    assert sum(sizes) == 21
    assert sizes[-7:] == [1] * 7
    assert 1 < sizes[1] < 7


def test_the_unit_that_is_read_comes_first_and_one_that_harms_last():
    lstm = random_lstm(**SIZES)
    head = lw.Linear(7, 1, bias=False)
    head.parameters["weight"] = [[0, 0, 0, 1, 0, 0, 0]]
    network = lw.Network([lstm, head])
    x = normal(1, (20, 3, 3))
    y = network(x)[0]
    with network.edit() as parameters:
        parameters["1.weight"][0, 5] = 0.05
        parameters["0.weight_hh_l0"][:] = 0
    y = lstm.trace(x).hidden[..., 3:4]
    found = ablate(network, x, y, "squared_error")
    assert found.units[0] == 3
    assert found.units[-1] == 5
    assert found.increases[-1] < 0
    assert list(found.units[1:-1]) == [0, 1, 2, 4, 6]  # equal losses, by number
    assert (found.losses[1:-1] == found.baseline).all()
    assert repr(found).startswith(f"<Ablation of 0.l0: loss {found.baseline:.4g}, without unit 3: ")


def test_other_gates_units_and_layers():
    network = lw.Network([lw.LSTM(3, 7, 2, bidirectional=True, seed=0), lw.Linear(14, 2, seed=1)])
    x, y = normal(1, (STEPS, ROWS, 3)), normal(2, (STEPS, ROWS, 2))
    found = ablate(network, x, y, "huber", layer="0.l1_reverse", units=[5, -7, 5], forget_gate=1.0, delta=0.3)
    huber = functools.partial(lw.losses.huber, delta=0.3)
    expected = losses_one_by_one(network, "0.l1_reverse", (0, 5), x, y, huber, {"forget_gate": 1.0})
    assert found.layer == "0.l1_reverse"
    assert sorted(found.units) == [0, 5]
    assert dict(zip(found.units.tolist(), found.losses, strict=True)) == dict(zip((0, 5), expected, strict=True))
    assert_same_bits(
        ablate(network, x, y, huber, layer=1).losses, ablate(network, x, y, "huber", layer=1, delta=0.3).losses
    )


def test_a_bare_lstm_with_state_reset_and_batch_first():
    lstm = random_lstm(**SIZES, batch_first=True, num_layers=2)
    x, y = normal(1, (ROWS, STEPS, 3)), normal(2, (ROWS, STEPS, 7))
    state = normal(3, (2, ROWS, 7)), normal(4, (2, ROWS, 7))
    reset = np.arange(20).reshape(ROWS, STEPS) % 7 == 3
    found = ablate(lstm, x, y, "absolute_error", layer="l1", state=state, reset=reset)
    loss = functools.partial(lw.losses.absolute_error, batch_first=True)
    expected = losses_one_by_one(lstm, "l1", range(7), x, y, loss, state=state, reset=reset)
    assert found.layer == "l1"
    assert_same_bits(found.losses, expected[found.units])
    unbatched = ablate(lstm, x[0], y[0], "absolute_error", layer="l1")
    assert_same_bits(unbatched.losses, ablate(lstm, x[:1], y[:1], "absolute_error", layer="l1").losses)


def test_tokens_pooling_skip_and_weights():
    network = lw.Network(
        [lw.Embedding(VOCABULARY, 3, seed=0), lw.LSTM(3, 7, seed=1), lw.Last(), lw.Linear(7, 3, seed=2)]
    )
    x, y = np.arange(20).reshape(STEPS, ROWS) % VOCABULARY, np.array([0, 2, 1, 1])
    found = ablate(network, x, y, "cross_entropy", weights=[1, 0, 2, 1])
    loss = functools.partial(lw.losses.cross_entropy, weights=[1, 0, 2, 1])
    assert_same_bits(found.losses, losses_one_by_one(network, 0, range(7), x, y, loss)[found.units])
    lstm = random_lstm(**SIZES)
    x, y = normal(1, (STEPS, ROWS, 3)), normal(2, (STEPS, ROWS, 7))
    skip = np.arange(20).reshape(STEPS, ROWS) % 3 == 1
    found = ablate(lstm, x, y, "squared_error", skip=skip)
    loss = functools.partial(lw.losses.squared_error, weights=~skip)
    assert_same_bits(found.losses, losses_one_by_one(lstm, 0, range(7), x, y, loss, skip=skip)[found.units])


@pytest.mark.parametrize("with_gradient", [False, True])
def test_a_loss_of_ones_own(with_gradient):
    network, x, y = network_and_batch()

    def own(output, y, lengths=None, weights=None):
        assert output.shape == (STEPS, ROWS, 2)
        assert lengths is None or list(lengths) == [5, 0, 3, 1]
        assert weights == (None if lengths is None else "mine")
        loss = float(np.abs(output - y).max())
        return (loss, None) if with_gradient else loss

    def pair(output, y):
        return own(output, y) if with_gradient else (own(output, y), None)

    expected = losses_one_by_one(network, 0, range(7), x, y, pair)
    found = ablate(network, x, y, own)
    assert_same_bits(found.losses, expected[found.units])
    assert ablate(network, x, y, own, units=3, lengths=LENGTHS, weights="mine").losses.shape == (1,)


def test_a_batch_of_tensors():
    network, x, y = network_and_batch()
    expected = ablate(network, x, y, "squared_error")
    found = ablate(network, Tensor(x), Tensor(y), "squared_error")
    assert_same_bits(found.losses, expected.losses)
    assert found != expected


def test_what_ablate_refuses():
    network, x, y = network_and_batch()
    with pytest.raises(ValueError, match=r"network: expected one of one member, got one of 2; network\.member"):
        ablate(lw.Network([lw.LSTM(3, 7, seed=0)], members=2), x, y, "squared_error")
    with pytest.raises(ValueError, match="units: expected at least one, got none"):
        ablate(network, x, y, "squared_error", units=[])
    with pytest.raises(IndexError, match=r"units\[0\]: expected -7 to 6, got 7"):
        ablate(network, x, y, "squared_error", units=[7])
    with pytest.raises(ValueError, match="squared"):
        ablate(network, x, y, "squared")
    with pytest.raises(TypeError, match="loss: expected the name of one, or a callable, got int"):
        ablate(network, x, y, 3)
    with pytest.raises(ValueError, match=r"x: expected"):
        ablate(network, x[..., :2], y, "squared_error")
    with pytest.raises(ValueError, match=r"y: expected \(5, 4, 2\), got \(5, 4, 1\)"):
        ablate(network, x, y[..., :1], "squared_error")
    with pytest.raises(TypeError, match="loss: expected a function that returns a number, got ndarray"):
        ablate(network, x, y, lambda output, y: output)
    with pytest.raises(ValueError, match="skip: expected None with a loss function of your own"):
        ablate(network, x, y, lambda output, y: 0.0, skip=np.zeros((STEPS, ROWS), bool))
    with pytest.raises(TypeError, match="loss: expected a callable without options, got delta"):
        ablate(network, x, y, lambda output, y: 0.0, delta=1.0)
