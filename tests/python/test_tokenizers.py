"""Tokenizers: what their tokens are, that texts come back from them, and that files and pickles hold them."""

import json
import math
import pickle
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from latchwork.estimators.text import text_sources, tokenizers
from latchwork.estimators.text.characters import Vocabulary
from latchwork.estimators.text.text_files import TextFile
from latchwork.estimators.text.tokenizers import Bytes, UserTokens, check_option, from_file, of_text
from latchwork.estimators.text.words import Words

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
WORDY = st.text(st.sampled_from("ab _1.,-\n\t\u00e9\u4e2d\ud800\udc00\U0001f600"), max_size=40)
TEXT = "The cell keeps its value.\n  The gate opens; the gate closes, na\u00efve \U0001f600 fox.\n" * 3


def ords(text):
    return [ord(character) for character in text]


def text_of(numbers):
    return "".join(map(chr, numbers))


def decoded(tokenizer, tokens, prompt=""):
    decoder = tokenizer.decoder(prompt)
    return [*(decoder.text(token) for token in tokens), decoder.rest()]


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")


@pytest.fixture(scope="module")
def byte_pairs(package):
    """Byte-level pairs, whose tokens may be parts of characters."""
    tokenizer = package.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([TEXT], vocab_size=300, show_progress=False)
    return tokenizer


@pytest.fixture(scope="module")
def sentence_pieces(package):
    """Tokens that write the space before a word, but not at the start of a text."""
    tokenizer = package.SentencePieceBPETokenizer()
    tokenizer.train_from_iterator([TEXT], vocab_size=80, show_progress=False)
    return tokenizer


def check(tokenizer, text):
    """What the language model relies on."""
    tokens = tokenizer.encode(text)
    after_start = tokenizer.encode_after_start(text)
    assert tokens.dtype == after_start.dtype == np.min_scalar_type(tokenizer.size - 1)
    assert after_start.tolist() == [tokenizer.unknown, *tokens.tolist()]
    assert tokenizer.unknown == tokenizer.size - 1 == len(tokenizer.vocabulary)
    assert len(tokenizer.pieces(text)) == len(tokens)
    again = tokenizer.to_file()
    json.dumps(again)
    return tokens


class TestBytes:
    @given(ANY_TEXT)
    def test_are_utf_8(self, text):
        tokens = check(Bytes(), text)
        assert bytes(tokens.tolist()) == text.encode("utf-8", "surrogatepass")
        if text.isascii():
            assert Bytes().pieces(text) == list(text)

    def test_a_character_is_written_when_its_last_byte_has_come(self):
        assert decoded(Bytes(), Bytes().encode("a\u00e9\U0001f600").tolist()) == [
            "a", "", "\u00e9", "", "", "", "\U0001f600", "",
        ]  # fmt: skip

    def test_what_is_no_utf_8_is_written_as_u_fffd(self):
        assert "".join(decoded(Bytes(), [0xC3, 0x41, 0xFF, 0xF0, 0x9F])) == "\ufffdA\ufffd\ufffd"

    def test_all_texts_can_be_written(self):
        assert not Bytes.has_unknown
        assert Bytes.vocabulary == bytes(range(256))
        assert Bytes().pieces("\u00e9") == ["\\xc3", "\\xa9"]
        assert isinstance(from_file(Bytes().to_file()), Bytes)


