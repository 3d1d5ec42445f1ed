"""What users pass in: odd arrays give right results, wrong ones a ValueError or TypeError that names the argument."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

OPTIONS = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True}
MESSAGE = r"expected.*got"


@pytest.fixture
def lstm(dtype):
    return random_lstm(dtype=dtype, **OPTIONS)


def chain(dtype="float32"):
    lstm = random_lstm(input_size=4, hidden_size=5, dtype=dtype)
    return lw.Network([lw.Embedding(7, 4, dtype=dtype, seed=1), lstm, lw.Linear(5, 3, dtype=dtype, seed=1)])


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    result = memory[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert not result.flags.aligned
    return result


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def field_of_records(array):
    records = np.zeros(array.shape, [("flag", "u1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


class ArrayLike:
    """An object that is no array but can become one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


class Broken:
    """An object whose conversion to an array raises an error."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


class Subclass(np.ndarray):
    """An array of another class."""


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "steps swapped with rows": lambda array: np.swapaxes(np.ascontiguousarray(np.swapaxes(array, 0, 1)), 0, 1),
    "every other feature": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "every other step": lambda array: np.repeat(array, 2, axis=0)[::2],
    "every other row": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    "steps backwards": lambda array: array[::-1].copy()[::-1],
    "rows backwards": lambda array: array[:, ::-1].copy()[:, ::-1],
    "features backwards": lambda array: array[..., ::-1].copy()[..., ::-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "field of records": field_of_records,
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "subclass": lambda array: array.view(Subclass),
    "memory view": memoryview,
    "array-like": ArrayLike,
    "nested lists": np.ndarray.tolist,
    "list of arrays": list,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_right_result(lstm, dtype, layout):
    lay = LAYOUTS[layout]
    x, start = normal(1, (6, 4, 3), dtype), (normal(2, (4, 4, 5), dtype), normal(3, (4, 4, 5), dtype))
    expected = lstm(x, start)
    assert_same_bits(lstm(lay(x), tuple(lay(part) for part in start)), expected)
    assert_same_bits(lstm.record(lay(x), [lay(part) for part in start]).output, expected[0])
    d_output = normal(4, expected[0].shape, dtype)
    wanted = lstm.record(x, start).backward(d_output, expected[1])
    actual = lstm.record(x, start).backward(lay(d_output), tuple(lay(part) for part in expected[1]))
    assert_same_bits(actual.x, wanted.x)
    assert_same_bits(dict(actual.parameters), dict(wanted.parameters))


@pytest.mark.parametrize(
    "kind", ["bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float16", ">i2"]
)
def test_any_real_dtype_gives_the_right_result(lstm, dtype, kind):
    x = (np.arange(72) % 2).reshape(6, 4, 3).astype(kind)
    output, _ = lstm(x)
    assert output.dtype == dtype
    assert_same_bits(output, lstm(x.astype(dtype))[0])


def test_repeated_memory_gives_the_right_result(lstm, dtype):
    row = normal(1, (1, 1, 3), dtype)
    expected, _ = lstm(np.tile(row, (6, 4, 1)))
    assert_same_bits(lstm(np.broadcast_to(row, (6, 4, 3)))[0], expected)
    one = normal(1, (6, 4, 1), dtype)
    assert_same_bits(lstm(np.broadcast_to(one, (6, 4, 3)))[0], lstm(np.repeat(one, 3, axis=2))[0])


def test_numbers_beyond_float32_become_infinite():
    lstm = random_lstm(input_size=3, hidden_size=5)
    with np.errstate(over="ignore"):
        actual = lstm(np.full((2, 1, 3), 1e300))
    assert_same_bits(actual, lstm(np.full((2, 1, 3), np.inf, np.float32)))


def test_plain_masked_arrays_are_arrays(lstm, dtype):
    x = normal(1, (6, 4, 3), dtype)
    assert_same_bits(lstm(np.ma.array(x))[0], lstm(x)[0])
    with pytest.raises(ValueError, match=rf"\bx\b.*{MESSAGE}"):
        lstm(np.ma.array(x, mask=x > 0))


# Every wrong argument of a call, as changes of one right set of them. name of the argument, what is passed, the error
X, STATE, LENGTHS, RESET = "x", "state", "lengths", "reset"
WRONG_CALLS = [
    (X, None, TypeError),
    (X, "text", TypeError),
    (X, object(), TypeError),
    (X, {"a": 1}, TypeError),
    (X, Broken(RuntimeError("no memory of it")), TypeError),
    (X, Broken(ValueError("no numbers")), ValueError),
    (X, np.zeros((6, 4, 3), complex), TypeError),
    (X, np.full((6, 4, 3), "a"), TypeError),
    (X, np.full((6, 4, 3), b"a"), TypeError),
    (X, np.full((6, 4, 3), None), TypeError),
    (X, np.zeros((6, 4, 3), "datetime64[s]"), TypeError),
    (X, np.zeros((6, 4, 3), "timedelta64[s]"), TypeError),
    (X, np.zeros((6, 4), [("a", "f4"), ("b", "f4"), ("c", "f4")]), TypeError),
    (X, [[[1.0, 2.0, 3.0], [1.0, 2.0]]], (TypeError, ValueError)),
    (X, 3.0, ValueError),
    (X, np.zeros(3), ValueError),
    (X, np.zeros((6, 4, 2)), ValueError),
    (X, np.zeros((6, 4, 4)), ValueError),
    (X, np.zeros((6, 4, 0)), ValueError),
    (X, np.zeros((6, 4)), ValueError),
    (X, np.zeros((6, 4, 3, 1)), ValueError),
    (X, np.zeros((1, 6, 4, 3)), ValueError),
    (X, [], ValueError),
    (STATE, 3, TypeError),
    (STATE, "hc", TypeError),
    (STATE, np.zeros((2, 4, 4, 5)), (TypeError, ValueError)),
    (STATE, (), ValueError),
    (STATE, (np.zeros((4, 4, 5)),), ValueError),
    (STATE, (np.zeros((4, 4, 5)),) * 3, ValueError),
    (STATE, (np.zeros((4, 4, 5)), None), TypeError),
    (STATE, (np.zeros((4, 4, 5)), np.zeros((4, 4, 5), complex)), TypeError),
    (STATE, (np.zeros((4, 4, 5)), np.zeros((4, 4, 6))), ValueError),
    (STATE, (np.zeros((4, 4, 6)), np.zeros((4, 4, 5))), ValueError),
    (STATE, (np.zeros((2, 4, 5)), np.zeros((2, 4, 5))), ValueError),
    (STATE, (np.zeros((4, 3, 5)), np.zeros((4, 3, 5))), ValueError),
    (STATE, (np.zeros((4, 1, 5)), np.zeros((4, 1, 5))), ValueError),
    (STATE, (np.zeros((4, 5)), np.zeros((4, 5))), ValueError),
    (STATE, (np.zeros((1, 4, 4, 5)), np.zeros((1, 4, 4, 5))), ValueError),
    (LENGTHS, 6, ValueError),
    (LENGTHS, "6666", TypeError),
    (LENGTHS, [6, 6, 6], ValueError),
    (LENGTHS, [6, 6, 6, 6, 6], ValueError),
    (LENGTHS, [[6, 6, 6, 6]], ValueError),
    (LENGTHS, [6, 6, 6, 7], ValueError),
    (LENGTHS, [6, 6, 6, 2**40], ValueError),
    (LENGTHS, np.array([6, 6, 6, 2**64 - 1], np.uint64), ValueError),
    (LENGTHS, [6, 6, 6, 2**70], (ValueError, TypeError)),
    (LENGTHS, [6, 6, -1, 6], ValueError),
    (LENGTHS, [6, 6, -(2**63), 6], ValueError),
    (LENGTHS, [6.0, 6.0, 6.0, 6.0], TypeError),
    (LENGTHS, [6, 6, None, 6], TypeError),
    (LENGTHS, [True] * 4, TypeError),
    (LENGTHS, [6, 6, float("nan"), 6], TypeError),
    (RESET, True, ValueError),
    (RESET, "reset", TypeError),
    (RESET, np.full((6, 4), 0.5), ValueError),
    (RESET, np.full((6, 4), np.nan), ValueError),
    (RESET, np.zeros((6, 4), complex), TypeError),
    (RESET, np.full((6, 4), 2), ValueError),
    (RESET, np.full((6, 4), -1), ValueError),
    (RESET, np.zeros((4, 6), bool), ValueError),
    (RESET, np.zeros(6, bool), ValueError),
    (RESET, np.zeros(4, bool), ValueError),
    (RESET, np.zeros((6, 4, 1), bool), ValueError),
    (RESET, np.zeros((6, 4, 3), bool), ValueError),
    (RESET, np.zeros((5, 4), bool), ValueError),
    (RESET, np.full((6, 4), None), TypeError),
]
NAMED = {STATE: r"\b(state|h_0|c_0)\b"}


@pytest.mark.parametrize("method", ["__call__", "record", "trace"])
@pytest.mark.parametrize("place", range(len(WRONG_CALLS)), ids=lambda place: f"{WRONG_CALLS[place][0]}-{place}")
def test_wrong_arguments_of_a_call(method, place):
    name, value, error = WRONG_CALLS[place]
    lstm = random_lstm(**OPTIONS)
    arguments = {"x": np.zeros((6, 4, 3))} | {name: value}
    with pytest.raises(error, match=f"{NAMED.get(name, rf'{name}')}.*{MESSAGE}"):
        getattr(lstm, method)(arguments.pop("x"), arguments.pop("state", None), **arguments)


def test_lengths_of_unbatched_input_are_refused():
    with pytest.raises(ValueError, match=f"lengths.*{MESSAGE}"):
        random_lstm(**OPTIONS)(np.zeros((6, 3)), lengths=[6])


def test_messages_name_shapes_as_the_design_does():
    lstm = lw.LSTM(8, 5)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        lstm(np.zeros((32, 10, 7)))
    assert str(raised.value) == "x: expected (T, N, 8), got (32, 10, 7)"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("d_output", np.zeros((6, 4, 9)), ValueError),
        ("d_output", np.zeros((4, 6, 10)), ValueError),
        ("d_output", np.zeros((6, 10)), ValueError),
        ("d_output", 1.0, ValueError),
        ("d_output", np.zeros((6, 4, 10), complex), TypeError),
        ("d_output", "text", TypeError),
        ("d_state", np.zeros((4, 4, 5)), (TypeError, ValueError)),
        ("d_state", (np.zeros((4, 4, 5)),), ValueError),
        ("d_state", (np.zeros((4, 4, 5)), np.zeros((4, 4, 6))), ValueError),
        ("d_state", (np.zeros((4, 4, 5)), np.zeros((4, 4, 5), complex)), TypeError),
        ("into", 3, TypeError),
        ("into", {}, TypeError),
    ],
)
def test_wrong_arguments_of_backward(name, value, error):
    tape = random_lstm(**OPTIONS).record(np.zeros((6, 4, 3)))
    arguments = {"d_output": np.zeros((6, 4, 10))} | {name: value}
    named = r"d_state|d_h|d_c" if name == "d_state" else name
    with pytest.raises(error, match=f"({named}).*{MESSAGE}"):
        tape.backward(**arguments)


def test_into_takes_gradients_of_the_same_layer_only():
    one, other = random_lstm(**OPTIONS), random_lstm(input_size=3, hidden_size=6)
    gradients = other.record(np.zeros((6, 4, 3))).backward(np.zeros((6, 4, 6)))
    with pytest.raises(ValueError, match=f"into.*{MESSAGE}"):
        one.record(np.zeros((6, 4, 3))).backward(np.zeros((6, 4, 10)), into=gradients)


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, "1", True])
def test_mask_seeds_are_64_bits(value):
    with pytest.raises((ValueError, TypeError), match=f"mask_seed.*{MESSAGE}"):
        random_lstm(**OPTIONS).record(np.zeros((6, 4, 3)), training=True, mask_seed=value)


HUGE = [2**31, 2**40, 2**62, 2**63, 2**64, 2**80]
SIZES = [(-1, ValueError), (0, ValueError), (1.0, TypeError), ("3", TypeError), (None, TypeError), (True, TypeError)]
FLAGS = [("yes", TypeError), (None, TypeError), (1, TypeError)]
DTYPES = [("float16", ValueError), ("int32", ValueError), ("complex64", ValueError), (None, (ValueError, TypeError))]
DTYPES += [("no dtype", (ValueError, TypeError)), (3, (ValueError, TypeError))]
SEEDS = [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError)]

WRONG_OPTIONS = {
    lw.LSTM: {
        "input_size": SIZES,
        "hidden_size": SIZES,
        "num_layers": SIZES,
        "bias": FLAGS,
        "batch_first": FLAGS,
        "bidirectional": FLAGS,
        "dropout": [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError), ("half", TypeError)],
        "proj_size": [(-1, ValueError), (5, ValueError), (6, ValueError), (1.0, TypeError), (2**62, ValueError)],
        "dtype": DTYPES,
        "seed": SEEDS,
    },
    lw.LSTMCell: {"input_size": SIZES, "hidden_size": SIZES, "bias": FLAGS, "dtype": DTYPES, "seed": SEEDS},
    lw.Linear: {
        "in_features": SIZES,
        "out_features": SIZES,
        "bias": FLAGS,
        "dtype": DTYPES,
        "seed": SEEDS,
        "activation": [
            ("mish", ValueError),
            (("softplus", 1.0), ValueError),
            ("", ValueError),
            (3, (TypeError, ValueError)),
            (len, TypeError),
        ],
    },
    lw.Embedding: {"num_embeddings": SIZES, "embedding_dim": SIZES, "dtype": DTYPES, "seed": SEEDS},
}
RIGHT_OPTIONS = {
    lw.LSTM: {"input_size": 3, "hidden_size": 5},
    lw.LSTMCell: {"input_size": 3, "hidden_size": 5},
    lw.Linear: {"in_features": 3, "out_features": 5},
    lw.Embedding: {"num_embeddings": 7, "embedding_dim": 5},
}
ALL_WRONG_OPTIONS = [
    (kind, name, value, error)
    for kind, options in WRONG_OPTIONS.items()
    for name, values in options.items()
    for value, error in values
]


@pytest.mark.parametrize(
    ("kind", "name", "value", "error"),
    ALL_WRONG_OPTIONS,
    ids=[f"{kind.__name__}-{name}-{value}" for kind, name, value, _ in ALL_WRONG_OPTIONS],
)
def test_wrong_options_of_constructors(kind, name, value, error):
    with pytest.raises(error, match=f"{name}.*{MESSAGE}"):
        kind(**RIGHT_OPTIONS[kind] | {name: value})


@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("kind", RIGHT_OPTIONS)
def test_sizes_that_overflow_are_refused(kind, size):
    for name in RIGHT_OPTIONS[kind]:
        # A size that fits in 64 bits but in no memory may also be a MemoryError.
        with pytest.raises((ValueError, MemoryError)):
            kind(**dict.fromkeys(RIGHT_OPTIONS[kind], size))
        if size >= 2**60:
            with pytest.raises(ValueError, match=MESSAGE):
                kind(**RIGHT_OPTIONS[kind] | {name: size})
    with pytest.raises(ValueError, match=MESSAGE):
        lw.LSTM(3, 5, num_layers=2**62)


def test_more_steps_than_memory_holds_are_refused(lstm, dtype):
    x = np.broadcast_to(np.zeros((1, 1, 3), dtype), (2**50, 1, 3))
    for call in (lstm, lstm.record, lstm.trace):
        with pytest.raises((ValueError, MemoryError)):
            call(x)
        with pytest.raises((ValueError, MemoryError)):
            call(np.swapaxes(x, 0, 1))


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="nonsense"):
        lw.LSTM(3, 5, nonsense=True)
    with pytest.raises(TypeError):
        lw.LSTM(3)


@pytest.mark.parametrize(
    ("x", "state", "error"),
    [
        (np.zeros((4, 2)), None, ValueError),
        (np.zeros((2, 4, 3)), None, ValueError),
        (np.zeros((4, 3), complex), None, TypeError),
        (3.0, None, ValueError),
        (None, None, TypeError),
        (np.zeros((4, 3)), 3, TypeError),
        (np.zeros((4, 3)), (np.zeros((4, 5)),), ValueError),
        (np.zeros((4, 3)), (np.zeros((4, 5)), np.zeros((4, 4))), ValueError),
        (np.zeros((4, 3)), (np.zeros((3, 5)), np.zeros((3, 5))), ValueError),
        (np.zeros((4, 3)), (np.zeros(5), np.zeros(5)), ValueError),
        (np.zeros(3), (np.zeros((1, 5)), np.zeros((1, 5))), ValueError),
    ],
)
def test_wrong_arguments_of_a_cell(x, state, error):
    with pytest.raises(error, match=rf"(x|state|\bh\b|\bc\b|h_0|c_0).*{MESSAGE}"):
        lw.LSTMCell(3, 5)(x, state)


def test_wrong_arguments_of_a_linear_layer():
    for x, error in ((np.zeros((4, 2)), ValueError), (3.0, ValueError), (np.zeros((4, 3), complex), TypeError)):
        with pytest.raises(error, match=f"x.*{MESSAGE}"):
            lw.Linear(3, 5)(x)


@pytest.mark.parametrize("rows", [0, 4])
@pytest.mark.parametrize("steps", [0, 6])
def test_empty_batches_and_sequences(lstm, dtype, steps, rows):
    x = np.zeros((steps, rows, 3), dtype)
    start = (normal(2, (4, rows, 5), dtype), normal(3, (4, rows, 5), dtype))
    output, state = lstm(x, start)
    assert output.shape == (steps, rows, 10)
    tape, trace = lstm.record(x, start), lstm.trace(x, start)
    assert_same_bits((tape.output, tuple(tape.state)), (output, state))
    assert trace["l0"].cell.shape == (steps, rows, 5)
    d_state = (normal(4, (4, rows, 5), dtype), normal(5, (4, rows, 5), dtype))
    gradients = tape.backward(np.ones_like(output), d_state)
    assert gradients.x.shape == x.shape
    if steps == 0 or rows == 0:
        assert_same_bits(state, start)
        assert_same_bits(tuple(gradients.state), d_state)
        assert all(np.all(value == 0) for value in gradients.parameters.values())
    assert_same_bits(lstm(x, start, lengths=np.full(rows, steps), reset=np.zeros((steps, rows), bool))[1], state)


def test_an_empty_unbatched_sequence(lstm, dtype):
    start = (normal(2, (4, 5), dtype), normal(3, (4, 5), dtype))
    output, state = lstm(np.zeros((0, 3), dtype), start)
    assert output.shape == (0, 10)
    assert_same_bits(state, start)


def test_all_lengths_zero(lstm, dtype):
    x, start = np.full((6, 4, 3), np.nan, dtype), (normal(2, (4, 4, 5), dtype), normal(3, (4, 4, 5), dtype))
    tape = lstm.record(x, start, lengths=[0] * 4, reset=np.ones((6, 4), bool))
    assert np.all(tape.output == 0)
    assert_same_bits(tuple(tape.state), start)
    gradients = tape.backward(np.full(tape.output.shape, np.nan, dtype), start)
    assert np.all(gradients.x == 0)
    assert_same_bits(tuple(gradients.state), start)
    assert all(np.all(value == 0) for value in gradients.parameters.values())


def test_length_zero_passes_the_state_through_every_layer(lstm, dtype):
    x, start = normal(1, (6, 4, 3), dtype), (normal(2, (4, 4, 5), dtype), normal(3, (4, 4, 5), dtype))
    _, (h_n, c_n) = lstm(x, start, lengths=[6, 0, 3, 0])
    for row in (1, 3):
        assert_same_bits(h_n[:, row], start[0][:, row])
        assert_same_bits(c_n[:, row], start[1][:, row])


def test_an_empty_list_of_lengths_fits_an_empty_batch(lstm, dtype):
    assert lstm(np.zeros((6, 0, 3), dtype), lengths=[])[0].shape == (6, 0, 10)


def test_empty_networks_inputs(dtype):
    network = chain(dtype)
    assert network(np.zeros((0, 4), int))[0].shape == (0, 4, 3)
    assert network(np.zeros((6, 0), int))[0].shape == (6, 0, 3)
    assert lw.Linear(3, 5, dtype=dtype)(np.zeros((0, 3), dtype)).shape == (0, 5)
    assert lw.LSTMCell(3, 5, dtype=dtype)(np.zeros((0, 3), dtype))[0].shape == (0, 5)
    cut = lw.Network(
        [random_lstm(input_size=3, hidden_size=5, dtype=dtype), lw.Last(), lw.Linear(5, 2, dtype=dtype, seed=1)]
    )
    output, _ = cut(np.full((6, 2, 3), np.nan, dtype), lengths=[0, 0])
    assert output.shape == (2, 2)
    assert np.isfinite(output).all()
