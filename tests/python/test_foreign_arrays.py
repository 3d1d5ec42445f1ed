"""Arrays of other libraries: bfloat16 of ml_dtypes, PyTorch and JAX, and pandas' columns that may have gaps."""

import struct

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm
from safetensors import safe_open
from safetensors.numpy import load_file

OPTIONS = {"input_size": 3, "hidden_size": 4, "num_layers": 2, "proj_size": 2}


def rounded(array):
    """The float32 numbers that bfloat16 has too, next to these towards zero."""
    return (np.asarray(array, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def in_ml_dtypes(array):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    return array.astype(ml_dtypes.bfloat16)


def in_torch(array):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch.from_numpy(array).bfloat16()


def in_jax(array):
    pytest.importorskip("jax", reason="JAX is not installed")
    import jax.numpy

    return jax.numpy.asarray(array, dtype=jax.numpy.bfloat16)


class OfTorch:
    """Behaves as PyTorch's bfloat16 tensors do, so that their case is tested without PyTorch too."""

    dtype = "torch.bfloat16"

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def float(self):
        return self.array


@pytest.fixture(params=[in_ml_dtypes, in_torch, in_jax, OfTorch])
def bfloat16(request):
    return request.param


class TestBfloat16:
    """It is taken as float16 is: exactly, wherever real numbers are read."""

    def test_calls(self, bfloat16, dtype):
        lstm = random_lstm(**OPTIONS, dtype=dtype)
        x, h_0, c_0 = rounded(normal(1, (5, 3, 3))), rounded(normal(2, (2, 3, 2))), rounded(normal(3, (2, 3, 4)))
        reset = (np.arange(15) % 4 == 0).reshape(5, 3).astype(np.float32)
        expected = lstm(x, (h_0, c_0), reset=reset)
        actual = lstm(bfloat16(x), (bfloat16(h_0), bfloat16(c_0)), reset=bfloat16(reset))
        assert_same_bits(actual, expected)
        assert_same_bits(lstm([bfloat16(x[0]), bfloat16(x[1])]), lstm(x[:2]))

    def test_masks_of_streams(self, bfloat16, dtype):
        lstm, x = random_lstm(**OPTIONS, dtype=dtype), normal(1, (6, 3, 3)).astype(dtype)
        marks = (np.arange(18) % 4 == 0).reshape(6, 3)
        streams = [lstm.stream(3), lstm.stream(3)]
        for step, row in zip(x, marks, strict=True):
            numbers = row.astype(np.float32)
            expected = streams[0].step(step, reset=row, skip=~row)
            actual = streams[1].step(step, reset=bfloat16(numbers), skip=bfloat16(1 - numbers))
            assert_same_bits(actual, expected)
        with pytest.raises(ValueError, match="reset: expected 0 or 1"):
            streams[1].step(x[0], reset=bfloat16(np.full(3, 0.5, np.float32)))

    def test_gradients_and_training(self, bfloat16):
        d_output, y = rounded(normal(2, (5, 3, 2))), rounded(normal(3, (5, 3, 2)))
        x = rounded(normal(1, (5, 3, 3)))
        lstm = random_lstm(**OPTIONS)
        tape = lstm.record(x)
        assert_same_bits(tape.backward(bfloat16(d_output)).x, tape.backward(d_output).x)
        trainer = lw.Trainer(lstm, "squared_error", lw.optim.SGD(lr=0.1))
        assert_same_bits(trainer.evaluate(bfloat16(x), bfloat16(y))[1], trainer.evaluate(x, y)[1])
        assert trainer.evaluate(bfloat16(x), bfloat16(y))[0] == trainer.evaluate(x, y)[0]

    def test_other_layers(self, bfloat16):
        x = rounded(normal(1, (3, 4)))
        for layer in (lw.Linear(4, 2, seed=1), lw.LSTMCell(4, 2, seed=1), lw.Last()):
            assert_same_bits(layer(bfloat16(x)), layer(x))

    def test_parameters(self, bfloat16, dtype):
        lstm, other = random_lstm(**OPTIONS, dtype=dtype), lw.LSTM(**OPTIONS, dtype=dtype, seed=5)
        state = {name: rounded(value) for name, value in lstm.state_dict().items()}
        other.load_state_dict({name: bfloat16(value) for name, value in state.items()})
        for name, value in state.items():
            assert_same_bits(other.state_dict()[name], value.astype(dtype))
        lstm.parameters["bias_ih_l1"] = bfloat16(state["bias_ih_l1"])
        assert_same_bits(lstm.state_dict()["bias_ih_l1"], state["bias_ih_l1"].astype(dtype))
        with lstm.edit() as parameters:
            parameters["bias_hh_l0"] = bfloat16(state["bias_hh_l0"])
        assert_same_bits(lstm.state_dict()["bias_hh_l0"], state["bias_hh_l0"].astype(dtype))

    def test_every_number_is_exact(self):
        bits = np.arange(2**16, dtype=np.uint32)
        wanted = (bits << 16).view(np.float32)
        finite = np.isfinite(wanted)
        with np.errstate(invalid="ignore"):  # NaN
            given = in_ml_dtypes(wanted)
        padded, _ = lw.pad([given[finite]])
        assert_same_bits(padded[:, 0], wanted[finite])

    def test_any_strides(self):
        x, lstm = in_ml_dtypes(normal(1, (6, 4, 3))), random_lstm(**OPTIONS)
        expected = lstm(x.astype(np.float32))
        wide = np.repeat(x, 2, axis=-1)[..., ::2]
        for each in (np.asfortranarray(x), wide, x[::-1].copy()[::-1]):
            assert_same_bits(lstm(each), expected)

    def test_it_holds_no_integers(self, bfloat16):
        network = lw.Network([lw.Embedding(5, 3), lw.LSTM(3, 2)])
        with pytest.raises(TypeError, match="x: expected integers, got dtype"):
            network(bfloat16(np.ones((2, 2), np.float32)))

    def test_what_numpy_cannot_read_stays_an_error(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        with pytest.raises(TypeError, match="x: expected an array, got Tensor: Can't call numpy"):
            random_lstm(**OPTIONS)(torch.zeros(5, 3, 3, dtype=torch.bfloat16, requires_grad=True))


def rewrite(path, tensors, code):
    """Write other tensors into a model's file, as a program does that makes models smaller."""
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    header, content = [], b""
    for name, value in tensors.items():
        start, content = len(content), content + value.tobytes()
        header.append(
            f'"{name}":{{"dtype":"{code}","shape":{list(value.shape)},"data_offsets":[{start},{len(content)}]}}'
        )
    pairs = ",".join(f'"{name}":{escaped(value)}' for name, value in metadata.items())
    text = f'{{"__metadata__":{{{pairs}}},{",".join(header)}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def escaped(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_files_may_hold_halves(tmp_path, dtype, kind):
    """Numbers of 16 bits become the model's dtype, exactly."""
    path = tmp_path / "model.safetensors"
    lstm = random_lstm(**OPTIONS, dtype=dtype)
    lstm.save(path)
    tensors = load_file(path)
    if kind == "float16":
        halves = {name: value.astype(np.float16) for name, value in tensors.items()}
        wanted = {name: value.astype(dtype) for name, value in halves.items()}
    else:
        wanted = {name: rounded(value).astype(dtype) for name, value in tensors.items()}
        halves = {name: (rounded(value).view(np.uint32) >> 16).astype("<u2") for name, value in tensors.items()}
    rewrite(path, halves, "F16" if kind == "float16" else "BF16")
    loaded = lw.load(path)
    assert loaded.dtype == dtype
    assert_same_bits(dict(sorted(loaded.state_dict().items())), dict(sorted(wanted.items())))


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture
def table(pandas):
    values = {"a": [1.5, 2.0, -3.0], "b": [1, 2, 3], "c": [True, False, True]}
    return pandas.DataFrame(values).astype({"a": "Float64", "b": "Int64", "c": "boolean"})


class TestPandas:
    """Columns that may have gaps are taken if they have none."""

    VALUES = ((1.5, 1, 1), (2.0, 2, 0), (-3.0, 3, 1))

    def test_a_table(self, table, dtype):
        lstm = random_lstm(input_size=3, hidden_size=4, dtype=dtype)
        expected = lstm(np.array(self.VALUES))
        for given in (table, table.astype("Float64"), table.astype(object), table.astype(float)):
            assert_same_bits(lstm(given), expected)
        # NumPy's columns beside the others, other names and another index
        mixed = table.astype({"a": "float32"}).set_axis([7, 7, 9]).set_axis([0, 0, "x"], axis=1)
        assert_same_bits(lstm(mixed), expected)
        assert_same_bits(lstm([table, table]), lstm(np.array([self.VALUES] * 2)))

    def test_arrows_columns(self, table):
        pytest.importorskip("pyarrow", reason="PyArrow is not installed")
        lstm = random_lstm(input_size=3, hidden_size=4)
        assert_same_bits(lstm(table.convert_dtypes(dtype_backend="pyarrow")), lstm(np.array(self.VALUES)))

    def test_one_column(self, table):
        network = lw.Network([lw.Embedding(5, 3, seed=1), lw.LSTM(3, 4, seed=1)])
        for given in (table["b"], table["b"].array, table["b"].astype(object)):
            assert_same_bits(network(given), network([1, 2, 3]))
        x = normal(1, (3, 1, 2))
        lstm = random_lstm(input_size=2, hidden_size=4)
        assert_same_bits(lstm(x, reset=table[["c"]]), lstm(x, reset=[[True], [False], [True]]))

    def test_tables_of_different_lengths(self, table):
        padded, lengths = lw.pad([table, table[:2]])
        assert padded.shape == (3, 2, 3)
        assert lengths.tolist() == [3, 2]
        np.testing.assert_array_equal(padded[:2, 1], self.VALUES[:2])

    @pytest.mark.parametrize("column", ["a", "b", "c"])
    def test_gaps(self, pandas, table, column):
        lstm = random_lstm(input_size=3, hidden_size=4)
        whole = table.copy()
        table.loc[1:, column] = pandas.NA
        for given in (table, table.astype(object)):
            with pytest.raises(
                ValueError, match=f"^x: expected no missing values, got one in row 1, column '{column}'$"
            ):
                lstm(given)
        with pytest.raises(ValueError, match=r"^x\[1\]: expected no missing values, got one in row 1, column"):
            lstm([whole, table])
        for given in (table[column], table[column].array):
            with pytest.raises(ValueError, match="^tokens: expected no missing values, got one in row 1"):
                lw.Embedding(5, 3)(given)

    def test_nan_of_numpys_columns_is_a_number(self, table):
        lstm = random_lstm(input_size=3, hidden_size=4)
        table = table.astype(float)
        table.loc[2, "b"] = np.nan
        output, _ = lstm(table)
        assert np.isfinite(output[:2]).all()
        assert np.isnan(output[2]).all()

    @pytest.mark.parametrize("values", [["1", "2", "3"], [1, 2j, "3"]])
    def test_what_holds_no_numbers(self, table, values):
        table["b"] = values
        with pytest.raises(TypeError, match=r"^x: expected numbers, got dtype .* in column 'b'$"):
            random_lstm(input_size=3, hidden_size=4)(table)
