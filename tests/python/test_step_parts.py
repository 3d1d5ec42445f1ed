"""A training step in its parts: gradient, exchange and apply; gradients layer by layer; rows of a larger batch."""

import copy

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal

STEPS, ROWS, FEATURES, OUTPUTS = 5, 6, 3, 2
X, Y = normal(1, (STEPS, ROWS, FEATURES)), normal(2, (ROWS, OUTPUTS))


def trainer_of(members=1, seed=4, dtype="float32"):
    options = {"dropout": 0.5, "recurrent_dropout": 0.25, "weight_dropout": 0.25, "zoneout": (0.25, 0.25)}
    layers = [
        lw.LSTM(FEATURES, 7, 2, seed=seed, dtype=dtype, **options),
        lw.LSTM(7, 4, seed=seed, dtype=dtype),
        lw.Last(),
        lw.Linear(4, OUTPUTS, seed=seed, dtype=dtype),
    ]
    network = lw.Network(layers, members=members)
    return lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.01), clip_norm=0.1, seed=9)


def parameters_of(trainer):
    return trainer.network.state_dict()


@pytest.fixture(params=[1, 3])
def members(request):
    return request.param


def test_gradient_and_apply_together_are_a_step(members, dtype):
    whole, parts = trainer_of(members, dtype=dtype), trainer_of(members, dtype=dtype)
    state = None
    for step in range(3):
        expected, expected_state = whole.step(X, Y, state)
        before = parameters_of(parts)
        loss, state = parts.gradient(X, Y, state)
        assert_same_bits(loss, expected)
        assert_same_bits(state, expected_state)
        assert_same_bits(parameters_of(parts), before)
        assert parts.steps == step
        parts.apply()
        assert_same_bits(parameters_of(parts), parameters_of(whole))


def test_gradients_are_those_of_a_tape(members, dtype):
    trainer = trainer_of(members, dtype=dtype)
    network = lw.Network([lw.LSTM(3, 4, seed=1, dtype=dtype), lw.Linear(4, 2, seed=1, dtype=dtype)], members=members)
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=1.0))
    y = normal(3, (STEPS, ROWS, 2), dtype)
    trainer.gradient(X, y)
    tape = network.record(X)
    expected = tape.backward(2 * (tape.output - y) / (STEPS * ROWS * 2)).parameters
    assert trainer.gradients.keys() == expected.keys()
    for name, gradient in trainer.gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-7)


def test_what_is_written_into_the_gradients_is_applied():
    network = lw.Network([lw.LSTM(3, 4, seed=1)])
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=1.0))
    trainer.gradient(X, normal(3, (STEPS, ROWS, 4)))
    before = parameters_of(trainer)
    trainer.gradients.flat[:] = 0
    trainer.gradients["0.bias_ih_l0"][:] = 0.5
    trainer.apply()
    expected = before | {"0.bias_ih_l0": before["0.bias_ih_l0"] - np.float32(0.5)}
    assert_same_bits(parameters_of(trainer), expected)


def test_gradients_outlive_their_trainer():
    trainer = trainer_of()
    trainer.gradient(X, Y)
    flat, expected = trainer.gradients.flat, trainer.gradients.flat.copy()
    del trainer
    assert_same_bits(flat, expected)


def test_layers_are_ready_from_the_top_down(members):
    trainer = trainer_of(members)
    told, copies = [], []

    def ready(layer, member, values):
        told.append((layer, member))
        copies.append(values.copy())
        assert np.shares_memory(values, trainer_gradients)

    trainer_gradients = trainer.gradients.flat
    trainer.gradient(X, Y, ready=ready)
    assert told == [(layer, member) for layer in (3, 1, 0) for member in range(members)]
    by_place = dict(zip(told, copies, strict=True))
    in_order = [by_place[layer, member] for member in range(members) for layer in (0, 1, 3)]
    assert_same_bits(np.concatenate(in_order), trainer.gradients.flat)


def test_what_is_written_while_layers_become_ready_is_applied():
    def halve(layer, member, values):
        values *= 0.5

    one, other = trainer_of(), trainer_of()
    one.gradient(X, Y, ready=halve)
    other.gradient(X, Y)
    assert_same_bits(one.gradients.flat, other.gradients.flat * np.float32(0.5))


def test_ready_may_use_the_network(members):
    trainer = trainer_of(members)
    expected = trainer.network(X)
    outputs = []
    trainer.gradient(X, Y, ready=lambda layer, member, values: outputs.append(trainer.network(X)))
    for output in outputs:
        assert_same_bits(output, expected)


