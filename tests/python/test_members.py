"""Networks of several members compute bit for bit what single networks compute, in arrays with an axis of members."""

import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal
from members import (
    CHAINS,
    MEMBERS,
    PLAIN,
    ROWS,
    SEED,
    STEPS,
    VOCABULARY,
    Data,
    alone,
    lstm,
    member_of,
    seed_of,
    stacked,
    together,
)


@pytest.fixture(params=list(CHAINS))
def chain(request):
    return CHAINS[request.param]


@pytest.fixture(params=[True, False], ids=["shared", "separate"])
def shared(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    lw.set_num_threads(request.param)


@pytest.mark.usefixtures("threads")
def test_calls_give_each_members_bits(chain, shared, dtype):
    network, singles = together(chain, dtype), alone(chain, dtype)
    data = Data(network, shared, dtype)
    for state in (None, data.state):
        expected = [
            one(data.of(data.x, m), state and data.of(state, m), **data.common_of(m)) for m, one in enumerate(singles)
        ]
        assert_same_bits(network(data.x, state, **data.common), stacked(expected))


@pytest.mark.usefixtures("threads")
def test_recordings_and_gradients_are_each_members(chain, shared, dtype):
    network, singles = together(chain, dtype), alone(chain, dtype)
    data = Data(network, shared, dtype)
    tape = network.record(data.x, data.state, **data.common, training=True, mask_seed=SEED)
    tapes = [
        one.record(data.of(data.x, m), data.of(data.state, m), **data.common_of(m), training=True, mask_seed=seed_of(m))
        for m, one in enumerate(singles)
    ]
    assert_same_bits(tape.output, stacked([one.output for one in tapes]))
    assert_same_bits(tape.state, stacked([one.state for one in tapes]))
    grads = tape.backward(data.d_output, data.d_state)
    singles_grads = [one.backward(data.d_output[m], member_of(data.d_state, m)) for m, one in enumerate(tapes)]
    for _ in range(2):
        if grads.x is not None:  # None for tokens
            assert_same_bits(grads.x, stacked([one.x for one in singles_grads]))
        assert (grads.x is None) == isinstance(network[0], lw.Embedding)
        assert_same_bits(grads.state, stacked([one.state for one in singles_grads]))
        assert_same_bits(dict(grads.parameters), stacked([dict(one.parameters) for one in singles_grads]))
        assert_same_bits(grads.parameters.flat, np.concatenate([one.parameters.flat for one in singles_grads]))
        again = tape.backward(data.d_output, into=grads)  # adds to the parameters' gradients
        assert again.parameters is grads.parameters
        grads = again
        singles_grads = [
            one.backward(data.d_output[m], into=before)
            for m, (one, before) in enumerate(zip(tapes, singles_grads, strict=True))
        ]


@pytest.mark.usefixtures("threads")
def test_trainers_train_each_member_as_its_own(chain, shared, dtype):
    network, singles = together(chain, dtype), alone(chain, dtype)
    data = Data(network, shared, dtype)
    trainer, *trainers = (
        lw.Trainer(net, "squared_error", lw.optim.Adam(lr=0.01), 0.05, seed=seed)
        for net, seed in [(network, SEED), *((one, seed_of(m)) for m, one in enumerate(singles))]
    )
    for call in ("step", "step", "evaluate", "step"):
        losses, state = getattr(trainer, call)(data.x, data.y, data.state, **data.common)
        expected = [
            getattr(one, call)(data.of(data.x, m), data.of(data.y, m), data.of(data.state, m), **data.common_of(m))
            for m, one in enumerate(trainers)
        ]
        assert_same_bits(losses, np.array([loss for loss, _ in expected]))
        assert_same_bits(state, stacked([end for _, end in expected]))
    assert trainer.steps == 3
    assert_same_bits(network.state_dict(), stacked([one.state_dict() for one in singles]))


@pytest.mark.parametrize("loss", ["cross_entropy", "absolute_error", "quantile"])
def test_every_loss_is_each_members(loss, shared):
    network, singles = together(PLAIN), alone(PLAIN)
    data = Data(network, shared)
    y = {
        "cross_entropy": np.random.RandomState(0).randint(0, 6, data.y.shape[:-1]),
        "absolute_error": data.y,
        "quantile": data.y[..., :3],
    }[loss]
    options = {"quantiles": [0.25, 0.75]} if loss == "quantile" else {}
    trainer = lw.Trainer(network, loss, lw.optim.SGD(lr=0.1, momentum=0.5), seed=0, **options)
    trainers = [lw.Trainer(one, loss, lw.optim.SGD(lr=0.1, momentum=0.5), seed=0, **options) for one in singles]
    for _ in range(2):
        losses, _ = trainer.step(data.x, y)
        expected = [one.step(data.of(data.x, m), data.of(y, m))[0] for m, one in enumerate(trainers)]
        assert_same_bits(losses, np.array(expected))
    assert_same_bits(network.state_dict(), stacked([one.state_dict() for one in singles]))


def test_a_loss_that_is_not_finite_changes_no_member():
    network = together(PLAIN)
    data = Data(network, False)
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.01), seed=0)
    trainer.step(data.x, data.y)
    with network.edit() as parameters:
        parameters["0.bias_ih_l0"][1, 0] = np.nan
    before = network.state_dict()
    with pytest.raises(RuntimeError, match="loss of member 1: expected a finite number, got nan; nothing was changed"):
        trainer.step(data.x, data.y)
    assert_same_bits(network.parameters["0.weight_hh_l0"], before["0.weight_hh_l0"])
    assert trainer.steps == 1


