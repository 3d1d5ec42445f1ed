"""Networks of several members: bit for bit what single networks give, in arrays with an axis of members."""

import copy
import pickle
import threading

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal

MEMBERS, STEPS, ROWS, SIZES = 3, 5, 4, {"input_size": 3, "hidden_size": 6}
SEED = 2**64 - 2  # the members' seeds wrap around
VOCABULARY = 5


def lstm(seed, dtype, **options):
    return lw.LSTM(**(SIZES | options), dtype=dtype, seed=seed)


# What makes the layers, from the seed and the dtype.
CHAINS = {
    "plain": lambda seed, dtype: [lstm(seed, dtype)],
    "stack": lambda seed, dtype: [lstm(seed, dtype, num_layers=2, bidirectional=True, proj_size=2, dropout=0.25)],
    "reverse": lambda seed, dtype: [lstm(seed, dtype, reverse=True, batch_first=True, bias=False)],
    "variants": lambda seed, dtype: [
        lstm(seed, dtype, peephole=True, layer_norm=True, zoneout=(0.25, 0.25), learn_start_state=True)
    ],
    "dropouts": lambda seed, dtype: [
        lstm(seed, dtype, num_layers=2, residual=True, recurrent_dropout=0.25, weight_dropout=0.25)
    ],
    "coupled": lambda seed, dtype: [
        lstm(
            seed, dtype, forget_gate="coupled", activations={"cell": "softsign"}, clip=0.5, cell_clip=0.25, init="keras"
        )
    ],
    "head": lambda seed, dtype: [lstm(seed, dtype, batch_first=True), lw.Linear(6, 4, dtype=dtype, seed=seed)],
    "tokens": lambda seed, dtype: [
        lw.Embedding(VOCABULARY, 3, dtype=dtype, seed=seed),
        lstm(seed, dtype),
        lw.Linear(6, VOCABULARY, activation="tanh", dtype=dtype, seed=seed),
    ],
    "last": lambda seed, dtype: [
        lstm(seed, dtype, bidirectional=True),
        lstm(seed, dtype, input_size=12),
        lw.Last(),
        lw.Linear(6, 4, dtype=dtype, seed=seed),
    ],
}


@pytest.fixture(params=list(CHAINS))
def chain(request):
    return CHAINS[request.param]


def seed_of(member):
    return (SEED + member) % 2**64


def together(chain, dtype="float32"):
    return lw.Network(chain(SEED, dtype), members=MEMBERS)


def alone(chain, dtype="float32"):
    return [lw.Network(chain(seed_of(member), dtype)) for member in range(MEMBERS)]


PLAIN = CHAINS["plain"]


def stacked(results):
    """One result of each member as one with an axis of members: arrays, tuples and mappings of them."""
    if isinstance(results[0], tuple):
        return tuple(stacked(parts) for parts in zip(*results, strict=True))
    if hasattr(results[0], "keys"):
        return {name: stacked([result[name] for result in results]) for name in results[0]}
    return np.stack(results)


class Data:
    """Arguments of a call, shared by all members or each member's own."""

    def __init__(self, network, shared, dtype="float32"):
        lead = () if shared else (MEMBERS,)
        axes = (ROWS, STEPS) if network.batch_first else (STEPS, ROWS)
        lstms = [layer for layer in network if isinstance(layer, lw.LSTM)]
        self.shared = shared
        random = np.random.RandomState(8)
        if isinstance(network[0], lw.Embedding):
            self.x = random.randint(0, VOCABULARY, (*lead, *axes))
        else:
            self.x = normal(1, (*lead, *axes, 3), dtype)
        self.state = self.states(lstms, lead, 2, dtype)
        output = network(self.x)[0]
        self.y = normal(4, (*lead, *output.shape[1:]), dtype)
        self.d_output = normal(5, output.shape, dtype)
        self.d_state = self.states(lstms, (MEMBERS,), 6, dtype)
        lengths = random.randint(0, STEPS + 1, (MEMBERS, ROWS))
        lengths[:, 1] = 0
        self.common = {
            "lengths": lengths[0] if shared else lengths,
            "reset": random.random_sample((*lead, *axes)) < 0.25,
        }

    @staticmethod
    def states(lstms, lead, seed, dtype):
        pairs = []
        for lstm in lstms:
            states = lstm.num_layers * (2 if lstm.bidirectional else 1)
            sizes = (lstm.proj_size or lstm.hidden_size, lstm.hidden_size)
            pairs.append(tuple(normal(seed + i, (*lead, states, ROWS, size), dtype) for i, size in enumerate(sizes)))
        return pairs[0] if len(pairs) == 1 else tuple(pairs)

    def of(self, value, member):
        if isinstance(value, tuple):
            return tuple(self.of(part, member) for part in value)
        return value if self.shared else value[member]

    def common_of(self, member):
        return {name: self.of(value, member) for name, value in self.common.items()}


