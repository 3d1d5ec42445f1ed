"""Network, Embedding, Linear, Last: chains run as PyTorch's do and share their parameters."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import normal, random_lstm
from test_training import BY_NAME, network_of
from training_cases import CASES

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def first_output(case, dtype):
    x, _, lengths = case.batch(0)
    x = x if case.vocabulary else x.astype(dtype)
    return network_of(case, dtype)(x, lengths=lengths)[0]


def valid(case, output):
    """Zeros where there is no output; in padding PyTorch's linear head would give its bias."""
    _, _, lengths = case.batch(0)
    output = np.array(output)
    if lengths is not None and not case.last:
        for row, length in enumerate(lengths):
            output[length:, row] = 0
    return output


@pytest.mark.parametrize("name", BY_NAME)
def test_outputs_equal_golden(golden, name, dtype):
    case = BY_NAME[name]
    actual = first_output(case, dtype)
    assert actual.dtype == dtype
    assert_close(actual, valid(case, golden("networks")[name]), TOLERANCE[dtype], name)


@pytest.mark.parametrize("name", BY_NAME)
def test_outputs_equal_live_torch(torch_peer, name, dtype):
    case, torch = BY_NAME[name], torch_peer.torch
    x, _, lengths = case.batch(0)
    x = torch.tensor(x) if case.vocabulary else torch_peer.tensor(x, getattr(torch, dtype))
    expected, _ = torch_peer.run_chain(case, torch_peer.chain(case, getattr(torch, dtype)), x, lengths, None)
    assert_close(first_output(case, dtype), valid(case, expected.detach().numpy()), TOLERANCE[dtype], name)


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("adam with clipping")], ids=str)
def test_gradients_equal_live_torch(torch_peer, case, dtype):
    torch = torch_peer.torch
    x, _, lengths = case.batch(0)
    network = network_of(case, dtype)
    tape = network.record(x if case.vocabulary else x.astype(dtype), lengths=lengths)
    d_output = normal(3, tape.output.shape, dtype)
    actual = tape.backward(d_output)
    peer = torch_peer.chain(case, getattr(torch, dtype))
    fed = torch.tensor(x) if case.vocabulary else torch_peer.tensor(x, getattr(torch, dtype), requires_grad=True)
    output, _ = torch_peer.run_chain(case, peer, fed, lengths, None)
    (output * torch.tensor(valid(case, d_output))).sum().backward()
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for name, parameter in peer.named_parameters():
        assert_close(actual.parameters[name], parameter.grad.numpy(), tolerance, name)
    if case.vocabulary:
        assert actual.x is None
    else:
        assert_close(actual.x, fed.grad.numpy(), tolerance, "x")


def chain(dtype="float32", **options):
    lstm = random_lstm(input_size=4, hidden_size=5, num_layers=2, dtype=dtype, **options)
    head = lw.Linear(5, 3, dtype=dtype, seed=2)
    return lw.Embedding(7, 4, dtype=dtype, seed=1), lstm, head


def tokens(shape=(6, 4)):
    return np.random.RandomState(1).randint(0, 7, shape)


def test_a_chain_is_its_modules_one_by_one(dtype):
    embedding, lstm, head = chain(dtype)
    network = lw.Network([embedding, lstm, head])
    embedded = embedding(tokens())
    output, state = lstm(embedded)
    result, end = network(tokens())
    assert_same_bits(embedded, embedding.parameters["weight"][tokens()])
    assert_same_bits(result, head(output))
    assert_same_bits(tuple(end), tuple(state))


def test_linear_is_torchs(torch_peer, dtype):
    torch = torch_peer.torch
    for activation in (None, "relu", "sigmoid", "tanh"):
        for bias in (True, False):
            linear = lw.Linear(17, 31, bias=bias, activation=activation, dtype=dtype, seed=1)
            peer = torch.nn.Linear(17, 31, bias=bias, dtype=getattr(torch, dtype))
            peer.load_state_dict({name: torch.tensor(value) for name, value in linear.state_dict().items()})
            x = normal(1, (9, 3, 17), dtype)
            expected = peer(torch.tensor(x))
            expected = expected if activation is None else getattr(torch, activation)(expected)
            assert_close(linear(x), expected.detach().numpy(), TOLERANCE[dtype], str(activation))


