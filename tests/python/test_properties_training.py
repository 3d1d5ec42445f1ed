"""Training any small network: a step equals its parts done by hand, and a step that is refused changes nothing."""

import copy

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from differences import parts_of
from generated import EVERY, PLAIN, input_of, networks, takes_tokens
from hypothesis import assume, given
from hypothesis import strategies as st

# Without zoneout, which acts at random in training, by masks that only the trainer knows.
DETERMINISTIC = {name: options for name, options in PLAIN.items() if "zoneout" not in options}
QUANTILES = (0.2, 0.5, 0.9)
LOSSES = ("cross_entropy", "squared_error", "absolute_error", "quantile")


@st.composite
def optimizers(draw):
    """The class of an optimiser, and its options."""
    decay = draw(st.sampled_from([0.0, 0.1]))
    kind = draw(st.sampled_from([lw.optim.SGD, lw.optim.Adam, lw.optim.AdamW]))
    options = {"lr": draw(st.sampled_from([0.0, 0.01, 0.3])), "weight_decay": decay}
    if kind is lw.optim.SGD:
        options["momentum"] = draw(st.sampled_from([0.0, 0.9]))
        options["nesterov"] = options["momentum"] > 0 and draw(st.booleans())
        options["dampening"] = 0.0 if options["nesterov"] else draw(st.sampled_from([0.0, 0.3]))
    else:
        options["betas"] = draw(st.sampled_from([(0.9, 0.999), (0.0, 0.5)]))
        # A smaller eps would magnify the rounding errors of a gradient that is nearly zero.
        options["eps"] = draw(st.sampled_from([1e-3, 0.1]))
    return kind, options


@st.composite
def minibatches(draw, network, loss):
    """x, y, lengths and reset. Steps and rows from 0 on."""
    steps, rows = draw(st.integers(0, 6)), draw(st.integers(0, 5))
    random = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    x = input_of(network, random.randint(2**31), steps, rows)
    shape = (rows,) if any(isinstance(module, lw.Last) for module in network) else (steps, rows)
    if loss == "cross_entropy":
        y = random.randint(0, 6, shape)
    else:
        y = random.uniform(-2, 2, (*shape, 2 if loss == "quantile" else 6)).astype(network.dtype)
    lengths = draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)) if draw(st.booleans()) else None
    reset = random.random_sample((steps, rows)) < 0.3 if draw(st.booleans()) else None
    return {"x": x, "y": y, "lengths": lengths, "reset": reset}


def loss_by_hand(loss, output, y, valid):
    """The mean over valid elements, and its gradient, in float64."""
    output, valid = output.astype(np.float64), valid[..., None]
    if loss == "cross_entropy":
        shifted = output - output.max(axis=-1, keepdims=True, initial=-np.inf)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
        is_label = np.arange(output.shape[-1]) == y[..., None]
        losses, slopes = -np.log((probabilities * is_label).sum(axis=-1, keepdims=True)), probabilities - is_label
    elif loss == "quantile":
        q = np.tile(QUANTILES, y.shape[-1])
        error = np.repeat(y.astype(np.float64), len(QUANTILES), axis=-1) - output
        losses, slopes = np.maximum(q * error, (q - 1) * error), np.where(error > 0, -q, 1 - q) * (error != 0)
    else:
        error = output - y
        squared = loss == "squared_error"
        losses, slopes = (error**2, 2 * error) if squared else (np.abs(error), np.sign(error))
    count = max(int(np.broadcast_to(valid, losses.shape).sum()), 1)
    return np.where(valid, losses, 0).sum() / count, np.where(valid, slopes, 0) / count


def step_by_hand(network, optimizer, loss, clip_norm, batch, state):
    """A step of training made of the parts that the package offers. The loss, and the end state."""
    tape = network.record(batch["x"], state, lengths=batch["lengths"], reset=batch["reset"], training=True, mask_seed=1)
    valid = np.ones(batch["y"].shape[: tape.output.ndim - 1], bool)
    if batch["lengths"] is not None and valid.ndim == 2:
        valid = np.arange(len(valid))[:, None] < np.array(batch["lengths"], int)
    mean, slopes = loss_by_hand(loss, tape.output, batch["y"], valid)
    gradients = tape.backward(slopes)
    if clip_norm is not None:
        lw.optim.clip_grad_norm(gradients, clip_norm)
    if valid.any():
        optimizer.step(gradients)
    return mean, tape.state