def test_an_error_in_ready_is_passed_on_and_nothing_is_applied(members):
    trainer = trainer_of(members)
    before = parameters_of(trainer)

    def fails(layer, member, values):
        raise KeyError(layer)

    with pytest.raises(KeyError, match="3"):
        trainer.gradient(X, Y, ready=fails)
    with pytest.raises(RuntimeError, match="gradient"):
        trainer.apply()
    assert_same_bits(parameters_of(trainer), before)
    assert trainer.steps == 0
    trainer.step(X, Y)
    assert trainer.steps == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda trainer: trainer.step(X, Y),
        lambda trainer: trainer.gradient(X, Y),
        lambda trainer: trainer.apply(),
        lambda trainer: trainer.steps,
        lambda trainer: setattr(trainer, "lr", 0.1),
    ],
    ids=["step", "gradient", "apply", "steps", "lr"],
)
def test_ready_cannot_call_its_trainer(call, members):
    trainer = trainer_of(members)
    with pytest.raises(RuntimeError, match=r"ready\(\) and a loss cannot call the trainer"):
        trainer.gradient(X, Y, ready=lambda layer, member, values: call(trainer))
    trainer.step(X, Y)
    assert trainer.steps == 1


def test_apply_needs_a_gradient_and_applies_it_once():
    trainer = trainer_of()
    with pytest.raises(RuntimeError, match=r"apply\(\): expected a call of gradient\(\)"):
        trainer.apply()
    trainer.gradient(X, Y)
    trainer.gradients.flat[3] = np.nan
    before = parameters_of(trainer)
    with pytest.raises(RuntimeError, match="norm of the gradient: expected a finite number, got nan"):
        trainer.apply()
    assert_same_bits(parameters_of(trainer), before)
    trainer.gradients.flat[3] = 0  # mended
    trainer.apply()
    assert trainer.steps == 1
    with pytest.raises(RuntimeError, match=r"apply\(\): expected a call of gradient\(\)"):
        trainer.apply()
    assert trainer.steps == 1


def test_parts_of_a_batch_have_the_masks_of_the_whole(dtype):
    whole, parts = trainer_of(dtype=dtype), trainer_of(dtype=dtype)
    expected, _ = whole.gradient(X, Y)
    loss, gradient = 0.0, 0.0
    for rows in (slice(0, 2), slice(2, 3), slice(3, 6)):
        part_loss, _ = parts.gradient(X[:, rows], Y[rows], first_row=rows.start)
        share = (rows.stop - rows.start) / ROWS
        loss += share * part_loss
        gradient = gradient + share * parts.gradients.flat
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    assert loss == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(gradient, whole.gradients.flat, rtol=tolerance, atol=tolerance)
    other, _ = parts.gradient(X[:, 3:], Y[3:])
    assert other != part_loss  # other rows, other masks


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"first_row": -1}, ValueError, "^first_row"),
        ({"first_row": 1.0}, TypeError, "^first_row"),
        ({"first_row": 2**63}, ValueError, "^first_row"),
        ({"ready": 3}, TypeError, "^ready: expected a callable or None, got int"),
        ({"lengths": [1]}, ValueError, "^lengths"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, named):
    trainer = trainer_of()
    with pytest.raises(error, match=named):
        trainer.gradient(X, Y, **arguments)


def test_gradient_blocks(tmp_path):
    """The option decides the bits of every layer's gradient, and goes with copies and saved states."""
    x, y = np.ones((5, 12, 2), np.float32), np.zeros((5, 12, 1), np.float32)
    x *= np.arange(12, dtype=np.float32)[:, np.newaxis]

    def trainer(blocks):
        network = lw.Network([lw.LSTM(2, 3, seed=1), lw.Linear(3, 1, seed=2)])
        return lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.1), seed=3, gradient_blocks=blocks)

    def gradients(blocks):
        chosen = trainer(blocks)
        chosen.gradient(x, y)
        return chosen.gradients.flat.copy()

    def recorded(blocks, **options):
        network = trainer(None).network
        tape = network.record(x, gradient_blocks=blocks, **options)
        return tape.backward(lw.losses.squared_error(tape.output, y)[1]).parameters.flat

    np.testing.assert_array_equal(recorded(4), gradients(4))
    assert (recorded(4) != recorded(None)).any()
    skip = np.arange(60).reshape(5, 12) % 3 == 0
    assert (recorded(4, skip=skip) != recorded(1, skip=skip)).any()
    with pytest.raises(ValueError, match="gradient_blocks: expected 0 or a power of two up to 1024, got 12"):
        recorded(12)
    np.testing.assert_array_equal(gradients(None), gradients(1))
    assert (gradients(4) != gradients(1)).any()
    four = copy.deepcopy(trainer(4))
    four.gradient(x, y)
    np.testing.assert_array_equal(four.gradients.flat, gradients(4))
    with pytest.raises(ValueError, match=r"gradient_blocks: expected None, as this trainer has, got 4"):
        trainer(None).load_state_dict(four.state_dict())
    for wrong, error in ((3, ValueError), (0, ValueError), (2048, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match="gradient_blocks: expected"):
            trainer(wrong)
