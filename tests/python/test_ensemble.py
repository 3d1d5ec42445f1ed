"""EnsembleLSTM: bit for bit what single LSTMs give, in arrays with an axis of members."""

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

OPTIONS = {
    "plain": {},
    "stack": {"num_layers": 2, "bidirectional": True, "proj_size": 2, "dropout": 0.25},
    "reverse": {"reverse": True, "batch_first": True, "bias": False},
    "variants": {"peephole": True, "layer_norm": True, "zoneout": (0.25, 0.25), "learn_start_state": True},
    "dropouts": {"num_layers": 2, "residual": True, "recurrent_dropout": 0.25, "weight_dropout": 0.25},
    "coupled": {
        "forget_gate": "coupled",
        "activations": {"cell": "softsign"},
        "clip": 0.5,
        "cell_clip": 0.25,
        "init": "keras",
    },
}


@pytest.fixture(params=list(OPTIONS))
def options(request):
    return SIZES | OPTIONS[request.param]


def seed_of(member):
    return (SEED + member) % 2**64


def ensemble_of(options, dtype="float32"):
    return lw.EnsembleLSTM(MEMBERS, **options, dtype=dtype, seed=SEED)


def singles_of(options, dtype="float32"):
    return [lw.LSTM(**options, dtype=dtype, seed=seed_of(member)) for member in range(MEMBERS)]


def stacked(results):
    """One result of each member as one with an axis of members: arrays, tuples and mappings of them."""
    if isinstance(results[0], tuple):
        return tuple(stacked(parts) for parts in zip(*results, strict=True))
    if hasattr(results[0], "keys"):
        return {name: stacked([result[name] for result in results]) for name in results[0]}
    return np.stack(results)


class Data:
    """Arguments of a call, shared by all members or each member's own."""

    def __init__(self, ensemble, shared, dtype="float32"):
        lead = () if shared else (MEMBERS,)
        axes = (ROWS, STEPS) if ensemble.batch_first else (STEPS, ROWS)
        states = ensemble.num_layers * (2 if ensemble.bidirectional else 1)
        hidden = ensemble.proj_size or ensemble.hidden_size
        features = (2 if ensemble.bidirectional else 1) * hidden
        self.shared = shared
        self.x = normal(1, (*lead, *axes, ensemble.input_size), dtype)
        self.state = (
            normal(2, (*lead, states, ROWS, hidden), dtype),
            normal(3, (*lead, states, ROWS, ensemble.hidden_size), dtype),
        )
        self.y = normal(4, (*lead, *axes, features), dtype)
        self.d_output = normal(5, (MEMBERS, *axes, features), dtype)
        self.d_state = (
            normal(6, (MEMBERS, states, ROWS, hidden), dtype),
            normal(7, (MEMBERS, states, ROWS, ensemble.hidden_size), dtype),
        )
        self.common = {"lengths": [STEPS, 0, 2, STEPS], "reset": np.random.RandomState(8).random_sample(axes) < 0.25}

    def of(self, value, member):
        if isinstance(value, tuple):
            return tuple(self.of(part, member) for part in value)
        return value if self.shared else value[member]


