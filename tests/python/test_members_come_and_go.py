"""Networks of several members are built, joined and parted; their parameters, files and copies; what is refused."""

import copy
import pickle
import threading

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal
from members import CHAINS, MEMBERS, PLAIN, ROWS, STEPS, VOCABULARY, Data, alone, lstm, stacked, together


@pytest.fixture(params=list(CHAINS))
def chain(request):
    return CHAINS[request.param]


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
    with pytest.raises(ValueError, match="y: expected finite numbers, .*, got nan at member 2, step 1, row 3"):
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