def test_activations_are_differentiated(torch_peer):
    torch = torch_peer.torch
    for activation in ("relu", "sigmoid", "tanh"):
        lstm = random_lstm(input_size=3, hidden_size=7, dtype="float64")
        network = lw.Network([lstm, lw.Linear(7, 5, activation=activation, dtype="float64", seed=1)])
        tape = network.record(normal(1, (6, 4, 3), "float64"))
        d_output = normal(2, (6, 4, 5), "float64")
        gradients = tape.backward(d_output)
        hidden = torch.tensor(lstm(normal(1, (6, 4, 3), "float64"))[0])
        peer = torch.nn.Linear(7, 5, dtype=torch.float64)
        peer.load_state_dict({name: torch.tensor(value) for name, value in network[1].state_dict().items()})
        (getattr(torch, activation)(peer(hidden)) * torch.tensor(d_output)).sum().backward()
        assert_close(gradients.parameters["1.weight"], peer.weight.grad.numpy(), 1e-12)
        assert_close(gradients.parameters["1.bias"], peer.bias.grad.numpy(), 1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_is_each_sequences_final_output(bidirectional, dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=bidirectional, dtype=dtype)
    x, lengths = normal(1, (6, 4, 3), dtype), [6, 3, 1, 5]
    output, (h_n, _) = lstm(x, lengths=lengths)
    network = lw.Network([lstm, lw.Last()])
    result, end = network(x, lengths=lengths)
    assert result.shape == (4, 10 if bidirectional else 5)
    expected = np.concatenate([h_n[2], h_n[3]], axis=-1) if bidirectional else h_n[-1]
    assert_same_bits(result, expected)
    assert_same_bits(end[0], h_n)
    alone, _ = network(x[:3, 1])
    assert_same_bits(alone, result[1])


def test_the_first_outputs_do_not_matter_after_last():
    network = lw.Network([random_lstm(input_size=3, hidden_size=5, dtype="float64"), lw.Last()])
    tape = network.record(normal(1, (6, 4, 3), "float64"), lengths=[6, 3, 0, 5])
    gradients = tape.backward(np.ones(tape.output.shape))
    assert np.all(gradients.x[:, 2] == 0)
    assert np.all(gradients.x[:3, 1] != 0)
    assert np.all(gradients.x[3:, 1] == 0)


def test_parameters_are_numbered_as_in_torchs_sequential(dtype):
    embedding, lstm, head = chain(dtype)
    network = lw.Network([embedding, lstm, lw.Last(), head])
    expected = {f"0.{name}": value for name, value in embedding.state_dict().items()}
    expected |= {f"1.{name}": value for name, value in lstm.state_dict().items()}
    expected |= {f"3.{name}": value for name, value in head.state_dict().items()}
    assert_same_bits(network.state_dict(), expected)


def test_parameters_are_shared_both_ways(dtype):
    embedding, lstm, head = chain(dtype)
    network = lw.Network([embedding, lstm, head])
    assert network[1] is lstm
    assert len(network) == 3
    assert list(network) == [embedding, lstm, head]
    before, x = network(tokens())[0], normal(1, (6, 4, 4), dtype)
    output = lstm(x)[0]
    lstm.parameters["bias_ih_l0"] = np.ones(20)
    assert np.all(network.parameters["1.bias_ih_l0"] == 1)
    assert not np.array_equal(network(tokens())[0], before)
    assert not np.array_equal(lstm(x)[0], output)
    network.parameters["1.bias_ih_l0"] = np.full(20, 2.0)
    assert np.all(lstm.parameters["bias_ih_l0"] == 2)
    network.parameters["2.bias"] = np.full(3, 7.0)
    assert np.all(head.parameters["bias"] == 7)


def test_training_a_network_trains_its_layers(dtype):
    embedding, lstm, head = chain(dtype)
    network = lw.Network([embedding, lstm, head])
    before = lstm.state_dict()
    trainer = lw.Trainer(network, loss="cross_entropy", optimizer=lw.optim.Adam(lr=0.1))
    trainer.step(tokens(), tokens() % 3)
    for name, value in lstm.state_dict().items():
        assert not np.array_equal(value, before[name]), name
    assert_same_bits(lstm.state_dict()["bias_hh_l1"], network.state_dict()["1.bias_hh_l1"])


def test_state_is_a_pair_for_one_lstm_and_pairs_for_several(dtype):
    one, other = (
        random_lstm(input_size=3, hidden_size=5, dtype=dtype),
        random_lstm(input_size=5, hidden_size=7, dtype=dtype),
    )
    x = normal(1, (6, 4, 3), dtype)
    network = lw.Network([one, other])
    middle, first = one(x)
    expected, second = other(middle)
    output, state = network(x)
    assert_same_bits(output, expected)
    assert len(state) == 2
    for actual, wanted in zip(state, (first, second), strict=True):
        assert_same_bits(tuple(actual), tuple(wanted))
    again, _ = network(x, state)
    assert_same_bits(again, other(one(x, first)[0], second)[0])
    gradients = network.record(x, state).backward(np.ones_like(output))
    assert [[part.shape for part in pair] for pair in gradients.state] == [[(1, 4, 5)] * 2, [(1, 4, 7)] * 2]
    trace = network.trace(x)
    assert list(trace) == ["0.l0", "1.l0"]
    assert_same_bits(trace["1.l0"].hidden, expected)
    assert_same_bits(trace[0].hidden, middle)


def test_batch_first_is_the_networks(dtype):
    lstm = random_lstm(input_size=4, hidden_size=5, num_layers=2, dtype=dtype, batch_first=True)
    embedding, _, head = chain(dtype)
    output, _ = lw.Network([embedding, lstm, head])(tokens().T)
    plain, _ = lw.Network(list(chain(dtype)))(tokens())
    assert_same_bits(np.swapaxes(output, 0, 1), plain)


def test_tokens_may_be_unbatched(dtype):
    network = lw.Network(list(chain(dtype)))
    whole, (h_n, _) = network(tokens())
    alone, (h, _) = network(tokens()[:, 2])
    assert_same_bits(alone, whole[:, 2])
    assert_same_bits(h, h_n[:, 2])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.uint64, ">i4", list])
