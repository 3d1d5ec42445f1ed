"""Zoneout and every kind of dropout in training: what the masks depend on, and what they do.

Masks are seen through layers in which arithmetic is exact: every activation is linear or constant, so that a state is a
product of masks and ones.
"""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import data, directions_of, normal, random_lstm, weights_from_above, with_gradients
from variants import RANDOM, forward_only

SIZES = {"input_size": 5, "hidden_size": 9}
STEPS, ROWS = 9, 8
LENGTHS = np.array([9, 0, 3, 1, 9, 5, 2, 8])


@pytest.fixture(params=RANDOM)
def lstm(request, isa, dtype):
    return random_lstm(dtype=dtype, **SIZES, **RANDOM[request.param])


def trained(lstm, x, start, above, seed, **options):
    return with_gradients(lstm, x, start, *above, training=True, mask_seed=seed, **options)


def differ(one, other):
    return not np.array_equal(one[0][0], other[0][0])


# ---- What the masks depend on.


def test_equal_seeds_give_equal_masks(lstm):
    (x, start, reset), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    options = {"lengths": LENGTHS, "reset": reset}
    first = trained(lstm, x, start, above, 3, **options)
    trained(lstm, x[:4], start, (above[0][:4], above[1]), 4)
    assert_same_bits(trained(lstm, x, start, above, 3, **options), first)
    large = trained(lstm, x, start, above, 2**63 + 5)
    assert_same_bits(trained(lstm, x, start, above, 2**63 + 5), large)
    assert differ(trained(lstm, x, start, above, 5), large)
    tape = lstm.record(x, start, training=True, mask_seed=3, **options)
    once, again = tape.backward(*above), tape.backward(*above)
    assert_same_bits((once.x, *once.state, dict(once.parameters)), (again.x, *again.state, dict(again.parameters)))
    assert_same_bits(once.x, first[0][3])


def test_different_seeds_give_different_masks(lstm):
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    results = [trained(lstm, x, start, above, seed) for seed in (3, 4, 2**32 + 3, None, None)]
    for place, one in enumerate(results):
        assert all(differ(one, other) for other in results[:place])
    with pytest.raises(ValueError, match="mask_seed"):
        lstm.record(x, start, training=True, mask_seed=-1)


def test_masks_do_not_depend_on_later_rows_steps_or_padding(lstm):
    """A mask is keyed by its step and row, so the first rows and steps of a batch are as if they were alone."""
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    ragged, _ = trained(lstm, x, start, above, 3, lengths=LENGTHS)
    for row in range(ROWS):
        cut, length = slice(row + 1), LENGTHS[row]
        fewer, _ = trained(
            lstm,
            x[:length, cut],
            tuple(part[:, cut] for part in start),
            (above[0][:length, cut], tuple(part[:, cut] for part in above[1])),
            3,
        )
        expected = ragged[0][:length, row], *(ragged[place][:, row] for place in (1, 2)), ragged[3][:length, row]
        actual = fewer[0][:, row], *(fewer[place][:, row] for place in (1, 2)), fewer[3][:, row]
        assert_same_bits(actual, expected, f"row {row} of length {length}")


def test_long_recordings_draw_the_same_masks_forward_and_backward(isa):
    """Backward draws the masks again, in parts cut differently, so its gradients must be those of the output."""
    options = forward_only(RANDOM["all, with projection"]) | {"proj_size": 2}
    lstm = random_lstm(dtype="float64", input_size=2, hidden_size=3, **options)
    x = normal(1, (300, 3, 2), "float64")
    tape = lstm.record(x, training=True, mask_seed=3)
    d_output = normal(2, tape.output.shape, "float64")
    gradient, direction = tape.backward(d_output).x, normal(3, x.shape, "float64")
    sides = [lstm.record(x + step * direction, training=True, mask_seed=3).output for step in (1e-6, -1e-6)]
    expected = ((sides[0] - sides[1]) * d_output).sum() / 2e-6
    assert_close((gradient * direction).sum() / 100, expected / 100, 1e-7)
    assert_same_bits(lstm.record(x[:100], training=True, mask_seed=3).output, tape.output[:100])


# ---- Masks made visible.

HIDDEN, MANY = 40, 150
CONSTANT_ONE, CONSTANT_ZERO = ("affine", 0, 1), ("affine", 0, 0)