def member_of(value, member):
    """One member's part of what always has the axis of members."""
    return tuple(member_of(part, member) for part in value) if isinstance(value, tuple) else value[member]


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
    arguments = ("squared_error", lw.optim.Adam(lr=0.01), 0.05)
    trainer = lw.Trainer(network, *arguments, seed=SEED)
    trainers = [lw.Trainer(one, *arguments, seed=seed_of(m)) for m, one in enumerate(singles)]
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
    for bad in (np.zeros((2, *inner), bool), np.zeros((MEMBERS, *inner), np.int64)):
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


def test_one_member_has_no_axis():
    network, other = lw.Network([lstm(5, "float32")], members=1), lw.Network([lstm(5, "float32")])
    x = normal(0, (STEPS, ROWS, 3))
    assert network.members == 1
    assert repr(network) == repr(other)
    assert_same_bits(network(x), other(x))
    assert_same_bits(network.member(0).state_dict(), network.state_dict())


def test_members_come_and_go(chain, dtype):
    network, singles = together(chain, dtype), alone(chain, dtype)
    assert network.members == MEMBERS
    for m, single in enumerate(singles):
        assert repr(network.member(m)) == repr(single)
        assert_same_bits(network.member(m).state_dict(), single.state_dict())
    assert_same_bits(network.member(-1).state_dict(), singles[-1].state_dict())
    again = lw.Network.stack(singles)
    assert repr(again) == repr(network)
    assert_same_bits(again.state_dict(), network.state_dict())
    name = next(iter(again.parameters))
    with again.member(0).edit() as parameters:
        parameters[name] += 1  # of a network that is independent
    assert_same_bits(again.state_dict(), network.state_dict())
    more = lw.Network.stack([singles[1], network])
    assert more.members == MEMBERS + 1
    assert_same_bits(more.member(0).state_dict(), singles[1].state_dict())
    assert_same_bits(more.member(MEMBERS).state_dict(), singles[-1].state_dict())
    for index, error in ((MEMBERS, IndexError), (-MEMBERS - 1, IndexError), ("0", TypeError), (1.0, TypeError)):
        with pytest.raises(error):
            network.member(index)


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        lw.Network.stack([])
    with pytest.raises(ValueError, match=r"networks\[1\]: expected the layers of networks\[0\]"):
        lw.Network.stack([lw.Network([lw.LSTM(3, 6)]), lw.Network([lw.LSTM(3, 6, dtype="float64")])])
    with pytest.raises(TypeError, match=r"networks\[0\]: expected Network, got LSTM"):
        lw.Network.stack([lw.LSTM(3, 6)])
    # How initial values were drawn is no difference.
    assert lw.Network.stack([lw.Network([lw.LSTM(3, 6, init=init)]) for init in ("torch", "keras")]).members == 2


