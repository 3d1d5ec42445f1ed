"""Long texts: how they are encoded, and how much memory the language model takes beside them."""

import tracemalloc

import latchwork as lw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latchwork._random import Random
from latchwork.estimators import language_model
from latchwork.estimators.text import characters, text_windows
from latchwork.estimators.text.characters import Vocabulary

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
SURROGATES = st.text(st.sampled_from("\ud800\udbff\udc00\udfff\U00010000\U0010ffff a"), max_size=60)


def peak_of(call):
    """The most memory that NumPy and Python held at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("alphabet", "size"), [("abcdefghijklmnop", 1), ("".join(map(chr, range(0x4E00, 0x4F30))), 2)])
def test_memory_beside_the_text(alphabet, size):
    text = alphabet * (100_000 // len(alphabet))
    options = {
        "hidden_size": 1,
        "embedding_size": 1,
        "batch_size": 16,
        "window": 64,
        "max_epochs": 1,
        "random_state": 0,
    }
    model = lw.LSTMLanguageModel(**options, max_seconds=0).fit(text[:1000])
    steps = []

    def step(*_):  # a few steps of training are enough, and the others would take long
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return 1.0, None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_PIECE", 1024)  # as small beside this text as it is beside a long one
        patch.setattr(lw.Trainer, "step", step)
        patch.setattr(lw.Trainer, "gradient_norm", 1.0)
        trained = peak_of(lambda: lw.LSTMLanguageModel(**options).fit(text))
        assert len(steps) == 5
        patch.setattr(language_model, "STEPS_PER_CALL", 16)
        patch.setattr(model, "network_", lambda x, state: (np.zeros((*x.shape, len(model.vocabulary_) + 1)), None))
        measured = peak_of(lambda: model.bits_per_character(text))
    for peak in (trained, measured):
        assert peak < (size + 1.5) * len(text)
        assert peak < 6 * len(text)


@pytest.mark.parametrize(
    ("different", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)]
)
def test_tokens_take_the_smallest_dtype_that_holds_all(different, dtype):
    text = "".join(map(chr, range(different)))
    vocabulary = Vocabulary(text)
    tokens = vocabulary.encode(text + chr(different))
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, np.arange(different + 1))


@given(ANY_TEXT | SURROGATES, ANY_TEXT | SURROGATES, st.integers(1, 20))
def test_a_token_is_the_place_in_the_vocabulary(known, text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "_PIECE", piece)
        vocabulary = Vocabulary(known)
        tokens = vocabulary.encode(text)
        after_start = vocabulary.encode_after_start(text)
    assert vocabulary.characters == "".join(sorted(set(known)))
    places = [vocabulary.characters.find(character) for character in text]
    assert tokens.tolist() == [vocabulary.unknown if place < 0 else place for place in places]
    assert after_start.tolist() == [vocabulary.unknown, *tokens.tolist()]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_windows_read_some_tokens_as_unknown_in_inputs_and_targets(batch_size, monkeypatch):
    """Which ones is drawn before an epoch, from the places of the start token and all of the text."""
    monkeypatch.setattr(text_windows, "UNKNOWN_SHARE", 0.2)
    text = np.random.RandomState(1).randint(0, 9, 1501)
    tokens = np.concatenate([[9], text])
    windows = text_windows.TextWindows(tokens, 9, batch_size, 8, seed=4)
    for epoch in range(2):
        random = Random.of_epoch(4, epoch)
        changed = tokens.copy()
        changed[random.below(len(tokens), int(len(tokens) * 0.2 + random.uniform(1)[0]))] = 9
        assert 200 < np.count_nonzero(changed == 9) < 400
        end = np.zeros(batch_size, int)
        starts = None
        for batch in windows.batches(epoch):
            inputs, targets = batch.x, batch.y
            if starts is None:
                starts = windows._starts
                assert (inputs[0] == 9).all()
                inputs = inputs[1:]
                end += 1
            places = starts + end + np.arange(len(inputs))[:, np.newaxis]
            np.testing.assert_array_equal(inputs, changed[places])
            np.testing.assert_array_equal(targets[-len(inputs) :], changed[places + 1])
            end += len(inputs)
        assert end[0] == (1501 if batch_size == 1 else windows._bounds[-1])


def test_any_string_comes_back_from_a_file(tmp_path):
    path = tmp_path / "model.safetensors"

    @settings(max_examples=50)
    @given(SURROGATES.filter(lambda text: len(text) > 1) | ANY_TEXT.filter(lambda text: len(text) > 1))
    def check(text):
        model = lw.LSTMLanguageModel(2, 2, batch_size=2, window=8, max_epochs=1, max_seconds=0, random_state=0).fit(
            text
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", lambda _: None)  # which takes most of the time, and is not what is tested
            model.save(path)
        loaded = lw.load(path)
        assert loaded.vocabulary_ == model.vocabulary_ == "".join(sorted(set(text)))
        assert loaded.generate(text, 9, random_state=1) == model.generate(text, 9, random_state=1)
        assert loaded.bits_per_character(text) == model.bits_per_character(text)

    check()


def test_an_epoch_may_begin_at_any_window(monkeypatch):
    monkeypatch.setattr(text_windows, "UNKNOWN_SHARE", 0.2)
    tokens = np.concatenate([[9], np.random.RandomState(1).randint(0, 9, 1501)])
    windows = text_windows.TextWindows(tokens, 9, 7, 8, seed=4)
    whole = list(windows.batches(3))
    assert len(whole) == windows.steps()
    assert [batch.continues for batch in whole] == [False] + [True] * (len(whole) - 1)
    for first in (0, 1, len(whole) - 1, len(whole)):
        rest = list(windows.batches(3, first))
        assert len(rest) == len(whole) - first
        for batch, expected in zip(rest, whole[first:], strict=True):
            np.testing.assert_array_equal(batch.x, expected.x)
            np.testing.assert_array_equal(batch.y, expected.y)
            assert batch.continues == expected.continues
    assert any((a.x != b.x).any() for a, b in zip(whole, windows.batches(4), strict=True))