def visible(forget=CONSTANT_ZERO, **options):
    """A layer with h = c = forget * c_prev + R_g h_prev + b_g, whose parameters are all zero."""
    activations = {
        "input": CONSTANT_ONE,
        "forget": forget,
        "candidate": "affine",
        "output": CONSTANT_ONE,
        "cell": "affine",
    }
    lstm = lw.LSTM(1, HIDDEN, activations=activations, dtype="float64", **options)
    lstm.load_state_dict({name: np.zeros(value.shape) for name, value in lstm.parameters.items()})
    return lstm


def set_candidate(lstm, name, value, layers=("l0",)):
    with lstm.edit() as parameters:
        for layer in layers:
            parameters[f"{name}_{layer}"][2 * HIDDEN : 3 * HIDDEN] = value


def ones(lstm, rows=MANY):
    states = lstm.num_layers * directions_of(lstm)
    return np.ones((states, rows, HIDDEN)), np.ones((states, rows, HIDDEN))


def assert_share(mask, share):
    """This share of the numbers is not zero, to within 5 standard deviations."""
    assert abs(np.mean(mask != 0) - share) < 5 * np.sqrt(share * (1 - share) / mask.size)


def assert_dropout_mask(mask, p):
    np.testing.assert_array_equal(np.unique(mask), [0, 1 / (1 - p)])
    assert_share(mask, 1 - p)


def assert_independent(masks, share):
    """Masks of which this share is not zero are both not zero as often as independent ones."""
    for place, one in enumerate(masks):
        for other in masks[:place]:
            assert_share((one != 0) & (other != 0), share**2)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_recurrent_dropout_on_hidden_has_one_mask_for_all_steps(isa, p):
    lstm = visible(recurrent_dropout=p)
    set_candidate(lstm, "weight_hh", np.eye(HIDDEN))  # h = mask * h_prev
    output = lstm.record(np.zeros((4, MANY, 1)), ones(lstm), training=True, mask_seed=1).output
    mask = output[0]
    assert_dropout_mask(mask, p)
    for step in range(4):
        np.testing.assert_allclose(output[step], mask ** (step + 1), rtol=1e-14)
    assert_share(mask[1:] * mask[:-1], (1 - p) ** 2)  # each row has its own mask
    assert_share(mask[:, 1:] * mask[:, :-1], (1 - p) ** 2)  # and each unit
    # A reset does not change the mask; h_prev is dropped, not the output.
    set_candidate(lstm, "bias_ih", 1.0)
    reset = np.zeros((4, MANY), bool)
    reset[2] = True
    output = lstm.record(np.zeros((4, MANY, 1)), training=True, mask_seed=1, reset=reset).output
    np.testing.assert_array_equal(output[0], np.ones((MANY, HIDDEN)))
    np.testing.assert_allclose(output[1], 1 + mask, rtol=1e-14)
    assert_same_bits(output[2:], output[:2])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_recurrent_dropout_on_candidates_has_a_mask_for_each_step_and_loses_no_memory(isa, p):
    lstm = visible(recurrent_dropout=p, recurrent_dropout_on="candidate")
    set_candidate(lstm, "bias_ih", 1.0)
    masks = lstm.record(np.zeros((3, MANY, 1)), training=True, mask_seed=1).output
    for mask in masks:
        assert_dropout_mask(mask, p)
    assert_independent(masks, 1 - p)
    assert_share(masks[:, 1:] * masks[:, :-1], (1 - p) ** 2)
    keeping = visible(CONSTANT_ONE, recurrent_dropout=p, recurrent_dropout_on="candidate")
    set_candidate(keeping, "bias_ih", 1.0)
    sums = keeping.record(np.zeros((3, MANY, 1)), training=True, mask_seed=1).output
    np.testing.assert_allclose(sums, np.cumsum(masks, axis=0), rtol=1e-14)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_weight_dropout_is_shared_by_rows_and_steps(isa, p):
    lstm = visible(weight_dropout=p)
    set_candidate(lstm, "weight_hh", 1.0)
    # Each row shows one column of R, and each column is shown twice.
    basis = np.concatenate([np.eye(HIDDEN)] * 2)[None]
    output = lstm.record(np.zeros((3, 2 * HIDDEN, 1)), (basis, np.zeros_like(basis)), training=True, mask_seed=1).output
    mask = output[0, :HIDDEN].T
    assert_dropout_mask(mask, p)
    assert_share(mask[1:] * mask[:-1], (1 - p) ** 2)
    assert_same_bits(output[:, HIDDEN:], output[:, :HIDDEN])
    for step in (1, 2):
        np.testing.assert_allclose(output[step], output[step - 1] @ mask.T, rtol=1e-13)
    # Nothing is dropped from the parameters themselves, nor from W x.
    assert np.all(lstm.parameters["weight_hh_l0"][2 * HIDDEN : 3 * HIDDEN] == 1)
    set_candidate(lstm, "weight_ih", 1.0)
    fed = lstm.record(np.ones((1, MANY, 1)), training=True, mask_seed=1).output
    np.testing.assert_array_equal(fed, np.ones_like(fed))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_zoneout_keeps_old_values_at_each_step_anew(isa, p):
    for place, pair in enumerate([(p, 0.0), (0.0, p)]):
        lstm = visible(zoneout=pair)  # the new h and c are 0
        kept = []
        for steps in (1, 2, 3):
            tape = lstm.record(np.zeros((steps, MANY, 1)), ones(lstm), training=True, mask_seed=1)
            kept.append(tape.state[place][0])
            assert not tape.state[1 - place].any()
            np.testing.assert_array_equal(np.unique(kept[-1]), [0, 1])
            assert_share(kept[-1], p**steps)
            assert_share(kept[-1][1:] * kept[-1][:-1], p ** (2 * steps))
        assert np.all(kept[1] <= kept[0])
        # Outside training the result is the mean of these.
        _, state = lstm(np.zeros((2, MANY, 1)), ones(lstm))
        np.testing.assert_allclose(state[place], p**2, rtol=1e-15)
    # h and c have masks of their own.
    tape = visible(zoneout=(p, p)).record(np.zeros((1, MANY, 1)), ones(lstm), training=True, mask_seed=1)
    assert_independent([tape.state[0], tape.state[1]], p)