def test_members_need_layers_as_they_were_built():
    written = lw.LSTM(3, 6, seed=0)
    written.parameters["bias_ih_l0"] = written.parameters["bias_ih_l0"]
    loaded = lw.LSTM(3, 6)
    loaded.load_state_dict(written.state_dict())
    for layer in (written, loaded, copy.deepcopy(written)):
        with pytest.raises(ValueError, match=r"layers\[1\]: expected a layer as it was built"):
            lw.Network([lw.Embedding(4, 3), layer], members=2)
        assert lw.Network([copy.deepcopy(layer)]).members == 1
    fresh = lw.LSTM(3, 6, seed=0)
    copies = [copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))]
    for layer in copies:
        network = lw.Network([layer], members=2)
        assert_same_bits(network.member(1).state_dict(), lw.Network([lw.LSTM(3, 6, seed=1)]).state_dict())
    with pytest.raises(ValueError, match=r"layers\[0\]: expected a layer that belongs to no network"):
        lw.Network([copies[0]], members=2)
    unseeded = lw.Network([lw.LSTM(3, 6)], members=2).parameters["0.weight_ih_l0"]
    assert (unseeded[0] != unseeded[1]).all()
    for members, error in ((0, ValueError), (2.0, TypeError), (True, TypeError), (2**62, ValueError)):
        with pytest.raises(error, match="^members: expected"):
            lw.Network([lw.LSTM(3, 6)], members=members)


def test_layers_share_the_members_weights():
    network = together(CHAINS["tokens"])
    x = normal(0, (STEPS, ROWS, 3))
    expected = [network.member(m)[1](x) for m in range(MEMBERS)]
    assert_same_bits(network[1](x), stacked(expected))
    assert network[1].parameters["weight_hh_l0"].shape == (MEMBERS, 24, 6)
    network[2].parameters["bias"] = np.arange(MEMBERS * VOCABULARY).reshape(MEMBERS, VOCABULARY)
    assert network.parameters["2.bias"][2, 1] == 2 * VOCABULARY + 1
    assert_same_bits(network.member(1)[2].parameters["bias"], np.arange(5, 10, dtype=np.float32))
    for layer, value in ((network[0], [1]), (network[2], np.ones(6)), (together(CHAINS["last"])[2], x)):
        with pytest.raises(ValueError, match="expected a layer of one member, got one of 3"):
            layer(value)
    layer = copy.deepcopy(network[1])
    assert_same_bits(layer(x), network[1](x))
    with pytest.raises(ValueError, match="expected a layer of one member or of 2, got one of 3"):
        lw.Network([layer], members=2)
    optimiser = lw.optim.SGD(network[2], lr=1.0)
    assert optimiser.steps == 0


def test_parameters_are_views_of_one_buffer():
    network = together(PLAIN)
    weights = network.parameters["0.weight_hh_l0"]
    assert weights.shape == (MEMBERS, 24, 6)
    assert not weights.flags.writeable
    network.parameters["0.weight_hh_l0"] = np.arange(MEMBERS * 24 * 6).reshape(MEMBERS, 24, 6)
    assert weights[2, 0, 1] == 2 * 24 * 6 + 1
    with network.edit() as parameters:
        parameters["0.weight_hh_l0"][1] = 7
    assert (weights[1] == 7).all()
    assert weights[2, 0, 1] == 2 * 24 * 6 + 1
    assert_same_bits(network.member(1).parameters["0.weight_hh_l0"], np.full((24, 6), 7, np.float32))
    state = network.state_dict()
    with pytest.raises(ValueError, match=r"0.bias_ih_l0: expected \(3, 24\), got \(24,\)"):
        network.load_state_dict(state | {"0.bias_ih_l0": np.zeros(24)})
    assert_same_bits(network.state_dict(), state)
    other = lw.Network([lw.LSTM(3, 6)], members=MEMBERS)
    other.load_state_dict(state)
    assert_same_bits(other.state_dict(), state)


def test_files_keep_members(chain, dtype, tmp_path):
    network = together(chain, dtype)
    network.save(tmp_path / "network.safetensors")
    again = lw.load(tmp_path / "network.safetensors")
    assert repr(again) == repr(network)
    assert_same_bits(again.state_dict(), network.state_dict())
    for index, layer in enumerate(network):
        layer.save(tmp_path / f"{index}.safetensors")
        assert_same_bits(lw.load(tmp_path / f"{index}.safetensors").state_dict(), layer.state_dict())


