"""Drawing tokens: against NumPy's own arithmetic, by a chi-square test, and stop strings against a plain search."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from latchwork._random import Random
from latchwork.estimators.text.generation import written
from latchwork.estimators.text.sampling import Draws, Sampling, StopStrings, draw, joined

SCORES = np.array([2.0, -1.0, 0.5, 2.0, 0.5, -30.0, 1.0], np.float32)


def probabilities(scores, temperature=1.0, top_k=None, top_p=None):
    """The definition, in plain loops: which tokens are left, and how likely each of them is."""
    exponentials = [math.exp((score - max(scores)) / temperature) for score in scores]
    likeliest = sorted(range(len(scores)), key=lambda token: (-exponentials[token], token))
    if top_k is not None:
        likeliest = likeliest[:top_k]
    if top_p is not None:
        total = sum(exponentials[token] for token in likeliest)
        kept, sum_of_kept = [], 0.0
        for token in likeliest:
            if kept and sum_of_kept >= top_p * total:
                break
            kept.append(token)
            sum_of_kept += exponentials[token]
        likeliest = kept
    total = sum(exponentials[token] for token in likeliest)
    return [exponentials[token] / total if token in likeliest else 0.0 for token in range(len(scores))]


CHOICES = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 3},
    {"top_k": 4},
    {"top_k": 100},
    {"top_p": 1e-9},
    {"top_p": 0.5},
    {"top_p": 0.9},
    {"top_p": 1.0},
    {"temperature": 2.0, "top_k": 5, "top_p": 0.7},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_frequencies_are_the_probabilities(choice):
    count = 20_000
    scores = np.tile(SCORES, (count, 1))
    drawn = draw(scores, Sampling.checked(choice.get("temperature", 1.0), choice.get("top_k"), choice.get("top_p")),
                 Draws(7, count))  # fmt: skip
    assert drawn.shape == (count,)
    frequencies = np.bincount(drawn, minlength=len(SCORES))
    expected = np.array(probabilities(SCORES.astype(float), **choice)) * count
    assert (frequencies[expected == 0] == 0).all()
    tested = expected > 5
    chi_square = float(((frequencies[tested] - expected[tested]) ** 2 / expected[tested]).sum())
    degrees = max(int(tested.sum()) - 1, 1)
    # Wilson and Hilferty's approximation of the 99.9th percentile.
    assert chi_square < degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert frequencies[~tested].sum() <= 10


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("uniform", [0.0, 0.1, 0.37, 0.5, 0.9, 1 - 2.0**-53])
def test_a_draw_is_the_first_token_at_which_the_probabilities_pass_the_random_number(choice, uniform, monkeypatch):
    for seed in range(5):
        scores = np.random.RandomState(seed).standard_normal((3, 17)) * 3
        monkeypatch.setattr(Draws, "uniform", lambda self: np.full(3, uniform))
        drawn = draw(scores, Sampling(choice.get("temperature", 1.0), choice.get("top_k"), choice.get("top_p")),
                     Draws(0, 3))  # fmt: skip
        for row, token in zip(scores, drawn.tolist(), strict=True):
            expected = np.cumsum(probabilities(row, **choice))
            assert expected[token] > uniform - 1e-12
            assert probabilities(row, **choice)[token] > 0
            assert token == 0 or expected[token - 1] <= uniform + 1e-12


def test_of_equally_likely_tokens_the_first_ones_stay():
    scores = np.zeros((500, 6))
    assert set(draw(scores, Sampling(top_k=2), Draws(1, 500)).tolist()) == {0, 1}
    assert set(draw(scores, Sampling(top_p=0.5), Draws(1, 500)).tolist()) == {0, 1, 2}
    assert set(draw(scores, Sampling(temperature=0.0), Draws(1, 500)).tolist()) == {0}


def test_temperature_0_takes_no_random_numbers(monkeypatch):
    monkeypatch.setattr(Draws, "uniform", lambda self: pytest.fail("drew"))
    assert draw(np.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), Sampling(0.0), Draws(0, 2)).tolist() == [1, 0]


def test_a_row_s_random_numbers_are_those_of_its_seed():
    draws = Draws(2**64 - 2, 4)
    rows = np.array([draws.uniform() for _ in range(150)])
    for row, seed in enumerate([2**64 - 2, 2**64 - 1, 0, 1]):
        np.testing.assert_array_equal(rows[:, row], Random(seed).uniform(150))


def test_scores_of_members_are_joined_by_the_mean_of_their_probabilities():
    scores = np.random.RandomState(0).standard_normal((3, 5, 2, 7)).astype(np.float32) * 4
    exponentials = np.exp(scores.astype(float))
    expected = np.log((exponentials / exponentials.sum(axis=-1, keepdims=True)).mean(axis=0))
    np.testing.assert_allclose(joined(scores), expected, rtol=1e-12)
    # Far apart, where no probability itself can be held.
    apart = np.array([[[0.0, -2000.0]], [[0.0, -3000.0]]])
    np.testing.assert_allclose(joined(apart), [[0.0, -2000.0 - math.log(2)]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1.0, None, None), ValueError, "temperature: expected at least 0, got -1.0"),
        ((1.0, 0, None), ValueError, "top_k: expected at least 1, got 0"),
        ((1.0, 2.0, None), TypeError, "top_k: expected int, got float"),
        ((1.0, None, 0.0), ValueError, "top_p: expected more than 0, got 0"),
        ((1.0, None, 1.5), ValueError, "top_p: expected 0 to 1, got 1.5"),
        ((1.0, None, math.nan), ValueError, "top_p: expected 0 to 1, got nan"),
        ((1.0, None, "0.5"), TypeError, "top_p: expected float, got str"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Sampling.checked(*arguments)


@pytest.mark.parametrize(
    ("stop", "error", "message"),
    [
        (3, TypeError, "stop: expected a str or a list of them, got int"),
        (["a", 3], TypeError, "stop: expected a str or a list of them, got int in it"),
        ("", ValueError, "stop: expected at least one character"),
        (["a", ""], ValueError, "stop: expected at least one character"),
        (b"a", TypeError, "stop: expected a str or a list of them, got bytes"),
    ],
)
def test_stop_strings_that_are_refused(stop, error, message):
    with pytest.raises(error, match=message):
        StopStrings.checked(stop)


def test_stop_strings_that_are_read():
    assert StopStrings.checked(None) == []
    assert StopStrings.checked("ab") == ["ab"]
    assert StopStrings.checked(("ab", "c")) == ["ab", "c"]


def ended(text, stops):
    """The definition: grow the text character by character until one of the stop strings is complete."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(
    st.lists(st.text("ab", max_size=5), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
@example(["a", "bc", "d"], ["abcd", "bc"])
@example(["abcd"], ["abcd", "bc"])
@example(["aab"], ["aab", "ab", "b"])
def test_a_text_ends_before_the_stop_string_that_is_complete_first(pieces, stops):
    filtered = StopStrings(stops)
    shown = ""
    text = "".join(pieces)
    expected, stopped = ended(text, stops)
    for number, piece in enumerate(pieces, 1):
        shown += filtered.text(piece)
        so_far = "".join(pieces[:number])
        assert expected.startswith(shown)
        if not filtered.stopped:
            # What is held back is the longest end that a stop string may begin with.
            held = so_far[len(shown) :]
            starts = [so_far[begin:] for begin in range(len(so_far) + 1)]
            assert held == max(
                (end for end in starts if any(stop.startswith(end) for stop in stops)), key=len, default=""
            )
    shown += filtered.rest()
    assert shown == expected
    assert filtered.stopped == stopped


class Letters:
    """A decoder of tokens that are letters, the last of which it holds back."""

    def __init__(self):
        self.held = ""

    def text(self, token):
        text, self.held = self.held, "abcdef"[token]
        return text

    def rest(self):
        return self.held


def test_texts_are_written_side_by_side():
    asked = []

    def tokens():
        for step in ([0, 1], [2, 3], [4, 5], [0, 0]):
            asked.append(step)
            yield step

    assert list(written(tokens(), [Letters(), Letters()], [], 3)) == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert len(asked) == 3
    # The first text stops at "c", which waits until the end of the second.
    assert list(written(tokens(), [Letters(), Letters()], ["c"], 3)) == [["a", "b"], ["", "d"], ["", "f"]]
    asked.clear()
    assert list(written(tokens(), [Letters(), Letters()], ["a", "b"], 4)) == []
    assert len(asked) == 2  # no further token is asked for when all have stopped
    assert list(written(tokens(), [Letters()] * 2, [], 0)) == []