def test_every_layer_and_direction_has_masks_of_its_own():
    p, layers = 0.5, ("l0", "l0_reverse", "l1", "l1_reverse")
    for options, name in (
        ({"recurrent_dropout": p}, "weight_hh"),
        ({"recurrent_dropout": p, "recurrent_dropout_on": "candidate"}, "bias_ih"),
        ({"weight_dropout": p}, "weight_hh"),
        ({"zoneout": (p, 0.0)}, None),
    ):
        lstm = visible(num_layers=2, bidirectional=True, **options)
        if name is not None:
            set_candidate(lstm, name, 1.0 if name == "bias_ih" else np.eye(HIDDEN), layers)
        masks = lstm.record(np.zeros((1, MANY, 1)), ones(lstm), training=True, mask_seed=1).state[0]
        if "weight_dropout" in options:  # it is the same for all rows
            masks = masks[:, :1]
        assert_independent(masks, 1 - p)
    # The LSTMs of a chain have masks of their own too.
    first, second = (visible(recurrent_dropout=p) for _ in range(2))
    second = lw.LSTM(HIDDEN, HIDDEN, activations=first.activations, dtype="float64", recurrent_dropout=p)
    second.load_state_dict({name: np.zeros(value.shape) for name, value in second.parameters.items()})
    for lstm in (first, second):
        set_candidate(lstm, "weight_hh", np.eye(HIDDEN))
    network = lw.Network([first, second])
    tape = network.record(np.zeros((1, MANY, 1)), (ones(first), ones(second)), training=True, mask_seed=1)
    assert_independent([state[0] for state in tape.state], 1 - p)


def test_masks_are_the_same_for_every_instruction_set(dtype):
    for name, options in RANDOM.items():
        lstm = random_lstm(dtype=dtype, **SIZES, **options)
        x, start, _ = data(lstm, STEPS, ROWS)
        outputs = []
        for isa in lw.cpu_info()["available_isas"]:
            lw.set_isa(isa)
            outputs.append(lstm.record(x, start, training=True, mask_seed=3).output)
        for output in outputs[1:]:
            assert_close(output, outputs[0], 1e-5 if dtype == "float32" else 1e-13, name)


# ---- Never and always.


