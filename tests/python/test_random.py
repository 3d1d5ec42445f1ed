"""The random numbers that Python code draws from the core's generator."""

import numpy as np
import pytest
from latchwork import _core
from latchwork._random import Random

SEED = 0x9E3779B97F4A7C15


def philox(key, counter):
    """Philox4x32-10 as the paper writes it."""
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def test_words_are_philox():
    expected = [word for block in range(5) for word in philox(SEED, (block, 0, 0, 0x64726177))]
    assert _core.random_words(SEED, 0, 20).tolist() == expected
    assert _core.random_words(SEED, 3, 6).tolist() == expected[3:9]
    far = 4 * 2**33 + 1
    assert _core.random_words(SEED, far, 2).tolist() == philox(SEED, (0, 2, 0, 0x64726177))[1:3]
    assert _core.random_words(SEED, 5, 0).tolist() == []


def test_draws_go_on_where_the_last_one_ended():
    whole, parts = Random(3), Random(3)
    words = whole.words(12)
    np.testing.assert_array_equal(np.concatenate([parts.words(5), parts.words(7)]), words)
    assert parts.seed() == whole.seed()
    assert Random(3).seed() == int(words[0]) << 32 | int(words[1])


def test_uniform_numbers_have_53_bits():
    words = Random(8).words(2000).astype(object).reshape(-1, 2)
    expected = [((high >> 5) * 2**26 + (low >> 6)) / 2**53 for high, low in words]
    values = Random(8).uniform(1000)
    assert values.tolist() == expected
    assert abs(values.mean() - 0.5) < 0.03


def test_integers_below_a_bound():
    drawn = Random(5).below(7, 7000)
    assert set(drawn.tolist()) == set(range(7))
    assert np.abs(np.bincount(drawn) - 1000).max() < 150
    assert Random(5).below(1, 3).tolist() == [0, 0, 0]
    assert Random(5).below(2**53, 1)[0] == int(Random(5).uniform(1)[0] * 2**53)


def test_seeds():
    assert Random().seed() != Random().seed()
    assert Random(np.random.default_rng(1)).seed() == Random(np.random.default_rng(1)).seed()
    assert Random(np.random.RandomState(1)).seed() != Random(np.random.RandomState(2)).seed()
    for wrong, error in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="random_state: expected"):
            Random(wrong)


def test_functions_of_arrays():
    values = np.linspace(-30, 30, 301).reshape(7, 43)
    np.testing.assert_allclose(_core.exp(values), np.exp(values), rtol=3e-16)
    np.testing.assert_allclose(_core.log(values[values > 0]), np.log(values[values > 0]), rtol=4e-16, atol=1e-16)
    assert _core.exp(values).shape == (7, 43)
