"""Texts as the numbers that a language model reads: characters, bytes, words, or those of a tokenizer of the user's."""

from __future__ import annotations

import codecs
import importlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from latchwork import files
from latchwork._arrays import integer
from latchwork.estimators.text.characters import CODE_POINTS, Tokens, Vocabulary
from latchwork.estimators.text.words import Words

Encode = Callable[[str], Iterable[int]]
Decode = Callable[[Sequence[int]], str]

NAMES = ("characters", "bytes", "words")

# The numbers that a tokenizer made of callables may give: its tokens are below this.
MOST_NUMBERS = 2**32

# Numbers of the prompt that are decoded with the first new one, so that it is written as in the middle of a text.
_CONTEXT = 8

# A character has at most four bytes in UTF-8, so that one that is incomplete after three more tokens never will be.
_TOKENS_OF_A_CHARACTER = 4

_INCOMPLETE = "\ufffd"  # what decoders write for bytes that are no character, or not yet


class Decoder(Protocol):
    """Writes down one token after another."""

    def text(self, token: int) -> str:
        """Give the text that this token adds: none while it may still be part of a character."""

    def rest(self) -> str:
        """Give what is left to write when no more tokens come."""


class Tokenizer(Protocol):
    """What a language model asks of its tokens: ``size`` numbers from 0, of which the last one is ``unknown``."""

    kind: str  # its name in files
    counted: str  # the plural of one token
    has_unknown: bool  # whether there are texts with a token of which training knows nothing

    @property
    def size(self) -> int:
        """How many tokens there are, ``unknown`` included."""

    @property
    def unknown(self) -> int:
        """The token of all that training never met, and of what comes before a text."""

    @property
    def unknown_bits(self) -> float:
        """Bits that say what stands behind ``unknown``."""

    @property
    def vocabulary(self) -> Any:
        """What the tokens below ``unknown`` stand for, in their order."""

    def encode(self, text: str) -> Tokens:
        """Tokens of a text, in the smallest unsigned dtype that holds all tokens."""

    def encode_after_start(self, text: str) -> Tokens:
        """Tokens of a text after ``unknown``, which is read before the first of them is predicted."""

    def pieces(self, text: str) -> list[str]:
        """Give what each token of a text stands for, to be shown."""

    def decoder(self, prompt: str) -> Decoder:
        """Give a decoder of the tokens that follow a prompt."""

    def to_file(self) -> dict[str, Any]:
        """Give what JSON can hold, from which `from_file` makes the tokenizer again."""


class Bytes:
    """The bytes of a text in UTF-8; a lone surrogate is written like any other character."""

    kind = "bytes"
    counted = "bytes"
    has_unknown = False
    size = 257
    unknown = 256
    unknown_bits = 0.0
    vocabulary: ClassVar[bytes] = bytes(range(256))

    def encode(self, text: str) -> Tokens:
        """Tokens of a text: its bytes."""
        return self.encode_after_start(text)[1:]

    def encode_after_start(self, text: str) -> Tokens:
        """Tokens of a text after ``unknown``."""
        numbers = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        tokens = np.full(1 + len(numbers), self.unknown, np.uint16)
        tokens[1:] = numbers
        return tokens

    def pieces(self, text: str) -> list[str]:
        """Give the character of a byte that is one, else the byte as two hexadecimal digits."""
        return [chr(each) if each < 128 else f"\\x{each:02x}" for each in text.encode("utf-8", "surrogatepass")]

    def decoder(self, prompt: str) -> Decoder:
        """Give a decoder that writes U+FFFD for bytes that are no UTF-8."""
        return _BytesDecoder()

    def to_file(self) -> dict[str, Any]:
        """Give the kind, which says all."""
        return {"kind": self.kind}