def test_tokens_may_be_any_integers(kind):
    network = lw.Network(list(chain()))
    expected = network(tokens())
    given = tokens().tolist() if kind is list else tokens().astype(kind)
    assert_same_bits(network(given), expected)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.full((6, 4), 7), ValueError),
        (np.full((6, 4), -1), ValueError),
        (np.full((6, 4), 2**62), ValueError),
        (np.full((6, 4), 2**64 - 1, np.uint64), ValueError),
        (np.zeros((6, 4)), TypeError),
        (np.zeros((6, 4), bool), TypeError),
        (np.zeros((6, 4, 1), int), ValueError),
        (np.array(3), ValueError),
        ("tokens", TypeError),
        (None, TypeError),
    ],
)
def test_wrong_tokens_are_refused(x, error):
    network = lw.Network(list(chain()))
    for call in (network, network.record, network.trace):
        with pytest.raises(error, match=r"\bx\b.*expected.*got"):
            call(x)


@pytest.mark.parametrize(
    ("layers", "error"),
    [
        (lambda: [], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.LSTM(4, 5)], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.Linear(4, 2)], ValueError),
        (lambda: [lw.LSTM(3, 5, bidirectional=True), lw.Linear(5, 2)], ValueError),
        (lambda: [lw.LSTM(3, 5, proj_size=2), lw.Linear(5, 2)], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.Embedding(3, 5)], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.Last(), lw.LSTM(5, 5)], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.Mean(), lw.LSTM(5, 5)], ValueError),
        (lambda: [lw.LSTM(3, 5), lw.Mean(), lw.Max()], ValueError),
        (lambda: [lw.Max(), lw.Linear(5, 2)], ValueError),
        (lambda: [lw.Dropout(), lw.Embedding(3, 5)], ValueError),
        (lambda: [lw.Dropout()], ValueError),
        (lambda: [lw.LSTM(3, 5), np.tanh, lw.Linear(5, 2)], TypeError),
        (lambda: [lw.LSTM(3, 5), lw.Linear(5, 2, dtype="float64")], (ValueError, TypeError)),
        (lambda: [lw.LSTM(3, 5), 3], TypeError),
        (lambda: [lw.LSTM], TypeError),
        (lambda: lw.LSTM(3, 5), TypeError),
        (lambda: None, TypeError),
        (lambda: [[lw.LSTM(3, 5)]], TypeError),
    ],
)
def test_wrong_chains_are_refused(layers, error):
    with pytest.raises(error, match="layers"):
        lw.Network(layers())


