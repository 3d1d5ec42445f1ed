"""The index in which the explorer looks for places of a corpus where given units are on."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.explain import page_arguments as arguments
from latchwork.explain.page_layers import Selected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._sequence import SequenceModule
    from latchwork.explain.page_layers import Layer
    from latchwork.trace import Trace

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""What |h| of a unit must reach, as a share of the largest |h| of the layer or, if that is at most 1, of 1."""
MAX_UNIT_STEPS = 2**22
"""The most steps of a corpus times units of all layers: two of them are one byte, so 2 MiB before compression."""
MAX_STEPS = 2**18
"""The most steps of a corpus, because the page holds their texts."""


class CorpusSequence(NamedTuple):
    """One sequence of a corpus."""

    x: Any
    labels: list[str]


class CorpusIndex:
    """For each step, layer and unit how many of `THRESHOLDS` its output reaches, above or below zero."""

    def __init__(self, layers: Sequence[Layer], scales: Sequence[float]) -> None:
        self._layers = layers
        self._scales = scales
        self._levels: list[list[Array]] = [[] for _ in layers]
        self._tokens: list[str] = []
        self._ends: list[int] = []

    def add(self, trace: Trace[Any], labels: Sequence[str]) -> None:
        """Add one unbatched sequence."""
        for levels, layer, scale in zip(self._levels, self._layers, self._scales, strict=True):
            levels.append(_levels(getattr(trace[layer.name], watched_signal(layer)), scale))
        self._tokens += labels
        self._ends.append(len(self._tokens))

    def pack(self) -> bytes:
        """Compress: the length of the JSON with the texts (8 bytes), the JSON, and the levels, unit by unit."""
        texts = json.dumps({"tokens": self._tokens, "ends": self._ends}).encode()
        parts = [len(texts).to_bytes(8, "little"), texts]
        for levels in self._levels:
            nibbles = np.concatenate(levels).T + 8  # (H, T), 1 to 15
            even = np.zeros((nibbles.shape[0], nibbles.shape[1] + nibbles.shape[1] % 2), dtype=np.uint8)
            even[:, : nibbles.shape[1]] = nibbles
            parts.append((even[:, ::2] | even[:, 1::2] << 4).tobytes())
        return zlib.compress(b"".join(parts), 9)


def checked_corpus(
    network: SequenceModule[Any], corpus: Any, corpus_tokens: Any, layers: Sequence[Layer]
) -> list[CorpusSequence]:
    """Check a corpus and its labels before anything is run. ValueError, TypeError."""
    axes = 2 if network._vocabulary is None else 1
    single = _is_single(corpus, axes)
    sequences = [corpus] if single else list(corpus)
    labels = (
        [corpus_tokens] if single or corpus_tokens is None else arguments.sequence_of("corpus_tokens", corpus_tokens)
    )
    if corpus_tokens is None:
        labels *= len(sequences)
    if len(labels) != len(sequences):
        raise ValueError(f"corpus_tokens: expected labels of each sequence, {len(sequences)} in all, got {len(labels)}")
    checked, steps = [], 0
    for place, (x, own_labels) in enumerate(zip(sequences, labels, strict=True)):
        index = "" if single else f"[{place}]"
        try:
            call = network._call(x, None, None, None)
        except (ValueError, TypeError) as error:
            raise type(error)(f"corpus{index}{str(error).removeprefix('x')}") from None
        if call.axes.batched:
            raise ValueError(f"corpus{index}: expected one sequence without the axis of rows, got a batch; give a list")
        if own_labels is None:
            texts = Selected(call, 0, 0).token_numbers(network)
        else:
            (of_row,) = arguments.labels_by_row(f"corpus_tokens{index}", own_labels, call)
            texts = [arguments.label_text(label) for label in of_row]
        checked.append(CorpusSequence(x, texts))
        steps += call.steps
    most = most_steps(layers)
    if not 0 < steps <= most:
        raise ValueError(f"corpus: expected 1 to {most:,} steps, which its index may hold, got {steps:,}")
    return checked


def most_steps(layers: Sequence[Layer]) -> int:
    """Say how many steps of a corpus the index may hold."""
    return min(MAX_STEPS, MAX_UNIT_STEPS // sum(layer.units for layer in layers))


def watched_signal(layer: Layer) -> str:
    """Name the signal by which a unit is on: its output or, if outputs are projected and belong to none, its cell."""
    return "cell" if layer.options["proj_size"] else "hidden"


def scale_of(values: Sequence[Array]) -> float:
    """Give what the thresholds are shares of: 1, or the largest finite |v| if that is more."""
    sizes = [np.max(abs(each), where=np.isfinite(each), initial=0.0) for each in values]
    return max(1.0, float(max(sizes)))


def _is_single(corpus: Any, axes: int) -> bool:
    """Say whether a corpus is one unbatched sequence, which has so many axes, rather than a list of them."""
    if not isinstance(corpus, (list, tuple)):
        return True
    if not corpus:
        return False
    depth, inner = 0, corpus
    while isinstance(inner, (list, tuple)) and len(inner):
        inner = inner[0]
        depth += 1
    return depth + np.ndim(inner) <= axes


def _levels(values: Array, scale: float) -> Array:
    """Count the thresholds that |v| reaches, with the sign of v; a NaN reaches none."""
    bounds = np.array([threshold * scale for threshold in THRESHOLDS])
    counts: Any = np.searchsorted(bounds, abs(values.astype(np.float64)), side="right")
    counts[np.isnan(values)] = 0
    levels: Array = np.where(values < 0, -counts, counts).astype(np.int8)
    return levels
