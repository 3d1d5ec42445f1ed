"""Where NumPy raises an error for every floating-point event, and Python for every warning, all still works."""

import math
import warnings

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 20


@pytest.fixture(autouse=True)
def everything_raises():
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def model(**options):
    return lw.LSTMLanguageModel(8, 8, batch_size=4, window=16, max_epochs=2, random_state=0, **options).fit(TEXT)


def sure(network):
    """The network with scores so far apart that probabilities underflow."""
    with network.edit() as parameters:
        parameters["2.bias"][:] = 800.0 * np.arange(parameters["2.bias"].size)
    return network


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-310, 1e-300, 1e-8, 1e-3, 1.0, 1e300])
def test_any_temperature(temperature):
    text = model().generate("the ", 40, temperature=temperature, random_state=0)
    assert len(text) == 40


def test_scores_far_apart(tmp_path):
    fitted = model()
    sure(fitted.network_)
    likeliest = fitted.vocabulary_[-1]
    assert fitted.generate("", 5, random_state=0) == likeliest * 5
    assert math.isfinite(fitted.bits_per_character(TEXT))
    fitted.save(tmp_path / "model")
    assert lw.load(tmp_path / "model").bits_per_character(TEXT) == fitted.bits_per_character(TEXT)


@pytest.mark.parametrize("small", [1e-320, 1e-60, 1e-42])
def test_numbers_too_small_for_the_dtype_become_zero(dtype, small):
    lstm = random_lstm(input_size=3, hidden_size=4, dtype=dtype)
    x = np.full((5, 2, 3), small)
    if dtype == "float32" and small < 1e-50:
        assert_same_bits(lstm(x), lstm(np.zeros((5, 2, 3), np.float32)))
    state = (np.full((1, 2, 4), small), np.full((1, 2, 4), small))
    tape = lstm.record(x, state)
    tape.backward(np.full(tape.output.shape, small), state)
    lstm.load_state_dict({name: np.full(value.shape, small) for name, value in lstm.state_dict().items()})
    trainer = lw.Trainer(lstm, "squared_error", lw.optim.Adam(lr=1e-3))
    trainer.step(x, np.full((5, 2, 4), small))


def test_nan_and_infinity_pass_through():
    lstm = random_lstm(input_size=3, hidden_size=4)
    for kind in ("float16", "float64", "float32"):
        x = normal(1, (5, 3, 3)).astype(kind)
        x[2, 0], x[2, 1] = np.nan, np.inf
        output, _ = lstm(x)
        assert np.isnan(output[2:, 0]).all()
        assert np.isfinite(output[:, 2]).all()
        with pytest.raises(ValueError, match="x: expected finite numbers, got nan at step 2, row 0"):
            lw.Trainer(lstm, "squared_error", lw.optim.SGD(lr=0.1)).step(x, np.zeros((5, 3, 4)))


@pytest.mark.parametrize("bits", [0x7F800001, 0xFFA00000])
def test_signalling_nan_is_nan(bits):
    x = np.zeros((5, 2, 3), np.float32)
    x.view(np.uint32)[3, 1] = bits
    for dtype in ("float32", "float64"):
        output, _ = random_lstm(input_size=3, hidden_size=4, dtype=dtype)(x)
        assert np.isnan(output[3:, 1]).all()
        assert np.isfinite(output[:, 0]).all()


def test_all_that_is_left():
    network = lw.Network([lw.LSTM(3, 4, seed=0), lw.Last(), lw.Linear(4, 2, seed=0)], members=2)
    x = normal(1, (5, 2, 3))
    for loss, optimizer in (("absolute_error", lw.optim.AdamW(lr=1e-3)), ("squared_error", lw.optim.SGD(lr=1e-30))):
        lw.Trainer(network, loss, optimizer, clip_norm=1e-30).step(x, np.zeros((2, 2)), lengths=[5, 0])
    lstm = lw.LSTM(3, 4, seed=0, dropout=0.5, num_layers=2)
    optimizer = lw.optim.Adam(lstm, lr=1e-3)
    tape = lstm.record(x, training=True, mask_seed=0)
    optimizer.step(tape.backward(np.full(tape.output.shape, 1e-30)))
    lstm.trace(x.astype(np.float64) * 1e-300)
    stream = network.stream()
    stream.step(x[0, 0])
    assert np.isfinite(stream.state[0]).all()
    lw.Embedding(3, 2)(np.array([1, 2], np.uint64))
    lw.pad([x[:2, 0], x[:, 0].astype(np.float64)])
    with pytest.raises(ValueError, match=r"lengths: expected 0 to 5 \(T\), got -9223372036854775808"):
        lstm(x, lengths=[5, -(2**63)])
