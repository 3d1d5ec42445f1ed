"""What a language model is given to learn, as tokens: a str, or a text larger than memory."""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.estimators.text import tokenizers
from latchwork.estimators.text.characters import Vocabulary
from latchwork.estimators.text.text_files import TextFile, TextFileTokens
from latchwork.estimators.text.words import Words

if TYPE_CHECKING:
    from latchwork.estimators.text.text_windows import TokenArray
    from latchwork.estimators.text.tokenizers import Tokenizer

_WRITTEN_AT_ONCE = 65536  # tokens
_LONGEST_NAME = 4096  # characters; a longer text is no name of a file, and need not be asked about


class Source(NamedTuple):
    """A training text."""

    tokenizer: Tokenizer
    tokens: TokenArray  # after one that is read before the first
    characters: int


def is_large(text: Any) -> bool:
    """Say whether a text is one that need not fit into memory: a path, or an iterator of its pieces."""
    return isinstance(text, (os.PathLike, Iterator))


def of_str(text: str, tokenizer: Any, vocabulary_size: int, fitted: Tokenizer | None) -> Source:
    """Read a str, with the tokenizer that was fitted before or a new one.

    The name of a file is refused: somebody meant what is in it.
    """
    if len(text) <= _LONGEST_NAME and os.path.isfile(text):
        raise ValueError(f"text: expected a text, got the name of a file; pathlib.Path({text!r}) reads what is in it")
    chosen = fitted or tokenizers.of_text(tokenizer, text, vocabulary_size)
    return Source(chosen, chosen.encode_after_start(text), len(text))


def of_file(text: Any, tokenizer: Any, vocabulary_size: int, fitted: Tokenizer | None, streams: int) -> Source:
    """Read a file of UTF-8, or pieces of text that are written to a temporary one.

    Characters are decoded whenever they are read, from ``streams`` places side by side. Bytes and words are encoded
    once, to a temporary file.
    """
    if (tokenizer if fitted is None else fitted.kind) not in tokenizers.NAMES:
        raise TypeError(
            "text: expected a str with a tokenizer of your own; a file or an iterator of pieces can be read as "
            f"{', '.join(tokenizers.NAMES)}"
        )
    file = TextFile(text) if isinstance(text, os.PathLike) else TextFile.of_pieces(text)
    try:
        chosen = fitted or _of_file(file, tokenizer, vocabulary_size)
        if isinstance(chosen, Vocabulary):
            tokens: Any = TextFileTokens(file, chosen, streams)
            weakref.finalize(tokens, file.close)
        else:
            tokens = _in_file(_encoded(chosen, file), np.min_scalar_type(chosen.unknown))
            file.close()
    except BaseException:
        file.close()
        raise
    return Source(chosen, tokens, file.length)


def _of_file(file: TextFile, tokenizer: str, vocabulary_size: int) -> Tokenizer:
    if tokenizer == "characters":
        return Vocabulary(file.characters)
    if tokenizer == "bytes":
        return tokenizers.Bytes()
    return Words.of_pieces(file.pieces(), Vocabulary(file.characters), vocabulary_size)


def _encoded(tokenizer: Tokenizer, file: TextFile) -> Iterator[int]:
    if isinstance(tokenizer, Words):
        return tokenizer.all_tokens(file.pieces())
    numbers = (tokenizer.encode(piece).tolist() for piece in file.pieces())
    return itertools.chain([tokenizer.unknown], itertools.chain.from_iterable(numbers))


def _in_file(tokens: Iterable[int], dtype: np.dtype[Any]) -> Any:
    """Write tokens to a temporary file, and give the array that is mapped to it."""
    with tempfile.TemporaryFile() as file:
        rest = iter(tokens)
        while (piece := np.fromiter(itertools.islice(rest, _WRITTEN_AT_ONCE), dtype)).size:
            file.write(piece.tobytes())
        file.flush()
        return np.memmap(file, dtype, "r")