def test_optimisers_and_clipping_are_each_members():
    network, singles = together(PLAIN), alone(PLAIN)
    data = Data(network, True)
    optimiser = lw.optim.Adam(network, lr=0.01)
    optimisers = [lw.optim.Adam(one, lr=0.01) for one in singles]
    for _ in range(2):
        grads = network.record(data.x).backward(data.d_output)
        norms = lw.optim.clip_grad_norm(grads, 5.0)
        expected = []
        for m, one in enumerate(singles):
            own = one.record(data.x).backward(data.d_output[m])
            expected.append(lw.optim.clip_grad_norm(own, 5.0))
            assert_same_bits(grads.parameters["0.weight_ih_l0"][m], own.parameters["0.weight_ih_l0"])
            optimisers[m].step(own)
        assert min(expected) > 5.0 / 2
        assert_same_bits(norms, np.array(expected))
        optimiser.step(grads)
    assert_same_bits(network.state_dict(), stacked([one.state_dict() for one in singles]))
    restored = pickle.loads(pickle.dumps(optimiser))
    assert restored.steps == 2
    with pytest.raises(ValueError, match="gradients of"):
        optimisers[0].step(grads)


def test_traces_have_the_axis_of_members(chain, shared):
    network, singles = together(chain), alone(chain)
    data = Data(network, shared)
    trace = network.trace(data.x, data.state, **data.common)
    traces = [
        one.trace(data.of(data.x, m), data.of(data.state, m), **data.common_of(m)) for m, one in enumerate(singles)
    ]
    assert list(trace) == list(traces[0])
    for name in trace:
        assert_same_bits(tuple(trace[name]), stacked([tuple(one[name]) for one in traces]), name)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_streams_are_each_members(batch_size, dtype):
    def chain(seed, dtype):
        return [lstm(seed, dtype, num_layers=2, peephole=True, learn_start_state=True)]

    network, singles = together(chain, dtype), alone(chain, dtype)
    stream, streams = network.stream(batch_size), [one.stream(batch_size) for one in singles]
    inner = () if batch_size is None else (batch_size,)
    reset = True if batch_size is None else np.array([True, False, False, True])
    assert (stream.batch_size, stream.input_size, stream.output_size) == (batch_size, 3, 6)
    out = np.empty((MEMBERS, *inner, 6), dtype)
    for step in range(4):
        x = normal(step, (MEMBERS, *inner, 3), dtype)
        assert stream.step(x, out=out, reset=reset if step == 2 else None) is out
        own = [one.step(x[m], reset=reset if step == 2 else None) for m, one in enumerate(streams)]
        assert_same_bits(out, stacked(own))
        assert_same_bits(stream.step(x[0]), stacked([one.step(x[0]) for one in streams]))
    assert_same_bits(stream.state, stacked([one.state for one in streams]))
    stream.state = tuple(2 * part for part in stream.state)
    for one in streams:
        one.state = tuple(2 * part for part in one.state)
    assert_same_bits(stream.step(x), stacked([one.step(x[m]) for m, one in enumerate(streams)]))
    stream.reset()
    for one in streams:
        one.reset()
    assert_same_bits(stream.state, stacked([one.state for one in streams]))
    for wrong in (x[:2], x[..., :2], x.astype(np.int64), np.ones((2, MEMBERS, *inner, 3), dtype)):
        with pytest.raises((TypeError, ValueError), match=r"^x: "):
            stream.step(np.ascontiguousarray(wrong))
    for bad in (np.zeros((2, *inner), bool), np.full((MEMBERS, *inner), 2)):
        with pytest.raises((TypeError, ValueError), match=r"^reset: "):
            stream.step(x, reset=bad)
    own_reset = np.zeros((MEMBERS, *inner), bool)
    own_reset[1] = True
    expected = [one.step(x[m], reset=own_reset[m] if inner else bool(own_reset[m])) for m, one in enumerate(streams)]
    assert_same_bits(stream.step(x, reset=own_reset), stacked(expected))