@pytest.mark.parametrize("function", [np.tanh, len, lambda x: x, str.lower])
def test_a_python_callable_is_refused_with_what_to_do_instead(function):
    message = r"layers\[1\]: expected LSTM, .* or Sort, got .*: .*neither call a Python function nor differentiate"
    with pytest.raises(TypeError, match=message):
        lw.Network([lw.LSTM(3, 5), function])
    message = r"activation: expected a name or \(name, alpha, beta\), got .*: the core .* cannot call Python"
    with pytest.raises(TypeError, match=message):
        lw.Linear(3, 5, activation=function)
    with pytest.raises(TypeError, match=r"activations\.cell" + message.removeprefix("activation")):
        lw.LSTM(3, 5, activations={"cell": function})


def test_a_class_instead_of_a_layer_is_refused_with_what_to_do_instead():
    with pytest.raises(TypeError, match=r"layers\[1\]: .*got the class Last itself; Last\(\.\.\.\) makes a layer"):
        lw.Network([lw.LSTM(3, 5), lw.Last])


def test_a_layer_belongs_to_one_network():
    lstm = lw.LSTM(5, 5)
    with pytest.raises(ValueError, match="layers"):
        lw.Network([lstm, lstm])
    network = lw.Network([lstm])
    with pytest.raises(ValueError, match="layers"):
        lw.Network([lstm, lw.Linear(5, 2)])
    with pytest.raises(ValueError, match="layers"):
        lw.Network([network[0]])


def test_a_refused_chain_leaves_its_layers_free():
    lstm, head = lw.LSTM(3, 5, seed=1), lw.Linear(4, 2, seed=1)
    with pytest.raises(ValueError, match=r"4|5"):
        lw.Network([lstm, head])
    lstm.parameters["bias_ih_l0"] = np.ones(20)
    network = lw.Network([lstm])
    assert np.all(network.parameters["0.bias_ih_l0"] == 1)


@pytest.mark.parametrize("tokens", [np.full(3, 7), np.array([0, -1]), 7, -1, 2**70, 0.5, "a", None, [True]])
def test_an_embedding_knows_its_vocabulary(tokens):
    with pytest.raises((ValueError, TypeError), match=r"token.*expected.*got"):
        lw.Embedding(7, 4)(tokens)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (0,), (2, 0)])
def test_embeddings_and_linear_layers_take_any_leading_axes(shape, dtype):
    embedding, head = lw.Embedding(7, 4, dtype=dtype, seed=1), lw.Linear(4, 3, dtype=dtype, seed=1)
    tokens = np.random.RandomState(1).randint(0, 7, shape)
    embedded = embedding(tokens)
    assert_same_bits(embedded, embedding.parameters["weight"][tokens])
    flat = head(embedded.reshape(-1, 4))
    assert_same_bits(head(embedded), flat.reshape(*shape, 3))


def test_last_alone_takes_the_last_valid_step():
    x = normal(1, (6, 4, 3))
    assert_same_bits(lw.Last()(x), x[-1])
    assert_same_bits(lw.Last()(x, lengths=[6, 3, 1, 5]), np.stack([x[5, 0], x[2, 1], x[0, 2], x[4, 3]]))
    assert_same_bits(lw.Last()(x[:, 0]), x[-1, 0])