@pytest.fixture(params=[True, False], ids=["shared", "separate"])
def shared(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    lw.set_num_threads(request.param)


@pytest.mark.usefixtures("threads")
def test_calls_give_each_members_bits(options, shared, dtype):
    ensemble, singles = ensemble_of(options, dtype), singles_of(options, dtype)
    data = Data(ensemble, shared, dtype)
    for state in (None, data.state):
        expected = [
            lstm(data.of(data.x, m), state and data.of(state, m), **data.common) for m, lstm in enumerate(singles)
        ]
        assert_same_bits(ensemble(data.x, state, **data.common), stacked(expected))


@pytest.mark.usefixtures("threads")
def test_recordings_and_gradients_are_each_members(options, shared, dtype):
    ensemble, singles = ensemble_of(options, dtype), singles_of(options, dtype)
    data = Data(ensemble, shared, dtype)
    tape = ensemble.record(data.x, data.state, **data.common, training=True, mask_seed=SEED)
    tapes = [
        lstm.record(data.of(data.x, m), data.of(data.state, m), **data.common, training=True, mask_seed=seed_of(m))
        for m, lstm in enumerate(singles)
    ]
    assert_same_bits(tape.output, stacked([one.output for one in tapes]))
    assert_same_bits(tape.state, stacked([one.state for one in tapes]))
    grads = tape.backward(data.d_output, data.d_state)
    singles_grads = [
        one.backward(data.d_output[m], (data.d_state[0][m], data.d_state[1][m])) for m, one in enumerate(tapes)
    ]
    for _ in range(2):
        assert_same_bits(grads.x, stacked([one.x for one in singles_grads]))
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
def test_trainers_train_each_member_as_its_own(options, shared, dtype):
    ensemble, singles = ensemble_of(options, dtype), singles_of(options, dtype)
    data = Data(ensemble, shared, dtype)
    arguments = ("squared_error", lw.optim.Adam(lr=0.01), 0.05)
    trainer = lw.Trainer(ensemble, *arguments, seed=SEED)
    trainers = [lw.Trainer(lstm, *arguments, seed=seed_of(m)) for m, lstm in enumerate(singles)]
    for call in ("step", "step", "evaluate", "step"):
        losses, state = getattr(trainer, call)(data.x, data.y, data.state, **data.common)
        expected = [
            getattr(one, call)(data.of(data.x, m), data.of(data.y, m), data.of(data.state, m), **data.common)
            for m, one in enumerate(trainers)
        ]
        assert_same_bits(losses, np.array([loss for loss, _ in expected]))
        assert_same_bits(state, stacked([end for _, end in expected]))
    assert trainer.steps == 3
    assert_same_bits(ensemble.state_dict(), stacked([lstm.state_dict() for lstm in singles]))


@pytest.mark.parametrize("loss", ["cross_entropy", "absolute_error", "quantile"])
def test_every_loss_is_each_members(loss, shared):
    ensemble, singles = ensemble_of(SIZES), singles_of(SIZES)
    data = Data(ensemble, shared)
    y = {
        "cross_entropy": np.random.RandomState(0).randint(0, 6, data.y.shape[:-1]),
        "absolute_error": data.y,
        "quantile": data.y[..., :3],
    }[loss]
    options = {"quantiles": [0.25, 0.75]} if loss == "quantile" else {}
    trainer = lw.Trainer(ensemble, loss, lw.optim.SGD(lr=0.1, momentum=0.5), seed=0, **options)
    trainers = [lw.Trainer(lstm, loss, lw.optim.SGD(lr=0.1, momentum=0.5), seed=0, **options) for lstm in singles]
    for _ in range(2):
        losses, _ = trainer.step(data.x, y)
        expected = [one.step(data.of(data.x, m), data.of(y, m))[0] for m, one in enumerate(trainers)]
        assert_same_bits(losses, np.array(expected))
    assert_same_bits(ensemble.state_dict(), stacked([lstm.state_dict() for lstm in singles]))


def test_a_loss_that_is_not_finite_changes_no_member():
    ensemble = ensemble_of(SIZES)
    data = Data(ensemble, False)
    trainer = lw.Trainer(ensemble, "squared_error", lw.optim.Adam(lr=0.01), seed=0)
    trainer.step(data.x, data.y)
    with ensemble.edit() as parameters:
        parameters["bias_ih_l0"][1, 0] = np.nan
    before = ensemble.state_dict()
    with pytest.raises(RuntimeError, match="loss of member 1: expected a finite number, got nan; nothing was changed"):
        trainer.step(data.x, data.y)
    assert_same_bits(ensemble.parameters["weight_hh_l0"], before["weight_hh_l0"])
    assert trainer.steps == 1


def test_optimisers_and_clipping_are_each_members():
    ensemble, singles = ensemble_of(SIZES), singles_of(SIZES)
    data = Data(ensemble, True)
    optimiser = lw.optim.Adam(ensemble, lr=0.01)
    optimisers = [lw.optim.Adam(lstm, lr=0.01) for lstm in singles]
    for _ in range(2):
        grads = ensemble.record(data.x).backward(data.d_output)
        norms = lw.optim.clip_grad_norm(grads, 5.0)
        expected = []
        for m, lstm in enumerate(singles):
            own = lstm.record(data.x).backward(data.d_output[m])
            expected.append(lw.optim.clip_grad_norm(own, 5.0))
            assert_same_bits(grads.parameters["weight_ih_l0"][m], own.parameters["weight_ih_l0"])
            optimisers[m].step(own)
        assert min(expected) > 5.0 / 2
        assert_same_bits(norms, np.array(expected))
        optimiser.step(grads)
    assert_same_bits(ensemble.state_dict(), stacked([lstm.state_dict() for lstm in singles]))
    restored = pickle.loads(pickle.dumps(optimiser))
    assert restored.steps == 2
    with pytest.raises(ValueError, match="gradients of"):
        optimisers[0].step(grads)


def test_traces_have_the_axis_of_members(options, shared):
    ensemble, singles = ensemble_of(options), singles_of(options)
    data = Data(ensemble, shared)
    trace = ensemble.trace(data.x, data.state, **data.common)
    traces = [lstm.trace(data.of(data.x, m), data.of(data.state, m), **data.common) for m, lstm in enumerate(singles)]
    assert list(trace) == list(traces[0])
    for name in trace:
        assert_same_bits(tuple(trace[name]), stacked([tuple(one[name]) for one in traces]), name)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_streams_are_each_members(batch_size, dtype):
    options = SIZES | {"num_layers": 2, "peephole": True, "learn_start_state": True}
    ensemble, singles = ensemble_of(options, dtype), singles_of(options, dtype)
    stream, streams = ensemble.stream(batch_size), [lstm.stream(batch_size) for lstm in singles]
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


def test_streams_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="forward LSTMs only"):
        ensemble_of(SIZES | {"reverse": True}).stream()


