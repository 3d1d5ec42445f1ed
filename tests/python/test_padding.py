"""pad: sequences of different lengths as one array and lengths."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

LENGTHS = (3, 5, 0, 1)


@pytest.mark.parametrize("batch_first", [False, True])
def test_each_sequence_runs_as_if_alone(dtype, batch_first):
    lstm = random_lstm(input_size=3, hidden_size=4, bidirectional=True, batch_first=batch_first, dtype=dtype)
    sequences = [normal(place, (length, 3), dtype) for place, length in enumerate(LENGTHS)]
    x, lengths = lw.pad(sequences, batch_first)
    assert x.dtype == dtype
    output, (h_n, _) = lstm(x, lengths=lengths)
    rows = output if batch_first else output.swapaxes(0, 1)
    for row, sequence in enumerate(sequences):
        alone, (h_alone, _) = lstm(sequence)
        assert_same_bits(rows[row, : len(sequence)], alone)
        assert_same_bits(h_n[:, row], h_alone)


@pytest.mark.parametrize("features", [(), (2,), (0,)])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "int8", "uint16", "bool", ">f4"])
def test_values_dtype_and_shape(kind, features):
    sequences = [np.ones((length, *features), kind) for length in LENGTHS]
    x, lengths = lw.pad(sequences)
    assert (x.dtype.kind, x.dtype.itemsize) == (np.dtype(kind).kind, np.dtype(kind).itemsize)
    assert x.shape == (5, 4, *features)
    assert lengths.dtype == np.int64
    assert lengths.tolist() == list(LENGTHS)
    for row, length in enumerate(LENGTHS):
        assert (x[:length, row] == 1).all()
        assert (x[length:, row] == 0).all()
    first, _ = lw.pad(sequences, batch_first=True)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first.swapaxes(0, 1), x)


def test_anything_that_is_an_array():
    x, lengths = lw.pad(iter([[[1, 2]], ((3.5, 4), (5, 6)), np.float32([[7, 8]])]))
    assert x.dtype == np.float64
    assert x[:, :, 0].tolist() == [[1, 3.5, 7], [0, 5, 0]]
    assert lengths.tolist() == [1, 2, 1]
    one, lengths = lw.pad([normal(1, (4, 2))])
    assert one.shape == (4, 1, 2)


def test_tokens_stay_integers_beside_an_empty_list():
    tokens, lengths = lw.pad([[1, 2, 3], [], [4]])
    assert tokens.dtype == np.int64
    assert tokens.T.tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    network = lw.Network([lw.Embedding(5, 3), lw.LSTM(3, 2), lw.Last()])
    assert network(tokens, lengths=lengths)[0].shape == (3, 2)
    only_empty, lengths = lw.pad([[], []])
    assert (only_empty.shape, lengths.tolist()) == ((0, 2), [0, 0])


def test_the_arrays_are_not_changed_nor_shared():
    sequence = normal(1, (3, 2))
    before = sequence.copy()
    x, _ = lw.pad([sequence])
    x[...] = 7
    assert_same_bits(sequence, before)


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([], ValueError, "sequences: expected at least one array, got none"),
        (3, TypeError, "sequences: expected an iterable of arrays, got int"),
        ([3.0], ValueError, r"sequences\[0\]: expected \(T,\) or \(T, features\), got \(\)"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ValueError,
         r"sequences\[1\]: expected \(T, 3\), as sequences\[0\] is, got \(2, 4\)"),
        ([np.zeros(2), np.zeros((2, 4))], ValueError,
         r"sequences\[1\]: expected \(T,\), as sequences\[0\] is, got \(2, 4\)"),
        ([np.zeros((2, 3)), []], ValueError, r"sequences\[1\]: expected \(T, 3\), as sequences\[0\] is, got \(0,\)"),
        ([np.zeros((2, 3, 4))], ValueError, r"sequences\[0\]: expected \(T,\) or \(T, features\), got \(2, 3, 4\)"),
        ([np.zeros((2, 3)), np.zeros((2, 3), complex)], TypeError,
         r"sequences\[1\]: expected real numbers, got dtype complex128"),
        (["ab", "c"], TypeError, r"sequences\[0\]: expected real numbers, got dtype"),
        ([["a", "b"]], TypeError, r"sequences\[0\]: expected real numbers, got dtype"),
        ([[[1, 2], [3]]], ValueError, r"sequences\[0\]: expected one array, got 2 sequences of different lengths"),
    ],
)  # fmt: skip
def test_what_cannot_be_padded(sequences, error, message):
    with pytest.raises(error, match=f"^{message}"):
        lw.pad(sequences)


def test_batch_first_is_a_bool():
    with pytest.raises(TypeError, match="batch_first: expected bool, got int"):
        lw.pad([[1.0]], 1)


@pytest.mark.parametrize("ragged", [lambda arrays: arrays, tuple, lambda arrays: [each.tolist() for each in arrays]])
def test_a_ragged_list_says_what_a_ragged_batch_is(ragged):
    lstm = random_lstm(input_size=3, hidden_size=4)
    arrays = [normal(1, (2, 3)), normal(2, (4, 3))]
    message = "{}: expected one array, got 2 sequences of different lengths; a ragged batch is one padded array and "
    message += "lengths, which latchwork.pad makes"
    with pytest.raises(ValueError, match=message.format("x")):
        lstm(ragged(arrays))
    trainer = lw.Trainer(lstm, "squared_error", lw.optim.SGD(lr=0.1))
    with pytest.raises(ValueError, match=message.format("y")):
        trainer.step(np.zeros((4, 2, 3)), ragged(arrays))


def test_an_array_of_arrays_says_it_too():
    arrays = np.empty(2, object)
    arrays[:] = [np.zeros((2, 3)), np.zeros((4, 3))]
    with pytest.raises(TypeError, match="x: expected one array, got 2 sequences of different lengths"):
        random_lstm(input_size=3, hidden_size=4)(arrays)