class TestWords:
    @given(WORDY | ANY_TEXT, WORDY | ANY_TEXT, st.integers(1, 5))
    @example("a b a b", "a b", 1)
    def test_any_text_comes_back(self, learned, text, most):
        words = Words.of_text(learned, most)
        tokens = check(words, text)
        known = set(learned)
        expected = "".join(character if character in known else "?" for character in text)
        shown = "".join("?" if token == words.unknown else words.vocabulary[token] for token in tokens.tolist())
        assert shown == expected
        assert "".join(words.pieces(text)) == text
        if known.issuperset(text):
            assert "".join(decoded(words, tokens.tolist())) == text
        again = from_file(json.loads(json.dumps(words.to_file())))
        assert again.vocabulary == words.vocabulary
        np.testing.assert_array_equal(again.encode(text), tokens)

    def test_frequent_words_are_tokens_with_the_space_before_them(self):
        words = Words.of_text("to be or not to be, or: to be!\n\n\n to do", 100)
        assert words.vocabulary == [*"\n !,:bdenort", " be", " or", " to"]
        assert words.pieces("to be or to bed\n\n\n to") == [
            "t", "o", " be", " or", " to", " ", "b", "e", "d", "\n", "\n", "\n", " to",
        ]  # fmt: skip
        assert words.unknown_bits == Vocabulary("\n !,:bdenort").unknown_bits

    def test_no_more_words_than_asked_for_and_the_most_frequent_ones(self):
        text = " ccc bb bb aaa aaa ccc bb ddd"
        assert [Words.of_text(text, most).vocabulary[5:] for most in (1, 2, 3, 9)] == [
            [" bb"], [" bb", " ccc"], [" aaa", " bb", " ccc"], [" aaa", " bb", " ccc"],
        ]  # fmt: skip

    @given(st.lists(WORDY, max_size=8))
    @example(["a  ", " b"])
    @example(["\n", " a", "b", "1", " \n"])
    def test_pieces_of_a_text_are_read_as_the_whole(self, pieces):
        text = "".join(pieces)
        whole = Words.of_text(text, 10)
        of_pieces = Words.of_pieces(iter(pieces), Vocabulary(text), 10)
        assert of_pieces.vocabulary == whole.vocabulary
        assert list(of_pieces.all_tokens(iter(pieces))) == whole.encode_after_start(text).tolist()

    @pytest.mark.parametrize(
        "damage",
        [
            {"words": [" be", " be"]},
            {"words": [" to", " be"]},
            {"words": [" bx"]},
            {"words": ["b"]},
            {"words": [3]},
            {"words": 3},
            {"characters": [98, 32, 101]},
            {"characters": [0x110000]},
            {"characters": "abc"},
            {"more": 1},
        ],
        ids=str,
    )
    def test_a_damaged_file(self, damage):
        content = Words.of_text("to be or not to be", 9).to_file()
        assert from_file(content).vocabulary[-1] == " be"
        with pytest.raises((ValueError, TypeError)):
            from_file(content | damage)


class TestCallables:
    @given(ANY_TEXT.filter(bool), ANY_TEXT)
    def test_are_the_numbers_of_the_training_text(self, learned, text):
        tokenizer = of_text((ords, text_of), learned, 1)
        tokens = check(tokenizer, text)
        characters = Vocabulary(learned)
        assert tokenizer.vocabulary == ords(characters.characters)
        np.testing.assert_array_equal(tokens, characters.encode(text))
        assert tokenizer.unknown_bits == math.log2(2**32 - len(characters.characters))
        known = [token for token in tokens.tolist() if token != tokenizer.unknown]
        assert "".join(decoded(tokenizer, known, learned)) == "".join(c for c in text if c in learned)

    @pytest.mark.parametrize(
        "encode", [lambda text: np.array(ords(text)), lambda text: iter(ords(text)), lambda t: tuple(ords(t))]
    )
    def test_encode_may_give_arrays_and_iterators(self, encode):
        assert of_text((encode, text_of), "cab", 1).encode("abcd").tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("encode", "error", "message"),
        [
            (lambda text: [1.5], TypeError, "expected encode to give integers"),
            (lambda text: [[1, 2]], TypeError, "expected encode to give integers"),
            (lambda text: list(text), TypeError, "expected encode to give integers"),
            (lambda text: [True], TypeError, "expected encode to give integers"),
            (lambda text: [3, -1], ValueError, "integers from 0 to 4294967295, got -1"),
            (lambda text: [2**32, 3], ValueError, "integers from 0 to 4294967295, got 4294967296"),
            (lambda text: [], ValueError, "text: expected at least 2 tokens, got none of 3 characters"),
        ],
    )  # fmt: skip
    def test_what_encode_may_not_give(self, encode, error, message):
        with pytest.raises(error, match=message):
            of_text((encode, text_of), "abc", 1)

    def test_decode_gives_a_str(self):
        with pytest.raises(TypeError, match="expected decode to give a str, got bytes"):
            decoded(of_text((ords, bytes), "abc", 1), [0])

    def test_a_file_holds_the_numbers_alone(self):
        tokenizer = from_file(of_text((ords, text_of), "cab", 1).to_file())
        assert tokenizer.vocabulary == [97, 98, 99]
        assert tokenizer.lacking
        assert tokenizer.option() is None
        again = tokenizer.with_callables((ords, text_of))
        assert again.encode("abc").tolist() == [0, 1, 2]
        for option in (None, "characters", (ords,), (ords, 3)):
            with pytest.raises((ValueError, TypeError), match="tokenizer: expected (the|a) pair of callables"):
                tokenizer.with_callables(option)

    @pytest.mark.parametrize("known", [[], [2, 1], [1, 1], [-1], [2**32], [1.5], "ab", None])
    def test_a_damaged_file(self, known):
        with pytest.raises((ValueError, TypeError)):
            from_file({"kind": "callables", "known": known})


