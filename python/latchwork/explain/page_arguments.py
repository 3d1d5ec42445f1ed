"""Checks of the explorer's arguments: labels of steps, annotation tracks, and which rows and members are shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._foreign import without_tensor
from latchwork.explain._choices import positions

if TYPE_CHECKING:
    from latchwork._sequence import Call

LONGEST_LABEL = 100
START_OF_TEXT = "(start)"
"""The label of the step at which a language model reads the start of a text."""


class Given(NamedTuple):
    """The arguments that a language model takes as texts, and networks as numbers."""

    network: Any
    x: Any
    tokens: Any
    corpus: Any
    corpus_tokens: Any


def is_language_model(network: Any) -> bool:
    """Say whether something is a language model, without importing that class for nothing."""
    module = sys.modules.get("latchwork.estimators.language_model")
    return module is not None and isinstance(network, module.LSTMLanguageModel)


def with_texts_read(given: Given, states: Sequence[Any]) -> Given:
    """Give what a language model reads: the token with which texts start and the characters' ones, and their labels.

    ``states`` are the arguments of a call that only a network takes. TypeError, ValueError.
    """
    model = given.network
    model._check_fitted()
    for name, value in zip(("state", "lengths", "reset", "skip"), states, strict=True):
        if value is not None:
            raise ValueError(f"{name}: expected None for a language model; network.network_ is the network alone")
    for name in ("tokens", "corpus_tokens"):
        if getattr(given, name) is not None:
            raise ValueError(f"{name}: expected None for a language model, whose characters are the labels, got labels")
    texts = given.corpus
    if texts is not None and not isinstance(texts, str):
        texts = sequence_of("corpus", texts)
    numbers, labels = _read_text(model, "x", given.x)
    if texts is None:
        return Given(model.network_, numbers, labels, None, None)
    if isinstance(texts, str):
        return Given(model.network_, numbers, labels, *_read_text(model, "corpus", texts))
    read = [_read_text(model, f"corpus[{place}]", text) for place, text in enumerate(texts)]
    return Given(model.network_, numbers, labels, [each[0] for each in read], [each[1] for each in read])


def _read_text(model: Any, name: str, text: Any) -> tuple[Any, list[str]]:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str for a language model, got {type(text).__name__}")
    tokenizer = model._fitted_tokenizer
    return tokenizer.encode_after_start(text), [START_OF_TEXT, *tokenizer.pieces(text)]


def chosen(name: str, value: Any, count: int) -> list[int]:
    """Read an index or several; None: all. IndexError, TypeError; ValueError if there is none."""
    indices = np.arange(count)[positions(name, value, count)].reshape(-1).tolist()
    if not indices and value is not None:
        raise ValueError(f"{name}: expected at least one, got none")
    return list(dict.fromkeys(indices))


def labels_by_row(name: str, labels: Any, call: Call) -> list[list[Any]]:
    """Read one label for each step of each row.

    Unbatched: T labels, a str being one of its characters each. A batch: one such sequence for each row, of T labels or
    as many as the row has steps; a batch of one row may have them without the list around.
    """
    steps, rows = call.steps, call.rows
    lengths = [steps] * rows if call.lengths is None or call.lengths.ndim > 1 else call.lengths.tolist()
    sequence = sequence_of(name, labels)
    flat = not call.axes.batched or (rows == 1 and not _is_of_one_row(sequence, steps))
    if flat:
        return [_of_row(name, sequence, steps, lengths[0])]
    if len(sequence) != rows:
        raise ValueError(f"{name}: expected labels for each of {rows} rows, got {len(sequence)}")
    return [
        _of_row(f"{name}[{row}]", sequence_of(f"{name}[{row}]", each), steps, length)
        for row, (each, length) in enumerate(zip(sequence, lengths, strict=True))
    ]


def label_text(label: Any) -> str:
    """Give a label as a text that is not too long to show; None is empty."""
    text = "" if label is None else str(label)
    return text if len(text) <= LONGEST_LABEL else text[:LONGEST_LABEL] + "\u2026"


def track_facts(tracks: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Give tracks of one row as the page reads them: the different labels, and which of them each step has."""
    facts = []
    for name, labels in tracks.items():
        texts = ["" if _is_missing(label) else label_text(label) for label in labels]
        different = [text for text in dict.fromkeys(texts) if text]
        places = {text: place for place, text in enumerate(different)}
        facts.append({"name": label_text(name), "labels": different, "steps": [places.get(text, -1) for text in texts]})
    return facts


def checked_tracks(tracks: Any, call: Call) -> dict[str, list[list[Any]]]:
    """Read annotation tracks: for each name the labels of each row."""
    if tracks is None:
        return {}
    if not isinstance(tracks, Mapping):
        raise TypeError(f"tracks: expected a mapping of names to labels, got {type(tracks).__name__}")
    for name in tracks:
        if not isinstance(name, str):
            raise TypeError(f"tracks: expected names of type str, got {type(name).__name__}")
    return {name: labels_by_row(f"tracks[{name!r}]", labels, call) for name, labels in tracks.items()}


def sequence_of(name: str, labels: Any) -> list[Any]:
    """Read a sequence of labels. TypeError."""
    ordered = isinstance(labels, Iterable) and not isinstance(labels, (bytes, Mapping, Set))
    if not ordered or getattr(labels, "shape", None) == () or hasattr(labels, "columns"):
        raise TypeError(f"{name}: expected a sequence of labels, got {type(labels).__name__}")
    return [without_tensor(label) for label in labels]


def _is_missing(label: Any) -> bool:
    """Say whether a label stands for none: None, or a NaN, NaT or NA, which pandas has where there is none."""
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):
        return type(label).__name__ == "NAType"


def _is_of_one_row(sequence: list[Any], steps: int) -> bool:
    """Say whether labels for a batch of one row are a list of one sequence rather than the labels themselves."""
    if len(sequence) != 1:
        return False
    return steps != 1 if isinstance(sequence[0], str) else isinstance(sequence[0], Iterable)


def _of_row(name: str, labels: list[Any], steps: int, length: int) -> list[Any]:
    if len(labels) not in (steps, length):
        expected = f"{steps}" if steps == length else f"{steps} or {length}"
        raise ValueError(f"{name}: expected {expected} labels, one for each step, got {len(labels)}")
    return labels[:steps]