def test_copies(chain, dtype):
    network = together(chain, dtype)
    data = Data(network, True, dtype)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), copy.copy(network)):
        assert repr(other) == repr(network)
        assert other.members == MEMBERS
        assert_same_bits(other.state_dict(), network.state_dict())
        assert_same_bits(other(data.x), network(data.x))
        name = next(iter(other.parameters))
        other.parameters[name] = np.zeros_like(other.parameters[name])
        assert network.parameters[name].any()
    assert repr(network).endswith("], members=3)")


def test_what_does_not_fit_is_refused():
    network = together(PLAIN)
    x = normal(0, (STEPS, ROWS, 3))
    shapes = r"\(3, T, N, 3\) or \(T, N, 3\) or \(T, 3\)"
    for wrong in (normal(0, (2, STEPS, ROWS, 3)), normal(0, (MEMBERS, STEPS, ROWS, 4)), normal(0, (5,)), x[..., :2]):
        with pytest.raises(ValueError, match=rf"^x: expected {shapes}, got"):
            network(wrong)
    with pytest.raises(ValueError, match=r"^h_0: expected \(3, 1, 4, 6\), got \(2, 1, 4, 6\)"):
        network(x, (normal(0, (2, 1, ROWS, 6)), normal(0, (1, ROWS, 6))))
    with pytest.raises(ValueError, match="lengths"):
        network(x, lengths=[6, 1, 1, 1])
    tape = network.record(x)
    with pytest.raises(ValueError, match=r"^d_output: expected \(3, 5, 4, 6\), got \(5, 4, 6\)"):
        tape.backward(np.ones((STEPS, ROWS, 6)))
    with pytest.raises(ValueError, match="another module"):
        tape.backward(into=lw.LSTM(3, 6).record(x).backward())
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam())
    with pytest.raises(ValueError, match=r"^y: expected \(3, 5, 4, 6\), got \(2, 5, 4, 6\)"):
        trainer.step(x, np.zeros((2, STEPS, ROWS, 6)))
    bad = np.zeros((MEMBERS, STEPS, ROWS, 6))
    bad[2, 1, 3, 0] = np.nan
    with pytest.raises(ValueError, match="y: expected finite numbers, got nan at member 2, step 1, row 3"):
        trainer.step(x, bad)
    trainer.step(x, bad, lengths=[STEPS, STEPS, STEPS, 1])  # there it is padding
    separate = np.stack([x] * MEMBERS)
    separate[1, 0, 2] = np.inf
    with pytest.raises(ValueError, match="x: expected finite numbers, got inf at member 1, step 0, row 2"):
        trainer.step(separate, bad)
    with pytest.raises(ValueError, match=r"^lengths: expected \(4,\) or \(3, 4\), got \(2, 4\)"):
        network(x, lengths=np.zeros((2, ROWS), int))
    with pytest.raises(ValueError, match=r"^lengths: expected 0 to 5 \(T\), got 6 in row 2 of member 1"):
        network(x, lengths=[[1, 1, 1, 1], [1, 1, 6, 1], [1, 1, 1, 1]])
    with pytest.raises(ValueError, match=r"^reset: expected \(3, 5, 4\), got \(2, 5, 4\)"):
        network(x, reset=np.zeros((2, STEPS, ROWS), bool))
    tokens = together(CHAINS["tokens"])
    separate_tokens = np.zeros((MEMBERS, STEPS, ROWS), int)
    separate_tokens[2, 3, 1] = VOCABULARY
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 5 at member 2, step 3, row 1"):
        tokens(separate_tokens)
    tokens(separate_tokens, lengths=[[STEPS] * ROWS, [STEPS] * ROWS, [3] * ROWS])  # there it is padding
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 5 at step 3, row 1"):
        tokens(separate_tokens[2], lengths=[[3] * ROWS, [STEPS] * ROWS, [3] * ROWS])  # member 1 reads it
    with pytest.raises(AttributeError):
        network.members = 4


def test_calls_from_many_threads_at_once():
    network = together(PLAIN)
    x = normal(0, (STEPS, ROWS, 3))
    expected = network(x)
    failures = []

    def work():
        try:
            for _ in range(50):
                assert_same_bits(network(x), expected)
                tape = network.record(x)
                tape.backward(tape.output)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