@pytest.mark.parametrize("batch_size", [None, 4])
def test_streams_of_tokens_are_each_members(batch_size):
    network, singles = together(CHAINS["tokens"]), alone(CHAINS["tokens"])
    stream, streams = network.stream(batch_size), [one.stream(batch_size) for one in singles]
    inner = () if batch_size is None else (batch_size,)
    random = np.random.RandomState(0)
    for _ in range(3):
        own = random.randint(0, VOCABULARY, (MEMBERS, *inner))
        expected = [one.step(own[m] if inner else int(own[m])) for m, one in enumerate(streams)]
        assert_same_bits(stream.step(own), stacked(expected))
        shared = own[0] if inner else int(own[0])
        assert_same_bits(stream.step(shared), stacked([one.step(shared) for one in streams]))
    own[-1] = VOCABULARY
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 5"):
        stream.step(own)


def test_streams_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="forward LSTMs only"):
        together(CHAINS["reverse"]).stream()


def test_unbatched_input_is_shared():
    network, singles = together(PLAIN), alone(PLAIN)
    x, state = normal(0, (STEPS, 3)), (normal(1, (1, 6)), normal(2, (1, 6)))
    assert_same_bits(network(x, state), stacked([one(x, state) for one in singles]))
    own = tuple(np.stack([part] * MEMBERS) for part in state)
    assert_same_bits(network(x, own), network(x, state))
    resets = np.zeros((MEMBERS, STEPS), bool)
    resets[1, 3] = True
    expected = [one(x, state, reset=resets[m]) for m, one in enumerate(singles)]
    assert_same_bits(network(x, state, reset=resets), stacked(expected))
    tape = network.record(x)
    assert tape.backward(np.ones_like(tape.output)).x.shape == (MEMBERS, STEPS, 3)
    assert network.trace(x).cell.shape == (MEMBERS, STEPS, 6)
    losses, _ = lw.Trainer(network, "squared_error", lw.optim.Adam()).step(x, np.zeros((STEPS, 6)))
    assert losses.shape == (MEMBERS,)


def test_separate_input_may_have_any_layout():
    network = together(PLAIN)
    x = normal(0, (MEMBERS, STEPS, ROWS, 3))
    expected = network(x)
    for other in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, axis=0)[::2], x[::-1][::-1]):
        assert_same_bits(network(other), expected)
    flipped = network(x[::-1, ::-1])
    assert_same_bits(flipped, network(np.ascontiguousarray(x[::-1, ::-1])))


@pytest.mark.parametrize(("steps", "rows"), [(0, 4), (5, 0), (0, 0)])
def test_empty_input_is_valid(steps, rows, shared):
    network, singles = together(PLAIN), alone(PLAIN)
    x = np.zeros((steps, rows, 3) if shared else (MEMBERS, steps, rows, 3), np.float32)
    output, state = network(x)
    assert_same_bits((output, state), stacked([one(x if shared else x[m]) for m, one in enumerate(singles)]))
    grads = network.record(x).backward(output)
    assert grads.x.shape == (MEMBERS, steps, rows, 3)
    assert not grads.parameters.flat.any()
