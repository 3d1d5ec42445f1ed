"""The variants of the cell in a call: single steps of LSTMCell, trained start states, activations."""

import latchwork as lw
import numpy as np
import pytest
from cell_options import ACTIVATIONS, GATES, RICH, STACK, one_direction
from comparison import assert_same_bits
from layers import normal


def perturbed(module, seed=1):
    """The module with random parameters, norms and start states included."""
    module.load_state_dict(
        {
            name: 0.5 * normal(seed + place, value.shape, module.dtype)
            for place, (name, value) in enumerate(module.parameters.items())
        }
    )
    return module


@pytest.mark.parametrize("place", range(len(RICH)))
def test_a_cell_is_one_step_of_a_layer(place, dtype):
    options = one_direction(RICH[place][0]) | {"dtype": dtype}
    lstm = perturbed(lw.LSTM(**options))
    cell = lw.LSTMCell(**options)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    x = normal(1, (6, 3), dtype)
    h, c = normal(2, (6, cell.proj_size or 5), dtype), normal(3, (6, 5), dtype)
    for state in (None, (h, c)):
        layer_state = None if state is None else (h[None], c[None])
        _, (h_n, c_n) = lstm(x[None], layer_state)
        assert_same_bits(cell(x, state), (h_n[0], c_n[0]))
        row_state = None if state is None else (h[2], c[2])
        assert_same_bits(cell(x[2], row_state), (h_n[0, 2], c_n[0, 2]))


@pytest.mark.parametrize("proj_size", [0, 2])
def test_a_state_that_is_not_passed_is_the_learned_one(proj_size, dtype):
    lstm = perturbed(lw.LSTM(**STACK, proj_size=proj_size, learn_start_state=True, dtype=dtype))
    x = normal(1, (7, 4, 3), dtype)
    names = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    start = tuple(
        np.repeat(np.stack([lstm.parameters[part + name] for name in names])[:, None], 4, axis=1)
        for part in ("h_0", "c_0")
    )
    assert_same_bits(lstm(x), lstm(x, start))
    zeros = tuple(np.zeros_like(part) for part in start)
    assert not np.array_equal(lstm(x)[0], lstm(x, zeros)[0])

    cell = perturbed(lw.LSTMCell(3, 5, proj_size=proj_size, learn_start_state=True, dtype=dtype))
    start = tuple(np.tile(cell.parameters[name], (4, 1)) for name in ("h_0", "c_0"))
    assert_same_bits(cell(x[0]), cell(x[0], start))


def test_a_reset_goes_back_to_the_learned_state(dtype):
    lstm = perturbed(lw.LSTM(3, 5, 2, learn_start_state=True, dtype=dtype))
    x, passed = normal(1, (7, 4, 3), dtype), (normal(2, (2, 4, 5), dtype), normal(3, (2, 4, 5), dtype))
    reset = np.zeros((7, 4), bool)
    reset[0] = reset[3] = True
    output, state = lstm(x, passed, reset=reset)
    assert_same_bits(output[:3], lstm(x[:3])[0])
    assert_same_bits((output[3:], state), lstm(x[3:]))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("recurrent_dropout", 0.5, "0"), ("weight_dropout", 1, "0"), ("recurrent_dropout_on", "candidate", "'hidden'")],
)
def test_dropouts_of_a_cell_would_never_act_and_are_refused(option, value, expected):
    message = (
        f"{option}: expected {expected} for a cell, which cannot be recorded, so that nothing would ever be dropped"
    )
    with pytest.raises(ValueError, match=f"^{message}, got "):
        lw.LSTMCell(3, 5, **{option: value})
    lw.LSTMCell(3, 5, recurrent_dropout=0, recurrent_dropout_on="hidden", weight_dropout=0.0)


def test_every_gate_takes_every_activation():
    x = normal(1, (5, 4, 3))
    for gate, default in GATES.items():
        # Without bounds an exponential would soon be infinite.
        outputs = [
            perturbed(lw.LSTM(3, 5, activations={gate: name}, clip=2, cell_clip=2))(x)[0] for name in ACTIVATIONS
        ]
        assert all(np.isfinite(output).all() for output in outputs)
        plain = perturbed(lw.LSTM(3, 5, clip=2, cell_clip=2))(x)[0]
        assert sum(np.array_equal(output, plain) for output in outputs) in (1, 2)
        assert np.array_equal(outputs[list(ACTIVATIONS).index(default)], plain)
