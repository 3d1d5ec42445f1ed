"""Bad calls of the drop-in: the same class of error as torch.nn's, and nothing changed by them."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence  # noqa: E402
from torch_programs import DROP_IN, TORCH, refusal  # noqa: E402


def packed(*shape, dtype=torch.float32):
    return pack_padded_sequence(torch.zeros(*shape, dtype=dtype), torch.tensor([shape[0]] * shape[1]))


LSTM_CONSTRUCTORS = {
    "no sizes": lambda nn: nn.LSTM(),
    "one size": lambda nn: nn.LSTM(3),
    "input size a float": lambda nn: nn.LSTM(3.0, 4),
    "input size negative": lambda nn: nn.LSTM(-3, 4),
    "hidden size a float": lambda nn: nn.LSTM(3, 4.0),
    "hidden size a string": lambda nn: nn.LSTM(3, "4"),
    "hidden size 0": lambda nn: nn.LSTM(3, 0),
    "hidden size negative": lambda nn: nn.LSTM(3, -4),
    "no layers": lambda nn: nn.LSTM(3, 4, 0),
    "layers negative": lambda nn: nn.LSTM(3, 4, -1),
    "layers a float": lambda nn: nn.LSTM(3, 4, 1.5),
    "bias a string": lambda nn: nn.LSTM(3, 4, bias="yes"),
    "batch_first a number": lambda nn: nn.LSTM(3, 4, batch_first=1),
    "dropout negative": lambda nn: nn.LSTM(3, 4, 2, dropout=-0.1),
    "dropout above 1": lambda nn: nn.LSTM(3, 4, 2, dropout=1.5),
    "dropout a string": lambda nn: nn.LSTM(3, 4, 2, dropout="half"),
    "dropout a boolean": lambda nn: nn.LSTM(3, 4, 2, dropout=True),
    "dropout None": lambda nn: nn.LSTM(3, 4, 2, dropout=None),
    "projection negative": lambda nn: nn.LSTM(3, 4, proj_size=-1),
    "projection as large as the state": lambda nn: nn.LSTM(3, 4, proj_size=4),
    "projection a string": lambda nn: nn.LSTM(3, 4, proj_size="2"),
    "dtype an integer's": lambda nn: nn.LSTM(3, 4, dtype=torch.int64),
    "dtype a string": lambda nn: nn.LSTM(3, 4, dtype="no such type"),
    "device unknown": lambda nn: nn.LSTM(3, 4, device="abacus"),
    "an unknown option": lambda nn: nn.LSTM(3, 4, colour="red"),
    "an option twice": lambda nn: nn.LSTM(3, 4, hidden_size=5),
    "too many places": lambda nn: nn.LSTM(3, 4, 1, True, False, 0.0, False, 0, None, None, 7),
}
CELL_CONSTRUCTORS = {
    "no sizes": lambda nn: nn.LSTMCell(),
    "one size": lambda nn: nn.LSTMCell(3),
    "input size a float": lambda nn: nn.LSTMCell(3.0, 4),
    "input size negative": lambda nn: nn.LSTMCell(-3, 4),
    "hidden size a float": lambda nn: nn.LSTMCell(3, 4.0),
    "hidden size negative": lambda nn: nn.LSTMCell(3, -4),
    "an unknown option": lambda nn: nn.LSTMCell(3, 4, colour="red"),
    "dtype an integer's": lambda nn: nn.LSTMCell(3, 4, dtype=torch.int64),
}


def zeros(*shape, **options):
    return torch.zeros(*shape, **options)


# Calls of LSTM(3, 4), by what is wrong with them.
CALLS = {
    "nothing": lambda lstm: lstm(),
    "no steps": lambda lstm: lstm(zeros(0, 2, 3)),
    "no steps, unbatched": lambda lstm: lstm(zeros(0, 3)),
    "no steps and no rows": lambda lstm: lstm(zeros(0, 0, 3)),
    "one axis": lambda lstm: lstm(zeros(3)),
    "no axis": lambda lstm: lstm(torch.tensor(1.0)),
    "four axes": lambda lstm: lstm(zeros(1, 5, 2, 3)),
    "too many features": lambda lstm: lstm(zeros(5, 2, 4)),
    "too few features": lambda lstm: lstm(zeros(5, 2, 2)),
    "no features": lambda lstm: lstm(zeros(5, 2, 0)),
    "too many features, unbatched": lambda lstm: lstm(zeros(5, 4)),
    "None": lambda lstm: lstm(None),
    "a list": lambda lstm: lstm([[0.0, 0.0, 0.0]]),
    "an array": lambda lstm: lstm(zeros(5, 2, 3).numpy()),
    "float64": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.float64)),
    "float16": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.float16)),
    "bfloat16": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.bfloat16)),
    "integers": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.int64)),
    "booleans": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.bool)),
    "complex numbers": lambda lstm: lstm(zeros(5, 2, 3, dtype=torch.complex64)),
    "sparse": lambda lstm: lstm(zeros(5, 2, 3).to_sparse()),
    "on the device meta": lambda lstm: lstm(zeros(5, 2, 3, device="meta")),
    "a state of one tensor": lambda lstm: lstm(zeros(5, 2, 3), zeros(1, 2, 4)),
    "a state of one": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4),)),
    "a state of three": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4),) * 3),
    "a state of None": lambda lstm: lstm(zeros(5, 2, 3), (None, None)),
    "a state half None": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4), None)),
    "a state of arrays": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4).numpy(),) * 2),
    "a state of two axes": lambda lstm: lstm(zeros(5, 2, 3), (zeros(2, 4),) * 2),
    "a state of three axes, unbatched": lambda lstm: lstm(zeros(5, 3), (zeros(1, 1, 4),) * 2),
    "h_0 alone of two axes": lambda lstm: lstm(zeros(5, 2, 3), (zeros(2, 4), zeros(1, 2, 4))),
    "c_0 alone of two axes": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4), zeros(2, 4))),
    "a state for other rows": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 3, 4),) * 2),
    "a state that could be broadcast": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 1, 4),) * 2),
    "a state for other layers": lambda lstm: lstm(zeros(5, 2, 3), (zeros(2, 2, 4),) * 2),
    "h_0 of another size": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 5), zeros(1, 2, 4))),
    "c_0 of another size": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4), zeros(1, 2, 5))),
    "a state of another size, unbatched": lambda lstm: lstm(zeros(5, 3), (zeros(1, 5), zeros(1, 5))),
    "a state in float64": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4, dtype=torch.float64),) * 2),
    "c_0 alone in float64": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4), zeros(1, 2, 4, dtype=torch.float64))),
    "a state of integers": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4, dtype=torch.int64),) * 2),
    "a state on the device meta": lambda lstm: lstm(zeros(5, 2, 3), (zeros(1, 2, 4, device="meta"),) * 2),
    "packed in float64": lambda lstm: lstm(packed(5, 2, 3, dtype=torch.float64)),
    "packed, a state of two axes": lambda lstm: lstm(packed(5, 2, 3), (zeros(2, 4),) * 2),
    "packed, sizes and data of other lengths": lambda lstm: lstm(PackedSequence(zeros(5, 3), torch.tensor([2, 2]))),
    "packed, sizes that grow": lambda lstm: lstm(PackedSequence(zeros(3, 3), torch.tensor([1, 2]))),
    "packed, no sizes": lambda lstm: lstm(PackedSequence(zeros(0, 3), torch.tensor([], dtype=torch.int64))),
    "packed, a negative size": lambda lstm: lstm(PackedSequence(zeros(2, 3), torch.tensor([3, -1]))),
    "an unknown option": lambda lstm: lstm(zeros(5, 2, 3), colour="red"),
    "a name that torch does not have": lambda lstm: lstm(x=zeros(5, 2, 3)),
}

# Calls of LSTMCell(3, 4).
CELL_CALLS = {
    "nothing": lambda cell: cell(),
    "no axis": lambda cell: cell(torch.tensor(1.0)),
    "three axes": lambda cell: cell(zeros(5, 2, 3)),
    "too many features": lambda cell: cell(zeros(2, 4)),
    "too few features, unbatched": lambda cell: cell(zeros(2)),
    "None": lambda cell: cell(None),
    "a list": lambda cell: cell([0.0, 0.0, 0.0]),
    "float64": lambda cell: cell(zeros(2, 3, dtype=torch.float64)),
    "integers": lambda cell: cell(zeros(2, 3, dtype=torch.int64)),
    "a state of one": lambda cell: cell(zeros(2, 3), (zeros(2, 4),)),
    "a state of None": lambda cell: cell(zeros(2, 3), (None, None)),
    "a state for other rows": lambda cell: cell(zeros(2, 3), (zeros(3, 4),) * 2),
    "a state that could be broadcast": lambda cell: cell(zeros(2, 3), (zeros(1, 4),) * 2),
    "h_0 of another size": lambda cell: cell(zeros(2, 3), (zeros(2, 5), zeros(2, 4))),
    "c_0 of another size": lambda cell: cell(zeros(2, 3), (zeros(2, 4), zeros(2, 5))),
    "a state of three axes": lambda cell: cell(zeros(2, 3), (zeros(1, 2, 4),) * 2),
    "a state of one axis": lambda cell: cell(zeros(2, 3), (zeros(4),) * 2),
    "a state of two axes, unbatched": lambda cell: cell(zeros(3), (zeros(1, 4),) * 2),
    "a state in float64": lambda cell: cell(zeros(2, 3), (zeros(2, 4, dtype=torch.float64),) * 2),
    "a packed sequence": lambda cell: cell(packed(5, 2, 3)),
    "an unknown option": lambda cell: cell(zeros(2, 3), colour="red"),
}


@pytest.mark.parametrize("case", LSTM_CONSTRUCTORS)
def test_a_constructor_of_lstm(case):
    same_refusal(LSTM_CONSTRUCTORS[case], TORCH, DROP_IN)


@pytest.mark.parametrize("case", CELL_CONSTRUCTORS)
def test_a_constructor_of_lstm_cell(case):
    same_refusal(CELL_CONSTRUCTORS[case], TORCH, DROP_IN)


@pytest.mark.parametrize("case", CALLS)
def test_a_call_of_lstm(case):
    same_refusal_of_call(CALLS[case], TORCH.LSTM(3, 4), DROP_IN.LSTM(3, 4))


@pytest.mark.parametrize("case", CELL_CALLS)
def test_a_call_of_lstm_cell(case):
    same_refusal_of_call(CELL_CALLS[case], TORCH.LSTMCell(3, 4), DROP_IN.LSTMCell(3, 4))


@pytest.mark.parametrize("backward", [False, True])
def test_a_call_after_a_bad_one(backward):
    lstm = DROP_IN.LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=backward)
    before, _ = lstm(x)
    refusal(lstm, torch.zeros(5, 2, 4))
    after, _ = lstm(x)
    assert torch.equal(before, after)
    if backward:
        refusal(before.backward, torch.zeros(5, 2, 3))
        before.sum().backward()
        first = x.grad.clone()
        after.sum().backward()
        assert torch.equal(x.grad, 2 * first)


def same_refusal(call, theirs, ours):
    expected, given = outcome(call, theirs), outcome(call, ours)
    if expected is None:  # not every version of PyTorch refuses all of these
        assert given is None or isinstance(given, ValueError | TypeError | RuntimeError)
    else:
        assert isinstance(given, type(expected)), f"{given!r}, expected {expected!r}"
        assert str(given)


def outcome(call, layers):
    """The error that a call ends with, or None."""
    try:
        call(layers)
    except Exception as error:
        return error
    return None


def same_refusal_of_call(call, theirs, ours):
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    generator = torch.get_rng_state()
    same_refusal(call, theirs, ours)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