def test_unbatched_input_is_shared():
    ensemble, singles = ensemble_of(SIZES), singles_of(SIZES)
    x, state = normal(0, (STEPS, 3)), (normal(1, (1, 6)), normal(2, (1, 6)))
    assert_same_bits(ensemble(x, state), stacked([lstm(x, state) for lstm in singles]))
    own = tuple(np.stack([part] * MEMBERS) for part in state)
    assert_same_bits(ensemble(x, own), ensemble(x, state))
    tape = ensemble.record(x)
    assert tape.backward(np.ones_like(tape.output)).x.shape == (MEMBERS, STEPS, 3)
    assert ensemble.trace(x).cell.shape == (MEMBERS, STEPS, 6)
    losses, _ = lw.Trainer(ensemble, "squared_error", lw.optim.Adam()).step(x, np.zeros((STEPS, 6)))
    assert losses.shape == (MEMBERS,)


def test_separate_input_may_have_any_layout():
    ensemble = ensemble_of(SIZES)
    x = normal(0, (MEMBERS, STEPS, ROWS, 3))
    expected = ensemble(x)
    for other in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, axis=0)[::2], x[::-1][::-1]):
        assert_same_bits(ensemble(other), expected)
    flipped = ensemble(x[::-1, ::-1])
    assert_same_bits(flipped, ensemble(np.ascontiguousarray(x[::-1, ::-1])))


@pytest.mark.parametrize(("steps", "rows"), [(0, 4), (5, 0), (0, 0)])
def test_empty_input_is_valid(steps, rows, shared):
    ensemble, singles = ensemble_of(SIZES), singles_of(SIZES)
    x = np.zeros((steps, rows, 3) if shared else (MEMBERS, steps, rows, 3), np.float32)
    output, state = ensemble(x)
    assert_same_bits((output, state), stacked([lstm(x if shared else x[m]) for m, lstm in enumerate(singles)]))
    grads = ensemble.record(x).backward(output)
    assert grads.x.shape == (MEMBERS, steps, rows, 3)
    assert not grads.parameters.flat.any()


def test_an_ensemble_of_one():
    ensemble, lstm = lw.EnsembleLSTM(1, 3, 6, seed=5), lw.LSTM(3, 6, seed=5)
    for x in (normal(0, (1, STEPS, ROWS, 3)), normal(0, (STEPS, ROWS, 3))):
        output, (h_n, c_n) = ensemble(x)
        assert_same_bits((output[0], (h_n[0], c_n[0])), lstm(x.reshape(STEPS, ROWS, 3)))
    assert len(ensemble) == 1


def test_members_come_and_go():
    ensemble, singles = ensemble_of(SIZES | {"num_layers": 2}), singles_of(SIZES | {"num_layers": 2})
    assert len(ensemble) == ensemble.members == MEMBERS
    for m, lstm in enumerate(ensemble):
        assert repr(lstm) == repr(singles[m])
        assert_same_bits(lstm.state_dict(), singles[m].state_dict())
    assert_same_bits(ensemble[-1].state_dict(), singles[-1].state_dict())
    again = lw.EnsembleLSTM.from_members(singles)
    assert_same_bits(again.state_dict(), ensemble.state_dict())
    with again[0].edit() as parameters:
        parameters["bias_ih_l0"] += 1  # of an LSTM that is independent
    assert_same_bits(again.state_dict(), ensemble.state_dict())
    for index, error in ((MEMBERS, IndexError), (-MEMBERS - 1, IndexError), ("0", TypeError), (1.0, TypeError)):
        with pytest.raises(error):
            ensemble[index]
    with pytest.raises(ValueError, match="at least one"):
        lw.EnsembleLSTM.from_members([])
    with pytest.raises(ValueError, match=r"members\[1\]: expected the options of members\[0\]"):
        lw.EnsembleLSTM.from_members([lw.LSTM(3, 6), lw.LSTM(3, 6, dtype="float64")])
    with pytest.raises(TypeError, match=r"members\[0\]: expected LSTM, got LSTMCell"):
        lw.EnsembleLSTM.from_members([lw.LSTMCell(3, 6)])