class UserTokens:
    """The tokens of a tokenizer of the user's, as far as the training text has them.

    The numbers that the training text lacks are one token, ``unknown``, as are the characters that it lacks for
    `Vocabulary`. So the network has rows for what it can learn alone, whatever the size of the tokenizer.

    Parameters
    ----------
    encode : callable, optional
        ``encode(text)`` gives integers from 0 to ``numbers - 1``. None: a file could not hold it, see `lacking`.
    decode : callable, optional
        ``decode(list_of_integers)`` gives the text.
    known : (size - 1,) ndarray of int64
        The numbers in the training text, sorted.
    numbers : int
        How many numbers the tokenizer can give.
    json : str, optional
        The tokenizer's own JSON, if it is one of the package ``tokenizers``.
    """

    counted = "tokens"
    has_unknown = True

    def __init__(
        self,
        encode: Encode | None,
        decode: Decode | None,
        known: NDArray[np.int64],
        numbers: int = MOST_NUMBERS,
        json: str | None = None,
    ) -> None:
        self.kind = "callables" if json is None else "tokenizers"
        self.numbers = numbers
        self._encode = encode
        self._decode = decode
        self._known = known
        self._json = json

    @classmethod
    def of_text(
        cls, encode: Encode, decode: Decode, text: str, numbers: int = MOST_NUMBERS, json: str | None = None
    ) -> UserTokens:
        """Make the tokens of a training text."""
        known = np.unique(_encoded(encode, text, numbers))
        if not len(known):
            raise ValueError(f"text: expected at least 2 tokens, got none of {len(text)} characters")
        return cls(encode, decode, known, numbers, json)

    @property
    def lacking(self) -> bool:
        """Whether the callables are missing: a file holds the known numbers only."""
        return self._encode is None

    def with_callables(self, option: Any) -> UserTokens:
        """Make the same tokens with the pair of callables that a file could not hold. ValueError if it is none."""
        if not isinstance(option, (tuple, list)):
            raise ValueError(
                "tokenizer: expected the pair of callables with which this model was trained, which no file can hold: "
                f"model.tokenizer = (encode, decode); got {option!r:.60}"
            )
        check_option(option)
        encode, decode = option
        return UserTokens(encode, decode, self._known, self.numbers)

    def option(self) -> Any:
        """Give what a model read from a file has as its parameter: a tokenizer of the package, or None."""
        return None if self._json is None else from_json(self._json)

    @property
    def size(self) -> int:
        """How many tokens there are, ``unknown`` included."""
        return len(self._known) + 1

    @property
    def unknown(self) -> int:
        """The token of all numbers that the training text lacks."""
        return len(self._known)

    @property
    def unknown_bits(self) -> float:
        """Bits that name one of the numbers behind ``unknown``, all being equally likely."""
        return math.log2(max(self.numbers - len(self._known), 1))

    @property
    def vocabulary(self) -> list[int]:
        """The tokenizer's own numbers, sorted."""
        known: list[int] = self._known.tolist()
        return known

    def encode(self, text: str) -> Tokens:
        """Tokens of a text: places of the tokenizer's numbers among the known ones."""
        return self.encode_after_start(text)[1:]

    def encode_after_start(self, text: str) -> Tokens:
        """Tokens of a text after ``unknown``."""
        numbers = _encoded(self._encode, text, self.numbers)
        places = np.minimum(np.searchsorted(self._known, numbers), self.unknown - 1)
        tokens = np.full(1 + len(numbers), self.unknown, np.min_scalar_type(self.unknown))
        tokens[1:] = np.where(self._known[places] == numbers, places, self.unknown)
        return tokens

    def pieces(self, text: str) -> list[str]:
        """Give what the tokenizer decodes each number alone to."""
        return [_decoded(self._decode, [number]) for number in _encoded(self._encode, text, self.numbers).tolist()]

    def decoder(self, prompt: str) -> Decoder:
        """Give a decoder that knows the end of the prompt."""
        context = _encoded(self._encode, prompt, self.numbers)[-_CONTEXT:].tolist() if prompt else []
        return _UserDecoder(self._decode, self.vocabulary, context)

    def to_file(self) -> dict[str, Any]:
        """Give the known numbers, and the tokenizer if it has a form that is no code."""
        content = {"kind": self.kind, "known": self.vocabulary}
        return content if self._json is None else content | {"json": self._json}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the methods of a tokenizer that its JSON describes."""
        return self.__dict__ | ({} if self._json is None else {"_encode": None, "_decode": None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the tokenizer of its JSON again."""
        self.__dict__.update(state)
        if self._json is not None:
            self._encode, self._decode, _ = _callables(_whole(self._json))


class _BytesDecoder:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def rest(self) -> str:
        return self._decoder.decode(b"", final=True)


class _UserDecoder:
    """Writes down what the text grows by with each number.

    A tokenizer may write a number otherwise at the start of a text, so each is decoded after those written last.
    """

    def __init__(self, decode: Decode | None, known: list[int], context: list[int]) -> None:
        self._decode = decode
        self._known = known
        self._numbers = context
        self._written = self._text()
        self._settled = len(context)  # the numbers that are written down wholly
        self._shown = len(self._written)

    def _text(self) -> str:
        return _decoded(self._decode, self._numbers) if self._numbers else ""

    def text(self, token: int) -> str:
        self._numbers.append(self._known[token])
        text = self._text()
        end = len(text)
        if len(self._numbers) - self._settled < _TOKENS_OF_A_CHARACTER:
            end = len(text.rstrip(_INCOMPLETE))
        added = text[self._shown : end]
        self._shown = max(self._shown, end)
        if end == len(text):
            self._numbers = self._numbers[self._settled :]
            self._settled = len(self._numbers)
            self._shown = len(self._text())
        return added

    def rest(self) -> str:
        return self._text()[self._shown :]


def check_option(option: Any) -> None:
    """Raise TypeError or ValueError unless this says which tokens a model is to have."""
    if isinstance(option, str):
        if option not in NAMES and not option.endswith(".json"):
            raise ValueError(f"tokenizer: expected {_expected()}, got {option!r}")
    elif isinstance(option, (tuple, list)):
        if len(option) != 2 or not all(map(callable, option)):
            kinds = ", ".join(type(each).__name__ for each in option)
            raise TypeError(f"tokenizer: expected a pair of callables (encode, decode), got ({kinds})")
    elif not isinstance(option, os.PathLike) and not _is_tokenizer(option):
        raise TypeError(f"tokenizer: expected {_expected()}, got {type(option).__name__}")