def test_probability_zero_is_no_dropout(isa, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, num_layers=2, dropout=0.0, recurrent_dropout=0.0, weight_dropout=0.0)
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    assert_same_bits(trained(lstm, x, start, above, 3), with_gradients(lstm, x, start, *above))


@pytest.mark.parametrize("options", [{"recurrent_dropout": 1.0}, {"weight_dropout": 1.0}])
def test_probability_one_leaves_nothing_of_what_is_fed_back(isa, dtype, options):
    lstm, without = random_lstm(dtype=dtype, **SIZES, **options), random_lstm(dtype=dtype, **SIZES)
    without.parameters["weight_hh_l0"] = np.zeros((36, 9))
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    actual, gradients = trained(lstm, x, start, above, 3)
    expected, other_gradients = with_gradients(without, x, start, *above)
    # The gradient with respect to h_0 is zero, with the sign of the gradient that was dropped.
    assert not actual[4].any()
    assert not expected[4].any()
    assert_same_bits(actual[:4] + actual[5:], expected[:4] + expected[5:])
    assert not gradients["weight_hh_l0"].any()
    for name in ("weight_ih_l0", "bias_ih_l0"):
        assert_same_bits(gradients[name], other_gradients[name])


def test_probability_one_adds_no_candidate(isa, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, recurrent_dropout=1.0, recurrent_dropout_on="candidate", forget_gate=False)
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    (_, _, c_n, *_), gradients = trained(lstm, x, start, above, 3)
    assert_same_bits(c_n, start[1])  # nothing is forgotten, and nothing added
    assert not gradients["weight_ih_l0"][9:18].any()
    assert gradients["weight_ih_l0"][18:].any()


@pytest.mark.parametrize("training", [True, False])
def test_probability_one_keeps_the_state(isa, dtype, training):
    lstm = random_lstm(dtype=dtype, **SIZES, zoneout=(1.0, 1.0), learn_start_state=True)
    (x, start, reset), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    (output, h_n, c_n, d_x, d_h, d_c), _ = with_gradients(lstm, x, start, *above, training=training, mask_seed=3)
    assert_same_bits(output, np.repeat(start[0], STEPS, axis=0))
    assert_same_bits((h_n, c_n), start)
    assert not d_x.any()
    assert_close(d_h[0], above[0].sum(axis=0) + above[1][0][0], 1e-5 if dtype == "float32" else 1e-14)
    assert_same_bits(d_c, above[1][1])
    # After a reset zoneout keeps the learned start state, not the value before the reset.
    output = lstm.record(x, start, reset=reset, training=training, mask_seed=3).output
    after = np.cumsum(reset, axis=0) > 0
    expected = np.where(after[..., None], lstm.parameters["h_0_l0"], start[0])
    assert_same_bits(output, expected)


def test_dropout_of_everything_between_layers(isa, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, num_layers=2, dropout=1.0, residual=True)
    (x, start, _), above = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
    (output, *_), gradients = trained(lstm, x, start, above, 3)
    assert not gradients["weight_ih_l1"].any()
    # The residual connection bypasses the dropout.
    first, second = (lw.LSTM(size, 9, dtype=dtype) for size in (5, 9))
    for layer, single in enumerate((first, second)):
        parts = lstm.state_dict().items()
        single.load_state_dict({name.replace(f"_l{layer}", "_l0"): v for name, v in parts if f"_l{layer}" in name})
    lower = first(x, tuple(part[:1] for part in start))[0]
    upper = second(np.zeros_like(lower), tuple(part[1:] for part in start))[0]
    assert_same_bits(output, upper + lower)


@pytest.mark.parametrize("name", RANDOM)
def test_a_trainer_draws_new_masks_at_each_step_and_the_same_for_the_same_seed(name):
    def losses(seed):
        lstm = random_lstm(**SIZES, **RANDOM[name])
        trainer = lw.Trainer(lstm, loss="squared_error", optimizer=lw.optim.SGD(lr=0.0), seed=seed)
        (x, _, _), (y, _) = data(lstm, STEPS, ROWS), weights_from_above(lstm, STEPS, ROWS)
        return [trainer.step(x, y)[0] for _ in range(4)]

    one, again, other = losses(1), losses(1), losses(2)
    assert one == again
    assert len(set(one + other)) == 8