class TestThePackageTokenizers:
    @pytest.mark.parametrize("name", ["byte_pairs", "sentence_pieces"])
    def test_a_text_comes_back(self, name, request):
        user = request.getfixturevalue(name)
        tokenizer = of_text(user, TEXT, 1)
        tokens = check(tokenizer, TEXT)
        assert tokenizer.vocabulary == sorted(set(user.encode(TEXT).ids))
        assert "".join(decoded(tokenizer, tokens.tolist())) == TEXT
        for cut in (1, 3, 30, 70):  # in the middle of a text a word keeps its space
            ids = user.encode(TEXT).ids
            prompt = user.decode(ids[:cut])
            if user.encode(prompt).ids == ids[:cut]:
                assert prompt + "".join(decoded(tokenizer, tokens[cut:].tolist(), prompt)) == TEXT

    def test_a_character_is_written_when_its_last_token_has_come(self, byte_pairs):
        tokenizer = of_text(byte_pairs, TEXT + "a\u2603a\u2603", 1)
        ids = byte_pairs.encode("a\u2603").ids
        tokens = tokenizer.encode("a\u2603").tolist()
        assert len(ids) == 4
        assert decoded(tokenizer, tokens) == ["a", "", "", "\u2603", ""]
        # What never becomes a character is written after as many tokens as a character has bytes.
        lead = tokens[1]
        written = decoded(tokenizer, [lead] * 4 + tokens[:1])
        assert written[:3] == ["", "", ""]
        assert "".join(written) == "\ufffd" * 4 + "a"

    def test_numbers_the_training_text_lacks_are_one(self, byte_pairs):
        tokenizer = of_text(byte_pairs, TEXT, 1)
        assert set(tokenizer.encode("Q\u4e2d").tolist()) == {tokenizer.unknown}
        assert tokenizer.numbers == byte_pairs.get_vocab_size() == 300
        assert tokenizer.unknown_bits == math.log2(300 - len(tokenizer.vocabulary))

    def test_nothing_is_added_cut_or_filled_up(self, package):
        user = package.BertWordPieceTokenizer(lowercase=False)
        user.train_from_iterator([TEXT], vocab_size=80, show_progress=False)
        user.enable_truncation(4)
        user.enable_padding(length=8)
        tokenizer = of_text(user, TEXT, 1)
        assert len(tokenizer.encode("The gate opens; the gate closes")) == 7
        assert not {"[CLS]", "[SEP]", "[PAD]"} & set(tokenizer.pieces("The gate opens"))
        assert len(user.encode(TEXT).ids) == 8  # the user's own stays as it was

    def test_a_path_an_object_a_file_and_a_pickle_are_the_same(self, byte_pairs, tmp_path):
        path = tmp_path / "pairs.json"
        byte_pairs.save(str(path))
        tokenizer = of_text(byte_pairs, TEXT, 1)
        others = [
            of_text(path, TEXT, 1),
            of_text(str(path), TEXT, 1),
            from_file(json.loads(json.dumps(tokenizer.to_file()))),
            pickle.loads(pickle.dumps(tokenizer)),
            of_text(tokenizer.option(), TEXT, 1),
        ]
        for other in others:
            assert not other.lacking
            assert other.vocabulary == tokenizer.vocabulary
            np.testing.assert_array_equal(other.encode(TEXT + "Q"), tokenizer.encode(TEXT + "Q"))

    @pytest.mark.parametrize(
        "damage", [{"json": "{}"}, {"json": 3}, {"json": "x"}, {"known": [300]}, {"known": []}], ids=str
    )
    def test_a_damaged_file(self, byte_pairs, damage):
        with pytest.raises((ValueError, TypeError)):
            from_file(of_text(byte_pairs, TEXT, 1).to_file() | damage)

    def test_without_the_package(self, byte_pairs, monkeypatch):
        content = of_text(byte_pairs, TEXT, 1).to_file()
        monkeypatch.setitem(sys.modules, "tokenizers", None)  # as if it were not installed
        with pytest.raises(ImportError, match="pip install tokenizers"):
            from_file(content)


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ("letters", ValueError, 'tokenizer: expected "characters", "bytes", "words", .*, got \'letters\''),
        (3, TypeError, "tokenizer: expected .*, got int"),
        (None, TypeError, "tokenizer: expected .*, got NoneType"),
        ((ords,), TypeError, r"expected a pair of callables \(encode, decode\), got \(function\)"),
        ((ords, 3), TypeError, r"expected a pair of callables \(encode, decode\), got \(function, int\)"),
        (ords, TypeError, "tokenizer: expected .*, got function"),
    ],
)
def test_options_that_are_refused(option, error, message):
    with pytest.raises(error, match=message):
        check_option(option)