@given(st.data())
def test_a_step_is_record_loss_backward_clipping_and_optimiser(data):
    network = data.draw(networks(DETERMINISTIC))
    by_hand = copy.deepcopy(network)
    loss, (kind, options) = data.draw(st.sampled_from(LOSSES)), data.draw(optimizers())
    clip_norm = data.draw(st.sampled_from([None, 0.01, 1.0]))
    loss_options = {"quantiles": QUANTILES} if loss == "quantile" else {}
    trainer = lw.Trainer(network, loss=loss, optimizer=kind(**options), clip_norm=clip_norm, **loss_options)
    optimizer, state, hand_state = kind(by_hand, **options), None, None
    tolerance = 1e-4 if network.dtype == np.float32 else 1e-11
    for _ in range(data.draw(st.integers(1, 3))):
        batch = data.draw(minibatches(network, loss))
        expected, hand_end = step_by_hand(by_hand, optimizer, loss, clip_norm, batch, hand_state)
        actual, end = trainer.step(batch["x"], batch["y"], state, lengths=batch["lengths"], reset=batch["reset"])
        assert_close(actual, expected, tolerance, "loss")
        for place, (one, other) in enumerate(zip(parts_of(end), parts_of(hand_end), strict=True)):
            assert_close(one, other, tolerance, f"part {place} of the state")
        for name, value in network.parameters.items():
            assert_close(value, by_hand.parameters[name], tolerance, name)
    assert trainer.steps == optimizer.steps


def refusals(batch, tokens, labels):
    """Batches that must be refused, by the reason why."""
    x, y = batch["x"], batch["y"]
    yield "steps of y", batch | {"y": y[1:]}
    yield "features of y", batch | {"y": y[..., None] if labels else y[..., :-1]}
    yield "complex y", batch | {"y": y.astype(complex)}
    yield "text as x", batch | {"x": "x"}
    yield "number of lengths", batch | {"lengths": [0] * (x.shape[1] + 1)}
    yield "rows of reset", batch | {"reset": np.zeros((len(x), x.shape[1] + 1), bool)}
    if x.size and y.size:
        bad_x, bad_y = np.array(x), np.array(y)
        bad_x.flat[-1] = -1 if tokens else np.nan
        bad_y.flat[-1] = 6 if labels else np.inf
        yield "x out of range", batch | {"x": bad_x}
        yield "y out of range", batch | {"y": bad_y}
        yield "length out of range", batch | {"lengths": [len(x) + 1] * x.shape[1]}


@given(st.data())
def test_a_step_that_is_refused_changes_nothing(data):
    network = data.draw(networks(EVERY))
    loss, (kind, options) = data.draw(st.sampled_from(LOSSES)), data.draw(optimizers())
    others = {"loss": loss, "clip_norm": data.draw(st.sampled_from([None, 0.5])), "seed": 3}
    others |= {"quantiles": QUANTILES} if loss == "quantile" else {}
    twin = copy.deepcopy(network)
    trainers = [lw.Trainer(one, optimizer=kind(**options), **others) for one in (network, twin)]
    good = data.draw(minibatches(network, loss)) | {"lengths": None}
    assume(good["y"].size)
    for trainer in trainers:
        trainer.step(**good)
    before = network.state_dict()
    for reason, bad in refusals(good, takes_tokens(network), loss == "cross_entropy"):
        refused = None
        try:
            trainers[0].step(**bad)
        except (ValueError, TypeError) as error:
            refused = error
        assert refused is not None, reason
        assert_same_bits(network.state_dict(), before, reason)
        assert trainers[0].steps == 1
    # A step whose loss is not finite changes nothing either.
    spoilt = before | {name: np.full_like(value, np.nan) for name, value in before.items() if name.endswith(".weight")}
    network.load_state_dict(spoilt)
    with pytest.raises(RuntimeError, match="finite"):
        trainers[0].step(**good)
    assert_same_bits(network.state_dict(), spoilt)
    assert trainers[0].steps == 1
    network.load_state_dict(before)
    # The moments and the masks' counter have not moved either.
    losses = [trainer.step(**good)[0] for trainer in trainers]
    assert losses[0] == losses[1]
    assert_same_bits(network.state_dict(), twin.state_dict())
