"""backward(gates=True): the gradients with respect to every gate, cell and output of every step."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import data, directions_of, normal, random_lstm, variant_problem, weights_from_above
from variants import EVERY, PLAIN, random_options

SIGNALS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def gates_of(tape, d_output=None, d_state=None):
    return tape.backward(d_output, d_state, gates=True).gates


# ---- Finite differences: a cell in plain Python, in which any number that a trace shows can be changed.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class PlainCell:
    """One layer in one direction over one sequence, with ``change`` added to one signal of one step and unit."""

    def __init__(self, lstm, x, start):
        self.lstm, self.x, self.start = lstm, x, start
        self.p = {name.removesuffix("_reverse").removesuffix("_l0"): np.array(value) for name, value in
                  lstm.parameters.items()}  # fmt: skip

    def run(self, signal=None, step=None, unit=None, change=0.0):
        """h of all steps and the end state."""
        lstm, p = self.lstm, self.p
        h, c = (np.array(part) for part in self.start)
        hs = np.zeros((len(self.x), len(h)))
        for t in reversed(range(len(self.x))) if lstm.reverse else range(len(self.x)):

            def changed(name, value, t=t):
                if name == signal and t == step:
                    value = np.array(value)
                    value[unit] += change
                return value

            a = p["weight_ih"] @ self.x[t] + p["weight_hh"] @ h + p["bias_ih"] + p["bias_hh"]
            gates = "ifgo" if lstm.forget_gate is True else "igo"
            a = dict(zip(gates, np.split(a, len(gates)), strict=True))
            peephole = {}
            if lstm.peephole:
                names = gates.replace("g", "")
                peephole = dict(zip(names, np.split(p["weight_peephole"], len(names)), strict=True))
            i = sigmoid(a["i"] + peephole.get("i", 0.0) * c)
            if lstm.forget_gate == "coupled":
                # One number: whichever of the two is changed, the other follows.
                i = changed("input_gate", 1 - changed("forget_gate", 1 - i))
                f = 1 - i
            else:
                i = changed("input_gate", i)
                f = sigmoid(a["f"] + peephole.get("f", 0.0) * c) if lstm.forget_gate else np.ones_like(c)
                f = changed("forget_gate", f)
            g = changed("candidate", np.tanh(a["g"]))
            new_c = f * c + i * g
            if lstm.cell_clip is not None:
                new_c = np.clip(new_c, -lstm.cell_clip, lstm.cell_clip)
            zoneout_hidden, zoneout_cell = lstm.zoneout
            if not zoneout_cell:
                new_c = changed("cell", new_c)
            o = changed("output_gate", sigmoid(a["o"] + peephole.get("o", 0.0) * new_c))
            new_h = o * np.tanh(new_c)
            if lstm.proj_size:
                new_h = p["weight_hr"] @ new_h
            if zoneout_cell:
                new_c = changed("cell", zoneout_cell * c + (1 - zoneout_cell) * new_c)
            h = changed("hidden", zoneout_hidden * h + (1 - zoneout_hidden) * new_h)
            c = new_c
            hs[t] = h
        return hs, h, c


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reverse": True},
        {"forget_gate": "coupled"},
        {"forget_gate": False},
        {"peephole": True},
        {"peephole": True, "forget_gate": "coupled"},
        {"proj_size": 2},
        {"cell_clip": 0.4},
        {"zoneout": (0.3, 0.2)},
        {"zoneout": (0.3, 0.0), "proj_size": 2, "peephole": True},
    ],
    ids=str,
)
def test_they_equal_finite_differences(options):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64", **options)
    x, hidden = normal(1, (6, 3), "float64"), lstm.proj_size or 5
    start = (normal(2, (hidden,), "float64"), normal(3, (5,), "float64"))
    d_output, d_h, d_c = normal(4, (6, hidden), "float64"), normal(5, (hidden,), "float64"), normal(6, (5,), "float64")
    tape = lstm.record(x, tuple(part[np.newaxis] for part in start), training=False)
    gates = gates_of(tape, d_output, (d_h[np.newaxis], d_c[np.newaxis]))
    cell = PlainCell(lstm, x, start)
    assert_close(cell.run()[0], tape.output, 1e-13)

    def loss(*change):
        hs, h, c = cell.run(*change)
        return (hs * d_output).sum() + (h * d_h).sum() + (c * d_c).sum()

    for signal in SIGNALS:
        actual = getattr(gates, signal)
        expected = np.zeros_like(actual)
        for step, unit in np.ndindex(actual.shape):
            ends = [loss(signal, step, unit, change) for change in (1e-5, -1e-5)]
            expected[step, unit] = (ends[0] - ends[1]) / 2e-5
        assert_close(actual, expected, 1e-8, signal)


# ---- PyTorch's autograd of a cell written out.


def compare_with_torch(torch_variants, options, start=True, ragged=False, reset=False):
    lstm, x, state, d_output, d_state, call = variant_problem(options, start, ragged, reset)
    expected = torch_variants.answer(lstm, x, state, d_output, d_state, **call, gates=True)
    gates = gates_of(lstm.record(x, state, **call, training=False), d_output, d_state)
    assert len(gates) == len(expected)
    for (name, actual), arrays in zip(gates.items(), expected, strict=True):
        for signal, array in zip(SIGNALS, arrays, strict=True):
            description = f"{signal} of {name} of {lstm} {call}"
            assert_close(getattr(actual, signal), array, TOLERANCE[lstm.dtype.name], description)


@pytest.mark.parametrize("name", PLAIN)
def test_each_variant_equals_torch(torch_variants, name, dtype):
    compare_with_torch(torch_variants, PLAIN[name] | {"dtype": dtype})
    compare_with_torch(torch_variants, PLAIN[name] | {"dtype": dtype}, start=False, ragged=True, reset=True)


@pytest.mark.parametrize("hidden_size", [1, 7, 17, 31])
def test_odd_sizes_equal_torch(torch_variants, hidden_size, dtype):
    compare_with_torch(torch_variants, {"hidden_size": hidden_size, "bidirectional": True, "dtype": dtype})


@pytest.mark.parametrize("index", range(40))
def test_combinations_equal_torch(torch_variants, index):
    options = random_options(index) | {"dtype": "float64"}
    compare_with_torch(torch_variants, options, start=index % 2 == 0, ragged=index % 3 > 0, reset=index % 4 > 1)


# ---- What the gradients are made of.


@pytest.mark.parametrize("kept", [1, 0])
def test_they_are_exact_where_gates_are_saturated(kept, dtype):
    lstm = random_lstm(input_size=3, hidden_size=9, dtype=dtype)
    candidate = slice(18, 27)
    with lstm.edit() as p:
        p["weight_hh_l0"][candidate] = 0
        p["bias_ih_l0"][:9] = 1000.0  # the input gate
        p["bias_ih_l0"][9:18] = 1000.0 if kept else -1000.0
        p["bias_ih_l0"][27:] = 1000.0
    x, start, _ = data(lstm, steps=6, rows=5)
    d_output, _ = weights_from_above(lstm, steps=6, rows=5)
    trace, tape = lstm.trace(x, start), lstm.record(x, start, training=False)
    assert (trace.input_gate == 1).all()
    assert (trace.forget_gate == kept).all()
    assert (trace.output_gate == 1).all()
    gradients = tape.backward(d_output, gates=True)
    gates, d_weight = gradients.gates, gradients.parameters["weight_ih_l0"]
    assert d_weight[candidate].any()
    assert not np.delete(d_weight, range(18, 27), axis=0).any()  # their slopes are zero
    d_later = np.zeros((5, 9))
    for step in reversed(range(6)):
        activated = np.tanh(trace.cell[step].astype("float64"))
        d_h = d_output[step].astype("float64")
        d_c = d_later + d_h * (1 - activated**2)
        c_prev = trace.cell[step - 1] if step else start[1][0]
        expected = (d_c * trace.candidate[step], d_c * c_prev, d_c, d_h * activated, d_c, d_h)
        for signal, array in zip(SIGNALS, expected, strict=True):
            assert_close(getattr(gates, signal)[step], array, 1e-6 if dtype == "float32" else 1e-13, signal)
            assert abs(getattr(gates, signal)[step]).min() > 0
        d_later = d_c * kept


def test_the_slopes_lead_on_to_the_gradient_of_what_is_added_to_the_pre_activations(dtype):
    lstm = random_lstm(input_size=5 * 4, hidden_size=5, dtype=dtype)
    lstm.parameters["weight_ih_l0"] = np.eye(20, dtype=dtype)  # x is added to the pre-activations
    x, start, _ = data(lstm, steps=6, rows=3)
    d_output, d_state = weights_from_above(lstm, steps=6, rows=3)
    trace = lstm.trace(x, start)
    gradients = lstm.record(x, start, training=False).backward(d_output, d_state, gates=True)
    i, f, g, o, *_ = trace["l0"]
    slopes = (i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o))
    d = [gate * slope for gate, slope in zip(gradients.gates["l0"][:4], slopes, strict=True)]
    assert_close(gradients.x, np.concatenate(d, axis=-1), 1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("name", ["coupled", "peephole, coupled", "everything, coupled"])
def test_coupled_gates_are_one_number(name, dtype):
    lstm = random_lstm(input_size=4, hidden_size=7, dtype=dtype, **PLAIN[name])
    x, start, _ = data(lstm, steps=6, rows=5)
    gates = gates_of(lstm.record(x, start, training=False), *weights_from_above(lstm, steps=6, rows=5))
    for signals in gates.values():
        assert (signals.forget_gate == -signals.input_gate).all()
        assert signals.input_gate.any()


def test_hidden_of_the_last_layer_without_recurrence_is_what_came_in():
    lstm = random_lstm(input_size=3, hidden_size=5)
    x, start, _ = data(lstm, steps=1, rows=5)
    d_output, d_state = weights_from_above(lstm, steps=1, rows=5)
    gates = gates_of(lstm.record(x, start, training=False), d_output, d_state)
    assert_same_bits(gates.hidden[0], d_output[0] + d_state[0][0])


# ---- Bits: neither threads, instruction sets, checkpoints nor the flag itself change one.


@pytest.mark.parametrize("name", ["plain", *EVERY])
def test_other_gradients_keep_their_bits_and_checkpoints_change_none(name, dtype):
    options = {"input_size": 5, "hidden_size": 17, "dtype": dtype} | EVERY.get(name, {})
    lstm = random_lstm(**options)
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    call = {"mask_seed": 7, "reset": reset}
    alone = lstm.record(x, start, **call).backward(d_output, d_state)
    assert alone.gates is None
    expected = lstm.record(x, start, **call).backward(d_output, d_state, gates=True)
    lw.set_num_threads(1)
    for checkpoint in (None, 4):
        again = lstm.record(x, start, **call, checkpoint=checkpoint).backward(d_output, d_state, gates=True)
        for gradients in (expected, again):
            assert_same_bits(gradients.x, alone.x)
            assert_same_bits(gradients.state, alone.state)
            assert_same_bits(gradients.parameters.flat, alone.parameters.flat)
        for key in expected.gates:
            assert_same_bits(again.gates[key], expected.gates[key])


@pytest.mark.parametrize("name", ["plain", "everything", "everything, coupled", "zoneout", "projection"])
@pytest.mark.parametrize("hidden_size", [1, 17, 200])
def test_threads_and_instruction_sets_change_no_bit(name, hidden_size, dtype):
    available = [isa for isa in lw.cpu_info()["available_isas"] if isa != "baseline"]
    options = {"input_size": 5, "hidden_size": hidden_size, "dtype": dtype} | PLAIN.get(name, {})
    if hidden_size == 1:
        options.pop("proj_size", None)
    lstm = random_lstm(**options)
    rows = 70 if hidden_size == 17 else 3
    x, start, _ = data(lstm, rows=rows)
    d_output, d_state = weights_from_above(lstm, rows=rows)
    results = []
    for isa in available or lw.cpu_info()["available_isas"]:
        lw.set_isa(isa)
        for threads in (1, 2, 3):
            lw.set_num_threads(threads)
            results.append(gates_of(lstm.record(x, start, training=False), d_output, d_state))
    for gates in results[1:]:
        for key in gates:
            assert_same_bits(gates[key], results[0][key])


def test_each_row_has_the_bits_that_it_has_alone(dtype):
    lstm = random_lstm(input_size=5, hidden_size=17, num_layers=2, bidirectional=True, dtype=dtype)
    x, start, reset = data(lstm, rows=6)
    d_output, d_state = weights_from_above(lstm, rows=6)
    lengths = np.array([13, 0, 1, 13, 7, 12])
    x[7:, 4] = np.nan
    d_output[7:, 4] = np.nan
    gates = gates_of(lstm.record(x, start, lengths, reset, training=False), d_output, d_state)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = gates_of(
            lstm.record(x[:length, one], tuple(part[:, one] for part in start), reset=reset[:length, one],
                        training=False),
            d_output[:length, one], tuple(part[:, one] for part in d_state),
        )  # fmt: skip
        for key in gates:
            for whole, part in zip(gates[key], alone[key], strict=True):
                assert_same_bits(whole[:length, one], part)
                assert not whole[length:, one].any()


# ---- Axes, members, skipped steps.


def test_skipped_steps_are_left_out(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, dtype=dtype)
    x, start, _ = data(lstm, steps=9, rows=4)
    d_output, d_state = weights_from_above(lstm, steps=9, rows=4)
    skip = np.zeros((9, 4), bool)
    skip[[0, 3, 4, 8], :] = True
    skip[:, 2] = True
    x[skip] = np.nan
    tape = lstm.record(x, start, skip=skip, skip_output="zero", training=False)
    gates = gates_of(tape, d_output, d_state)
    kept = ~skip[:, 0]
    short = gates_of(lstm.record(x[kept], start, training=False, lengths=[5, 5, 0, 5]), d_output[kept], d_state)
    for key in gates:
        for whole, part in zip(gates[key], short[key], strict=True):
            assert_same_bits(whole[kept], part)
            assert not whole[skip].any()


def test_repeated_outputs_count_where_they_were_computed():
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    x, start, _ = data(lstm, steps=3, rows=1)
    skip = np.array([[False], [True], [False]])
    d_output, _ = weights_from_above(lstm, steps=3, rows=1)
    gates = gates_of(lstm.record(x, start, skip=skip, training=False), d_output)
    summed = np.array([d_output[0] + d_output[1], d_output[2]])
    expected = gates_of(lstm.record(x[[0, 2]], start, training=False), summed)
    assert_close(gates.hidden[[0, 2]], expected.hidden, 1e-15)


@pytest.mark.parametrize("batch_first", [False, True])
def test_axes_are_those_of_the_trace(batch_first):
    lstm = random_lstm(input_size=3, hidden_size=5, proj_size=2, batch_first=batch_first)
    swapped = lw.LSTM(3, 5, proj_size=2, batch_first=not batch_first)
    swapped.load_state_dict(lstm.state_dict())
    x = normal(1, (4, 6, 3))
    d_output = normal(2, (4, 6, 2))
    gates, trace = gates_of(lstm.record(x), d_output), lstm.trace(x)
    other = gates_of(swapped.record(x.swapaxes(0, 1)), d_output.swapaxes(0, 1))
    for signal in SIGNALS:
        assert getattr(gates, signal).shape == getattr(trace, signal).shape
        assert_same_bits(getattr(gates, signal), getattr(other, signal).swapaxes(0, 1))
    alone = gates_of(swapped.record(x[0] if batch_first else x[:, 0]), d_output[0] if batch_first else d_output[:, 0])
    for signal in SIGNALS:
        whole = getattr(gates, signal)
        assert_same_bits(getattr(alone, signal), whole[0] if batch_first else whole[:, 0])


@pytest.mark.parametrize("skips", [False, True])
def test_members_have_the_bits_that_they_have_alone(skips):
    layers = [lw.Embedding(11, 4, seed=0), lw.LSTM(4, 5, num_layers=2, seed=0), lw.LSTM(5, 3, seed=0), lw.Linear(3, 2)]
    network = lw.Network(layers, members=3)
    random = np.random.RandomState(0)
    tokens, lengths = random.randint(0, 11, (6, 4)), np.array([6, 2, 0, 5])
    skip = random.random_sample((3, 6, 4)) < 0.3 if skips else None
    tape = network.record(tokens, lengths=lengths, skip=skip)
    d_output = normal(1, tape.output.shape)
    gates = gates_of(tape, d_output)
    assert list(gates) == ["1.l0", "1.l1", "2.l0"]
    for member in range(3):
        own_skip = None if skip is None else skip[member]
        alone = network.member(member).record(tokens, lengths=lengths, skip=own_skip)
        expected = gates_of(alone, d_output[member])
        for key in gates:
            assert_same_bits(tuple(part[member] for part in gates[key]), tuple(expected[key]))
            assert gates[key].cell.any()


def test_into_adds_parameters_alone():
    lstm = random_lstm(input_size=3, hidden_size=5)
    tape = lstm.record(normal(1, (4, 6, 3)))
    first = tape.backward(normal(2, (4, 6, 5)), gates=True)
    kept = first.parameters.flat.copy()
    second = tape.backward(normal(2, (4, 6, 5)), into=first, gates=True)
    assert_same_bits(second.gates["l0"], first.gates["l0"])
    assert_same_bits(second.parameters.flat, kept + kept)


@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_do(steps, rows):
    lstm = random_lstm(input_size=3, hidden_size=5, bidirectional=True)
    gates = gates_of(lstm.record(np.zeros((steps, rows, 3))), np.zeros((steps, rows, 10)))
    assert gates["l0_reverse"].forget_gate.shape == (steps, rows, 5)


def test_nan_stays_in_its_row():
    lstm = random_lstm(input_size=3, hidden_size=5)
    d_output = normal(2, (4, 3, 5))
    d_output[2, 1, 0] = np.nan
    gates = gates_of(lstm.record(normal(1, (4, 3, 3))), d_output)
    for signal in SIGNALS:
        values = getattr(gates, signal)
        assert np.isnan(values[:2, 1]).any()
        assert np.isfinite(values[:, [0, 2]]).all()
        assert np.isfinite(values[3]).all()


# ---- The mapping, and what is refused.


def test_the_mapping_is_that_of_a_trace():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2)
    gradients = lstm.record(normal(1, (4, 3, 3))).backward(gates=True)
    gates = gradients.gates
    assert list(gates) == list(lstm.trace(normal(1, (4, 3, 3)))) == ["l0", "l1"]
    assert gates[1] is gates["l1"]
    assert repr(gates) == "GateGradients(l0, l1)"
    assert repr(gradients).endswith(", gates=GateGradients(l0, l1))")
    assert directions_of(lstm) == 1
    with pytest.raises(AttributeError, match=r'gates\.cell: expected one layer .* use gates\["name"\]\.cell with one'):
        _ = gates.cell
    with pytest.raises(KeyError):
        _ = gates["l2"]


def test_bad_arguments_are_refused():
    tape = random_lstm(input_size=3, hidden_size=5).record(np.ones((4, 3, 3)))
    with pytest.raises(TypeError, match="gates: expected bool, got int"):
        tape.backward(gates=1)
    with pytest.raises(ValueError, match="gates: expected False for a layer without gates, got True for Linear"):
        lw.Linear(3, 2).record(np.ones((4, 3))).backward(gates=True)
    assert len(lw.Network([lw.Linear(3, 2)]).record(np.ones((4, 3, 3))).backward(gates=True).gates) == 0
