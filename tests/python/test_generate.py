"""Texts that a language model writes: pieces, stop strings, samples side by side, and what is drawn from."""

import math

import latchwork as lw
import numpy as np
import pytest

TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 40
SMALL = {"hidden_size": 16, "embedding_size": 8, "batch_size": 8, "window": 32, "lr": 0.02, "random_state": 0}


def ords(text):
    return [ord(character) for character in text]


def text_of(numbers):
    return "".join(map(chr, numbers))


KINDS = ["characters", "bytes", "words", (ords, text_of)]


@pytest.fixture(scope="module", params=KINDS, ids=["characters", "bytes", "words", "callables"])
def model(request):
    return lw.LSTMLanguageModel(**SMALL, max_epochs=3, tokenizer=request.param).fit(TEXT)


@pytest.fixture(scope="module")
def members():
    return lw.LSTMLanguageModel(**SMALL, max_epochs=2, n_members=3).fit(TEXT)


def scores_of(model, tokens):
    """What the model predicts after these tokens, by its definition: the mean of the members' probabilities."""
    network = model.network_
    output = np.asarray(network(np.array([model._tokenizer.unknown, *tokens])[:, np.newaxis])[0], float)
    if network.members == 1:
        output = output[np.newaxis]
    exponentials = np.exp(output[:, -1, 0] - output[:, -1, 0].max(axis=1, keepdims=True))
    return np.log((exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0))[:-1]


def test_the_likeliest_token_each_time(model):
    tokens = model._tokenizer.encode("the ").tolist()
    decoder = model._tokenizer.decoder("the ")
    expected = ""
    for _ in range(20):
        tokens.append(int(scores_of(model, tokens).argmax()))
        expected += decoder.text(tokens[-1])
    assert model.generate("the ", 20, temperature=0) == expected + decoder.rest()
    for choice in ({"top_k": 1}, {"top_p": 1e-9}):
        assert model.generate("the ", 20, random_state=5, **choice) == expected + decoder.rest()


def test_the_likeliest_token_of_members(members):
    tokens = members._tokenizer.encode("the ").tolist()
    for _ in range(20):
        tokens.append(int(scores_of(members, tokens).argmax()))
    assert members.generate("the ", 20, temperature=0) == "".join(members.vocabulary_[each] for each in tokens[4:])
    assert len(members.generate("the ", 20, random_state=1, n_samples=2)) == 2


def test_pieces_are_the_whole(model):
    for stop in (None, "nine", ["st", "u", "zzz"]):
        arguments = {"prompt": "the ", "length": 60, "temperature": 2.0, "random_state": 3, "stop": stop}
        pieces = list(model.generate_stream(**arguments))
        assert all(pieces)
        assert "".join(pieces) == model.generate(**arguments)
        several = list(model.generate_stream(**arguments, n_samples=3))
        assert all(any(each) for each in several)
        assert ["".join(each) for each in zip(*several, strict=True)] == model.generate(**arguments, n_samples=3)


def test_a_sample_does_not_depend_on_the_others(model):
    arguments = {"prompt": "the ", "length": 80, "temperature": 1.5, "top_k": 9, "top_p": 0.95, "stop": "e "}
    texts = model.generate(**arguments, random_state=2**64 - 2, n_samples=5)
    assert len(set(texts)) > 2
    seeds = [2**64 - 2, 2**64 - 1, 0, 1, 2]
    assert texts == [model.generate(**arguments, random_state=seed) for seed in seeds]
    assert texts[:2] == model.generate(**arguments, random_state=2**64 - 2, n_samples=2)
    assert [texts[2]] == model.generate(**arguments, random_state=0, n_samples=1)


def test_samples_do_not_depend_on_threads(model):
    lw.set_num_threads(1)
    texts = model.generate("the ", 50, random_state=4, n_samples=7)
    lw.set_num_threads(3)
    assert model.generate("the ", 50, random_state=4, n_samples=7) == texts


def test_a_text_ends_before_a_stop_string(model):
    whole = model.generate("the quick", 200, temperature=1.5, random_state=6)
    for stop in (whole[5:6], whole[20:23], whole[30:41], [whole[60:64], whole[40:43]], "the quick", "\u2603"):
        stops = [stop] if isinstance(stop, str) else stop
        ends = [whole.find(each) + len(each) for each in stops if each in whole]
        expected = whole if not ends else whole[: min(ends)]
        for each in sorted(stops, key=len, reverse=True):
            if ends and expected.endswith(each):
                expected = expected.removesuffix(each)
                break
        assert model.generate("the quick", 200, temperature=1.5, random_state=6, stop=stop) == expected