def of_text(option: Any, text: str, vocabulary_size: int) -> Tokenizer:
    """Make the tokenizer that the option names, for a training text.

    ``vocabulary_size`` is the most words that "words" has tokens for.
    """
    if option == "characters":
        return Vocabulary(text)
    if option == "bytes":
        return Bytes()
    if option == "words":
        return Words.of_text(text, vocabulary_size)
    if isinstance(option, (tuple, list)):
        encode, decode = option
        return UserTokens.of_text(encode, decode, text)
    if isinstance(option, (str, os.PathLike)):
        with open(option, encoding="utf-8") as file:
            json = file.read()
    else:
        json = option.to_str()
    encode, decode, numbers = _callables(_whole(json))
    return UserTokens.of_text(encode, decode, text, numbers, json)


def from_file(content: Any) -> Tokenizer:
    """Reverse ``to_file``. ValueError, TypeError or KeyError if the content, which may be hostile, does not fit."""
    if not isinstance(content, Mapping):
        raise TypeError(f"tokenizer: expected an object, got {type(content).__name__}")
    kind = content.get("kind")
    if kind == "bytes":
        files.named("tokenizer", content, ("kind",))
        return Bytes()
    if kind == "words":
        return Words.from_file(content)
    if kind == "callables":
        _, known = files.named("tokenizer", content, ("kind", "known"))
        return UserTokens(None, None, _known(known, MOST_NUMBERS))
    if kind == "tokenizers":
        _, known, json = files.named("tokenizer", content, ("kind", "known", "json"))
        if not isinstance(json, str):
            raise TypeError(f"tokenizer: expected a str of JSON, got {type(json).__name__}")
        encode, decode, numbers = _callables(_whole(json))
        return UserTokens(encode, decode, _known(known, numbers), numbers, json)
    raise ValueError(f"tokenizer: expected one of kind bytes, words, callables or tokenizers, got {kind!r}")


def vocabulary_from_file(code_points: Any) -> Vocabulary:
    """Make the characters of a model whose file lists their code points."""
    vocabulary = Vocabulary("".join(chr(integer("vocabulary", each, 0, CODE_POINTS - 1)) for each in code_points))
    if [ord(character) for character in vocabulary.characters] != code_points:
        raise ValueError("vocabulary: expected different characters in order")
    return vocabulary


def from_json(json: str) -> Any:
    """Make the object of the package ``tokenizers`` that JSON describes. ImportError if the package is missing."""
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ImportError as error:
        raise ImportError("tokenizer: one of the package tokenizers needs it: pip install tokenizers") from error
    try:
        return tokenizers.Tokenizer.from_str(json)
    except Exception as error:  # the package raises Exception itself
        raise ValueError(f"tokenizer: expected JSON of the package tokenizers: {error}") from error


def _whole(json: str) -> Any:
    """Make a tokenizer that neither cuts texts nor fills them up."""
    tokenizer = from_json(json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _callables(tokenizer: Any) -> tuple[Encode, Decode, int]:
    """Give what encodes and decodes, without tokens that stand for no text, and how many numbers there are."""

    def encode(text: str) -> Iterable[int]:
        ids: Iterable[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(numbers: Sequence[int]) -> str:
        text: str = tokenizer.decode(numbers, skip_special_tokens=False)
        return text

    numbers = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0) + 1
    return encode, decode, numbers


def _is_tokenizer(option: Any) -> bool:
    """Say whether something is a tokenizer of the package ``tokenizers``, without importing it."""
    return all(callable(getattr(option, name, None)) for name in ("to_str", "encode", "decode", "get_vocab"))


def _expected() -> str:
    names = ", ".join(f'"{name}"' for name in NAMES)
    return f"{names}, a pair of callables (encode, decode), a tokenizers.Tokenizer or the path of its JSON file"


def _encoded(encode: Encode | None, text: str, numbers: int) -> NDArray[np.int64]:
    """Have the user's tokenizer encode a text, and check what it gives."""
    assert encode is not None
    given = encode(text)
    array = np.asarray(given if isinstance(given, (list, np.ndarray)) else list(given))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"tokenizer: expected encode to give integers, got {type(given).__name__} {given!r:.60}")
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest >= numbers:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"tokenizer: expected encode to give integers from 0 to {numbers - 1}, got {wrong}")
    return array.astype(np.int64)


def _decoded(decode: Decode | None, numbers: list[int]) -> str:
    assert decode is not None
    text = decode(list(numbers))
    if not isinstance(text, str):
        raise TypeError(f"tokenizer: expected decode to give a str, got {type(text).__name__}")
    return text


def _known(numbers: Any, bound: int) -> NDArray[np.int64]:
    """Read the known numbers of a file."""
    known = np.array([integer("tokenizer", each, 0, bound - 1) for each in numbers], np.int64)
    if known.size == 0 or not (known[1:] > known[:-1]).all():
        raise ValueError("tokenizer: expected different numbers in order, at least one")
    return known