def test_parameters_are_views_of_one_buffer():
    ensemble = ensemble_of(SIZES)
    weights = ensemble.parameters["weight_hh_l0"]
    assert weights.shape == (MEMBERS, 24, 6)
    assert not weights.flags.writeable
    ensemble.parameters["weight_hh_l0"] = np.arange(MEMBERS * 24 * 6).reshape(MEMBERS, 24, 6)
    assert weights[2, 0, 1] == 2 * 24 * 6 + 1
    with ensemble.edit() as parameters:
        parameters["weight_hh_l0"][1] = 7
    assert (weights[1] == 7).all()
    assert weights[2, 0, 1] == 2 * 24 * 6 + 1
    assert_same_bits(ensemble[1].parameters["weight_hh_l0"], np.full((24, 6), 7, np.float32))
    state = ensemble.state_dict()
    with pytest.raises(ValueError, match=r"bias_ih_l0: expected \(3, 24\), got \(24,\)"):
        ensemble.load_state_dict(state | {"bias_ih_l0": np.zeros(24)})
    assert_same_bits(ensemble.state_dict(), state)
    other = lw.EnsembleLSTM(MEMBERS, 3, 6)
    other.load_state_dict(state)
    assert_same_bits(other.state_dict(), state)


def test_copies(options, dtype):
    ensemble = ensemble_of(options, dtype)
    for other in (pickle.loads(pickle.dumps(ensemble)), copy.deepcopy(ensemble), copy.copy(ensemble)):
        assert repr(other) == repr(ensemble)
        assert other.dtype == ensemble.dtype
        assert_same_bits(other.state_dict(), ensemble.state_dict())
        assert_same_bits(other(normal(0, (STEPS, ROWS, 3), dtype)), ensemble(normal(0, (STEPS, ROWS, 3), dtype)))
        name = next(iter(other.parameters))
        other.parameters[name] = np.zeros_like(other.parameters[name])
        assert ensemble.parameters[name].any()
    assert repr(ensemble).startswith("EnsembleLSTM(3, 3, 6")


def test_what_does_not_fit_is_refused():
    ensemble = ensemble_of(SIZES)
    x = normal(0, (STEPS, ROWS, 3))
    shapes = r"\(3, T, N, 3\) or \(T, N, 3\) or \(T, 3\)"
    for wrong in (normal(0, (2, STEPS, ROWS, 3)), normal(0, (MEMBERS, STEPS, ROWS, 4)), normal(0, (5,)), x[..., :2]):
        with pytest.raises(ValueError, match=rf"^x: expected {shapes}, got"):
            ensemble(wrong)
    with pytest.raises(ValueError, match=r"^h_0: expected \(3, 1, 4, 6\), got \(2, 1, 4, 6\)"):
        ensemble(x, (normal(0, (2, 1, ROWS, 6)), normal(0, (1, ROWS, 6))))
    with pytest.raises(ValueError, match="lengths"):
        ensemble(x, lengths=[6, 1, 1, 1])
    tape = ensemble.record(x)
    with pytest.raises(ValueError, match=r"^d_output: expected \(3, 5, 4, 6\), got \(5, 4, 6\)"):
        tape.backward(np.ones((STEPS, ROWS, 6)))
    with pytest.raises(ValueError, match="another module"):
        tape.backward(into=lw.LSTM(3, 6).record(x).backward())
    trainer = lw.Trainer(ensemble, "squared_error", lw.optim.Adam())
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
    for arguments, error in (((0, 3, 6), ValueError), ((2.0, 3, 6), TypeError), ((2, 3, 0), ValueError),
                             ((2**62, 3, 6), ValueError)):  # fmt: skip
        with pytest.raises(error, match="members|hidden_size"):
            lw.EnsembleLSTM(*arguments)
    with pytest.raises(TypeError, match=r"layers\[0\]"):
        lw.Network([ensemble])
    with pytest.raises(AttributeError):
        ensemble.members = 4
    with pytest.warns(UserWarning, match="dropout=0.5 does nothing"):
        lw.EnsembleLSTM(2, 3, 6, dropout=0.5)


def test_calls_from_many_threads_at_once():
    ensemble = ensemble_of(SIZES)
    x = normal(0, (STEPS, ROWS, 3))
    expected = ensemble(x)
    failures = []

    def work():
        try:
            for _ in range(50):
                assert_same_bits(ensemble(x), expected)
                tape = ensemble.record(x)
                tape.backward(tape.output)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