def test_nothing_is_shown_of_a_stop_string_that_comes():
    model = lw.LSTMLanguageModel(**SMALL, max_epochs=12).fit(TEXT)
    assert model.generate("the quick ", 40, temperature=0).startswith("brown fox jumps over")
    shown = ""
    for piece in model.generate_stream("the quick ", 40, temperature=0, stop="fox jumps"):
        shown += piece
        assert "f" not in shown
    assert shown == "brown "


def test_texts_are_written_while_they_are_asked_for(model):
    pieces = model.generate_stream("the ", 10**9, random_state=0)
    assert "".join(next(pieces) for _ in range(3)) in model.generate("the ", 40, random_state=0)


def test_a_long_prompt_is_read_in_several_calls(model, monkeypatch):
    expected = model.generate(TEXT[:500], 20, random_state=1)
    monkeypatch.setattr("latchwork.estimators.language_model.STEPS_PER_CALL", 7)
    assert model.generate(TEXT[:500], 20, random_state=1) == expected


def test_few_steps_at_once_where_there_are_many_tokens(model, monkeypatch):
    bits = model.bits_per_character(TEXT[:100])
    read = []
    network = model.network_
    monkeypatch.setattr(model, "network_", lambda x, state: (read.append(len(x)), network(x, state))[1])
    monkeypatch.setattr("latchwork.estimators.language_model._SCORES_PER_CALL", 5 * model._tokenizer.size)
    assert model.bits_per_character(TEXT[:100]) == pytest.approx(bits, rel=1e-12)
    assert max(read) == 5


class TestFrequencies:
    @pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (4, None), (None, 0.6), (6, 0.8)])
    def test_of_the_first_token_are_its_probabilities(self, model, top_k, top_p):
        scores = scores_of(model, [])
        order = np.argsort(-scores, kind="stable")
        exponentials = np.exp(scores[order])
        exponentials[len(order) if top_k is None else top_k :] = 0
        if top_p is not None:
            before = np.cumsum(exponentials) - exponentials
            exponentials[before >= top_p * exponentials.sum()] = 0
        expected = np.zeros(len(scores))
        expected[order] = exponentials / exponentials.sum()
        count = 4000
        drawn = model.generate("", 1, random_state=8, top_k=top_k, top_p=top_p, n_samples=count)
        decoders = [model._tokenizer.decoder("") for _ in scores]
        texts = [decoder.text(token) + decoder.rest() for token, decoder in enumerate(decoders)]
        pieces = sorted(set(texts))  # bytes that are no character alone are written alike
        expected = np.array(
            [sum(expected[token] for token, text in enumerate(texts) if text == piece) for piece in pieces]
        )
        frequencies = np.array([drawn.count(piece) for piece in pieces])
        assert frequencies.sum() == count
        assert (frequencies[expected == 0] == 0).all()
        tested = count * expected > 5
        chi_square = ((frequencies - count * expected)[tested] ** 2 / (count * expected[tested])).sum()
        degrees = max(int(tested.sum()) - 1, 1)
        assert chi_square < degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
        ({"top_p": 2}, ValueError, "top_p: expected 0 to 1, got 2"),
        ({"stop": ""}, ValueError, "stop: expected at least one character"),
        ({"n_samples": 0}, ValueError, "n_samples: expected at least 1, got 0"),
        ({"n_samples": 2.0}, TypeError, "n_samples: expected int, got float"),
        ({"length": -1}, ValueError, "length: expected at least 0, got -1"),
        ({"prompt": 3}, TypeError, "prompt: expected a str, got int"),
        ({"random_state": -1}, ValueError, "random_state: expected at least 0, got -1"),
    ],
)
def test_what_is_refused_at_once(model, arguments, error, message):
    for method in (model.generate, model.generate_stream):
        with pytest.raises(error, match=message):
            method(**arguments)


def test_no_text(model):
    assert model.generate("the", 0) == ""
    assert model.generate("the", 0, n_samples=2) == ["", ""]
    assert list(model.generate_stream("the", 0)) == []
