"""Names and shapes of the parameters of the variants of the cell, and their initial values."""

import latchwork as lw
import numpy as np
import pytest
from cell_options import STACK, WITHOUT_FORGET_GATE
from comparison import assert_same_bits
from latchwork import _core


def expected_shapes(lstm, suffixes):
    units, output = lstm.hidden_size, lstm.proj_size or lstm.hidden_size
    gates = 4 if lstm.forget_gate is True else 3
    shapes = {}
    for place, suffix in enumerate(suffixes):
        above = place * 2 >= len(suffixes) > 1
        inputs = len(suffixes) // 2 * output if above else lstm.input_size
        shapes["weight_ih" + suffix] = (gates * units, inputs)
        shapes["weight_hh" + suffix] = (gates * units, output)
        if lstm.bias:
            shapes |= {name + suffix: (gates * units,) for name in ("bias_ih", "bias_hh")}
        if lstm.proj_size:
            shapes["weight_hr" + suffix] = (output, units)
        if lstm.peephole:
            shapes["weight_peephole" + suffix] = ((gates - 1) * units,)
        if lstm.layer_norm:
            for norm, size in (("ih", gates * units), ("hh", gates * units), ("cell", units)):
                shapes |= {f"norm_{norm}_{part}{suffix}": (size,) for part in ("weight", "bias")}
        if lstm.learn_start_state:
            shapes |= {"h_0" + suffix: (output,), "c_0" + suffix: (units,)}
    return shapes


@pytest.mark.parametrize("gate", [{}, *WITHOUT_FORGET_GATE])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("extra", [(), ("peephole",), ("layer_norm",), ("learn_start_state",),
                                   ("peephole", "layer_norm", "learn_start_state")])  # fmt: skip
def test_names_and_shapes_of_parameters(gate, proj_size, bias, extra):
    options = gate | {"proj_size": proj_size, "bias": bias} | dict.fromkeys(extra, True)
    lstm = lw.LSTM(**STACK, **options)
    expected = expected_shapes(lstm, ["_l0", "_l0_reverse", "_l1", "_l1_reverse"])
    assert [(name, value.shape) for name, value in lstm.parameters.items()] == list(expected.items())
    cell = lw.LSTMCell(3, 5, **options)
    expected = expected_shapes(cell, [""])
    assert [(name, value.shape) for name, value in cell.parameters.items()] == list(expected.items())
    for module in (lstm, cell):
        assert _core.parameter_count(module._config.modules) == sum(value.size for value in module.parameters.values())


def parameters_of(**options):
    return lw.LSTM(**({"input_size": 30, "hidden_size": 64, "dtype": "float64", "seed": 5} | options)).state_dict()


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.95 * bound
    assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)
    assert abs(values.std() / (bound / np.sqrt(3)) - 1) < 5 * np.sqrt(0.2 / values.size)


def assert_orthonormal_columns(values):
    np.testing.assert_allclose(values.T @ values, np.eye(values.shape[1]), atol=1e-13)


def test_plain_initial_values_are_torchs():
    p = parameters_of(peephole=True, layer_norm=True, learn_start_state=True, proj_size=16)
    for name in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "weight_peephole"):
        assert_uniform(p[f"{name}_l0"], 1 / 8)
    for norm in ("ih", "hh", "cell"):
        assert np.all(p[f"norm_{norm}_weight_l0"] == 1)
        assert np.all(p[f"norm_{norm}_bias_l0"] == 0)
    assert np.all(p["h_0_l0"] == 0)
    assert np.all(p["c_0_l0"] == 0)


@pytest.mark.parametrize("gate", [{}, *WITHOUT_FORGET_GATE])
def test_keras_initial_values(gate):
    p = parameters_of(init="keras", peephole=True, proj_size=16, **gate)
    rows = 192 if gate else 256
    assert_uniform(p["weight_ih_l0"], np.sqrt(6 / (30 + rows)))
    assert_uniform(p["weight_hr_l0"], np.sqrt(6 / (64 + 16)))
    assert_orthonormal_columns(p["weight_hh_l0"])
    assert np.all(p["weight_peephole_l0"] == 0)
    assert np.all(p["bias_hh_l0"] == 0)
    expected = np.zeros(rows)
    if not gate:
        expected[64:128] = 1
    np.testing.assert_array_equal(p["bias_ih_l0"], expected)


def test_orthogonal_initial_values():
    p = parameters_of(init="orthogonal", peephole=True)
    assert_uniform(p["weight_ih_l0"], np.sqrt(6 / (30 + 64)))
    for gate in np.split(p["weight_hh_l0"], 4):
        assert_orthonormal_columns(gate)
    for name in ("bias_ih_l0", "bias_hh_l0", "weight_peephole_l0"):
        assert np.all(p[name] == 0)


def test_chrono_initial_values():
    p = parameters_of(init="chrono", t_max=100, hidden_size=1000)
    i, f, g, o = np.split(p["bias_ih_l0"], 4)
    steps = np.exp(f)
    assert steps.min() >= 1 - 1e-12
    assert steps.max() <= 99 + 1e-12
    assert_uniform(steps - 50, 49 + 1e-9)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    assert not p["bias_hh_l0"].any()
    torch = parameters_of(hidden_size=1000)
    assert_same_bits(p["weight_hh_l0"], torch["weight_hh_l0"])
    coupled = np.split(
        parameters_of(init="chrono", t_max=100, hidden_size=1000, forget_gate="coupled")["bias_ih_l0"], 3
    )
    np.testing.assert_array_equal(coupled[0], i)
    assert not np.any(coupled[1:])


@pytest.mark.parametrize("init", ["torch", "keras", "orthogonal"])
def test_forget_bias(init):
    p, plain = parameters_of(init=init, forget_bias=-1.5), parameters_of(init=init)
    for name, value in (("bias_ih_l0", -1.5), ("bias_hh_l0", 0)):
        expected = np.array(plain[name])
        expected[64:128] = value
        np.testing.assert_array_equal(p[name], expected)
    assert_same_bits(p["weight_hh_l0"], plain["weight_hh_l0"])
