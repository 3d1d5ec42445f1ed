"""Texts larger than memory: files of UTF-8 that are read piece by piece, from any place."""

from __future__ import annotations

import codecs
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from latchwork.estimators.text.characters import CODE_POINTS, Vocabulary, code_points

if TYPE_CHECKING:
    from typing import Self

    from latchwork._writing import FilePath
    from latchwork.estimators.text.characters import Tokens

# Bytes that are decoded at once. Each stream that is read side by side with others keeps the tokens of one such block.
_BLOCK = 65536


class TextFile:
    """The characters of a UTF-8 file: one pass counts them and finds which there are, then any part can be read.

    A byte order mark at the start is left out, and every end of line becomes a newline, as Python's own files have it.
    The file must not change meanwhile. It is open until `close`, or the end of a ``with``.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A regular file. It must hold at least one character.

    Attributes
    ----------
    length : int
        The number of characters.
    characters : str
        The different characters, sorted.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is empty or not UTF-8; the message says which byte is not.
    """

    def __init__(self, path: FilePath) -> None:
        self._open(open(path, "rb"), os.fsdecode(path), exact=False)  # noqa: SIM115

    @classmethod
    def of_pieces(cls, pieces: Iterable[str]) -> Self:
        """Write the pieces of a text to a temporary file, which is deleted when it is closed, and open that.

        The characters are those of the pieces exactly, whatever they are.

        Raises
        ------
        TypeError
            If a piece is no str.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            for number, piece in enumerate(pieces):
                if not isinstance(piece, str):
                    raise TypeError(f"text: expected pieces of str, got {type(piece).__name__} as number {number}")
                file.write(piece.encode("utf-8", "surrogatepass"))
            file.flush()
        except BaseException:
            file.close()
            raise
        text = cls.__new__(cls)
        text._open(file, "text", exact=True)
        return text

    def _open(self, file: IO[bytes], name: str, *, exact: bool) -> None:
        self._file = file
        self._name = name
        self._exact = exact
        try:
            self._find_blocks()
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the text itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def pieces(self) -> Iterator[str]:
        """Yield the text from its start to its end, some ten thousand characters at once."""
        return (self.block(number) for number in range(len(self.block_starts) - 1))

    def block(self, number: int) -> str:
        """Decode one block, whose first character has the number ``block_starts[number]``."""
        begin, end = self._offsets[number : number + 2].tolist()
        self._file.seek(begin)
        text = self._decoded(self._file.read(end - begin), begin)
        if len(text) != self.block_starts[number + 1] - self.block_starts[number]:
            raise ValueError(f"{self._name}: expected a file that does not change while it is read, got one that did")
        return text

    def _find_blocks(self) -> None:
        """Read the whole file once. A block ends neither within a character nor between the two of an end of line."""
        file = self._file
        known = np.zeros(CODE_POINTS, bool)
        start = file.read(len(codecs.BOM_UTF8)) if not self._exact else b""
        offset = len(start) if start == codecs.BOM_UTF8 else 0
        file.seek(offset)
        offsets, starts = [offset], [0]
        rest = b""
        while True:
            read = file.read(_BLOCK)
            data = rest + read
            if not data:
                break
            end = len(data) if not read else _whole_characters(data)
            rest = data[end:]
            if end == 0:
                continue
            text = self._decoded(data[:end], offsets[-1])
            known[code_points(text)] = True
            offsets.append(offsets[-1] + end)
            starts.append(starts[-1] + len(text))
        self._offsets = np.array(offsets, np.int64)
        self.block_starts = np.array(starts, np.int64)
        self.length = starts[-1]
        if self.length == 0:
            raise ValueError(f"{self._name}: expected at least 1 character, got none")
        self.characters = "".join(map(chr, np.flatnonzero(known).tolist()))

    def _decoded(self, data: bytes, offset: int) -> str:
        try:
            text = data.decode("utf-8", "surrogatepass" if self._exact else "strict")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self._name}: expected UTF-8 text, got the byte 0x{data[error.start]:02x} at {offset + error.start}"
            ) from error
        return text if self._exact or "\r" not in text else text.replace("\r\n", "\n").replace("\r", "\n")


class TextFileTokens:
    """The tokens of a `TextFile` as training reads them, like those of `Vocabulary.encode_after_start`, unread yet.

    Parameters
    ----------
    text : TextFile
        What is read; it stays open as long as this is used.
    vocabulary : Vocabulary
        Which token stands for which character.
    streams : int
        How many places are read from side by side: so many decoded blocks are kept.
    """

    def __init__(self, text: TextFile, vocabulary: Vocabulary, streams: int) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._kept = streams + 1
        self._blocks: OrderedDict[int, Tokens] = OrderedDict()
        self.dtype = vocabulary.encode("").dtype

    def __len__(self) -> int:
        """Return the number of tokens: one for the start, and one for each character."""
        return 1 + self._text.length

    def __getitem__(self, places: slice) -> Tokens:
        """Read consecutive tokens; the first of all is the unknown one, which is read before the first character."""
        begin, end, step = places.indices(len(self))
        if step != 1:
            raise ValueError(f"tokens: expected a slice of step 1, got {places}")
        tokens = np.full(max(end - begin, 0), self._vocabulary.unknown, self.dtype)
        # Character c is token c + 1.
        starts = self._text.block_starts
        at = max(begin - 1, 0)
        while at < end - 1:
            number = int(np.searchsorted(starts, at, side="right")) - 1
            first = int(starts[number])
            stop = min(int(starts[number + 1]), end - 1)
            tokens[at + 1 - begin : stop + 1 - begin] = self._block(number)[at - first : stop - first]
            at = stop
        return tokens

    def _block(self, number: int) -> Tokens:
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._vocabulary.encode(self._text.block(number))
            if len(self._blocks) == self._kept:
                self._blocks.popitem(last=False)
        self._blocks[number] = block  # the last one that was used
        return block


def _whole_characters(data: bytes) -> int:
    """How many of these bytes, from a file that goes on, end with a whole character that is no carriage return."""
    end = len(data)
    # A character has at most four bytes; what is no UTF-8 at all is left to the decoder, which names the place.
    for back in range(1, min(4, end) + 1):
        first = data[end - back]
        if first & 0xC0 != 0x80:  # the first byte of a character, which says how many it has
            size = 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2 if first >= 0xC0 else 1
            if size > back:
                end -= back
            break
    return end - 1 if end and data[end - 1] == 0x0D else end
