"""Text files larger than memory: any part of one is what Python's own reading of the whole file gives."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latchwork.estimators.text import text_files, text_windows
from latchwork.estimators.text.characters import Vocabulary
from latchwork.estimators.text.text_files import TextFile, TextFileTokens
from latchwork.estimators.text.text_windows import TextWindows

TEXTS = st.text(st.sampled_from("a\r\n\u00e9\u20ac\U0001f600\u0800\uffff\x00\ufeff"), min_size=1, max_size=40)


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 5)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 7, 64])
def test_a_file_is_read_as_python_reads_it(block, tmp_path):
    path = tmp_path / "text.txt"

    @settings(max_examples=60)
    @given(TEXTS, st.booleans())
    def check(text, mark):
        data = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
        expected = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
        path.write_bytes(data)
        if not expected:
            with pytest.raises(ValueError, match="expected at least 1 character"):
                TextFile(path)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_files, "_BLOCK", block)
            with TextFile(path) as file:
                assert "".join(file.pieces()) == expected
                assert file.length == len(expected)
                assert file.characters == "".join(sorted(set(expected)))

    check()


@pytest.mark.parametrize("block", [1, 3, 8])
def test_pieces_of_any_text_come_back_exactly(block):
    @settings(max_examples=60)
    @given(st.lists(st.text(st.characters(codec=None), max_size=9), max_size=6))
    def check(pieces):
        text = "".join(pieces)
        if not text:
            with pytest.raises(ValueError, match="text: expected at least 1 character, got none"):
                TextFile.of_pieces(pieces)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_files, "_BLOCK", block)
            with TextFile.of_pieces(iter(pieces)) as file:
                assert "".join(file.pieces()) == text
                assert file.characters == "".join(sorted(set(text)))

    check()


@pytest.mark.parametrize("streams", [1, 3])
def test_any_slice_of_the_tokens_is_that_of_all(small_blocks, streams, tmp_path):
    text = "".join(np.random.RandomState(0).choice(list("ab\u00e9\u20ac\U0001f600\n"), 97))
    vocabulary = Vocabulary("ab\u00e9\u20ac")
    expected = vocabulary.encode_after_start(text)
    with TextFile(written(tmp_path / "text.txt", text.encode())) as file:
        tokens = TextFileTokens(file, vocabulary, streams)
        assert len(tokens) == len(expected)
        assert tokens.dtype == expected.dtype
        for begin in range(0, 99, 3):
            for end in (begin, begin + 1, begin + 7, 98, 200):
                np.testing.assert_array_equal(tokens[begin:end], expected[begin:end])
                assert len(tokens._blocks) <= streams + 1
        np.testing.assert_array_equal(tokens[:], expected)
        with pytest.raises(ValueError, match="expected a slice of step 1"):
            tokens[::2]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_training_reads_the_same_batches_of_a_file_as_of_its_text(small_blocks, batch_size, tmp_path, monkeypatch):
    monkeypatch.setattr(text_windows, "UNKNOWN_SHARE", 0.1)
    monkeypatch.setattr(text_windows, "_PIECE", 7)
    text = "".join(np.random.RandomState(0).choice(list("ab\u00e9\u20ac\U0001f600\n"), 1311))
    vocabulary = Vocabulary(text)
    options = vocabulary.unknown, batch_size, 16, 3
    expected = TextWindows(vocabulary.encode_after_start(text), *options)
    with TextFile(written(tmp_path / "text.txt", text.encode())) as file:
        assert file.characters == vocabulary.characters
        windows = TextWindows(TextFileTokens(file, vocabulary, batch_size), *options)
        assert windows.steps() == expected.steps() > 5
        for epoch, first in ((0, 0), (1, 3)):
            batches = list(windows.batches(epoch, first))
            assert len(batches) == windows.steps() - first
            for batch, other in zip(batches, expected.batches(epoch, first), strict=True):
                np.testing.assert_array_equal(batch.x, other.x)
                np.testing.assert_array_equal(batch.y, other.y)
                assert batch.x.dtype == other.x.dtype
                assert (batch.continues, batch.count) == (other.continues, other.count)
        fed: list[list[bytes]] = [[], []]
        windows.feed(lambda data: fed[0].append(bytes(data)))
        expected.feed(lambda data: fed[1].append(bytes(data)))
        assert len(fed[0]) > 5
        assert b"".join(fed[0]) == b"".join(fed[1])
        assert b"".join(fed[1][1:]) == vocabulary.encode_after_start(text).tobytes()


@pytest.mark.parametrize(
    ("data", "byte", "place"),
    [
        (b"abc\xff", "ff", 3),
        (b"\xef\xbb\xbfabcdefgh\xe2\x82", "e2", 11),  # the file ends within a character
        (b"abcdefghij\x80k", "80", 10),
        (b"\xed\xa0\x80", "ed", 0),  # a surrogate
        (b"\xe2", "e2", 0),
        (b"a\xf0\x9f\x98b", "f0", 1),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 5, 64])
def test_what_is_not_utf_8_is_refused_with_its_place(data, byte, place, block, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    path = written(tmp_path / "bad.txt", data)
    with pytest.raises(ValueError, match=rf"bad\.txt: expected UTF-8 text, got the byte 0x{byte} at {place}$"):
        TextFile(path)


def test_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError):
        TextFile(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"empty\.txt: expected at least 1 character, got none"):
        TextFile(written(tmp_path / "empty.txt", b""))
    with pytest.raises(TypeError, match="text: expected pieces of str, got bytes as number 1"):
        TextFile.of_pieces(["a", b"b"])


def test_a_file_that_changes_is_noticed(tmp_path):
    path = written(tmp_path / "text.txt", "\u20ac\u20ac".encode())
    with TextFile(path) as file:
        path.write_bytes(b"abcdef")
        with pytest.raises(ValueError, match="does not change while it is read"):
            list(file.pieces())


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "text.txt"
    with open(path, "wb") as file:
        for _ in range(200):
            file.write("abcdefghijklmno\u00e9".encode() * 4096)
    tracemalloc.start()
    try:
        with TextFile(path) as text:
            tokens = TextFileTokens(text, Vocabulary(text.characters), 4)
            total = sum(len(tokens[begin : begin + 100]) for begin in range(0, len(tokens), 1000_000))
            assert total == 1400
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 13e6
    assert peak < 5e6