@pytest.mark.parametrize("content", [None, [], {}, {"kind": "trust"}, {"kind": "bytes", "more": 1}], ids=str)
def test_contents_of_files_that_are_refused(content):
    with pytest.raises((ValueError, TypeError)):
        from_file(content)


def test_names_are_known():
    for name in tokenizers.NAMES:
        check_option(name)
        assert of_text(name, TEXT, 9).kind == name


class TestTextsLargerThanMemory:
    @pytest.mark.parametrize("name", tokenizers.NAMES)
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_give_the_tokens_of_the_text(self, name, size, tmp_path, monkeypatch):
        monkeypatch.setattr(text_sources, "_WRITTEN_AT_ONCE", 13)
        path = tmp_path / "text"
        path.write_text(TEXT, encoding="utf-8")
        expected = text_sources.of_str(TEXT, name, 10, None)
        for text in (path, iter(TEXT[begin : begin + size] for begin in range(0, len(TEXT), size))):
            assert text_sources.is_large(text)
            source = text_sources.of_file(text, name, 10, None, 4)
            assert source.characters == len(TEXT)
            assert source.tokenizer.vocabulary == expected.tokenizer.vocabulary
            assert source.tokens.dtype == expected.tokens.dtype
            assert len(source.tokens) == len(expected.tokens)
            np.testing.assert_array_equal(source.tokens[0 : len(expected.tokens)], expected.tokens)
            np.testing.assert_array_equal(source.tokens[5:23], expected.tokens[5:23])

    def test_keep_a_tokenizer_that_was_fitted(self):
        fitted = of_text("words", "the gate the gate", 9)
        source = text_sources.of_file(iter(["the ", "gate x"]), "characters", 9, fitted, 1)
        assert source.tokenizer is fitted
        assert source.tokens[0:9].tolist() == fitted.encode_after_start("the gate x").tolist()

    def test_of_no_tokenizer_of_ones_own(self, tmp_path):
        with pytest.raises(
            TypeError, match="text: expected a str with a tokenizer of your own; .* characters, bytes, words"
        ):
            text_sources.of_file(iter(["abc"]), (ords, text_of), 1, None, 1)
        fitted = UserTokens.of_text(ords, text_of, "abc")
        with pytest.raises(TypeError, match="text: expected a str with a tokenizer of your own"):
            text_sources.of_file(iter(["abc"]), "words", 1, fitted, 1)

    def test_what_else_may_come(self):
        assert not text_sources.is_large("text")
        assert not text_sources.is_large(["te", "xt"])
        with pytest.raises(TypeError, match="text: expected pieces of str, got bytes as number 1"):
            text_sources.of_file(iter(["a", b"b"]), "bytes", 1, None, 1)
        with pytest.raises(ValueError, match="expected at least 1 character"):
            text_sources.of_file(iter([]), "words", 1, None, 1)

    def test_their_files_are_closed(self, tmp_path, monkeypatch):
        closed = []
        close = TextFile.close
        monkeypatch.setattr(TextFile, "close", lambda self: (closed.append(1), close(self)))
        (tmp_path / "text").write_text(TEXT, encoding="utf-8")
        for name in tokenizers.NAMES:
            source = text_sources.of_file(tmp_path / "text", name, 9, None, 1)
            del source
        assert len(closed) >= 3
