"""The explorer: what every gate and cell did, on one page of HTML that works from a disk."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from latchwork._sequence import SequenceModule
from latchwork._writing import path_text, writable_target, write_atomically
from latchwork.explain import page_arguments as arguments
from latchwork.explain.page_codes import pack
from latchwork.explain.page_corpus import THRESHOLDS, CorpusIndex, checked_corpus, scale_of, watched_signal
from latchwork.explain.page_file import page_html
from latchwork.explain.page_layers import Selected, layers_of, sequence_facts
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._writing import FilePath
    from latchwork.explain.page_layers import Layer

MAX_UNIT_STEPS = 2**22
"""The most steps times units, over all rows, layers and directions, that one page shows: a file of about 60 MB."""


def explorer(
    network: Any,
    x: Any,
    state: Any = None,
    lengths: Any = None,
    reset: Any = None,
    *,
    skip: Any = None,
    tokens: Any = None,
    tracks: Mapping[str, Any] | None = None,
    corpus: Any = None,
    corpus_tokens: Any = None,
    row: int | Sequence[int] | None = None,
    member: int | Sequence[int] | None = None,
    path: FilePath = "gates.html",
) -> None:
    """Write one page of HTML on which every gate, cell and output can be looked at, step by step and unit by unit.

    The page needs no server and no connection to the Internet: a browser opens it from the disk (Chromium 86, Firefox
    113, Safari 16.4 or later). It shows heat maps of every layer and direction. Pointing at a step and a unit shows the
    cell's equations with their numbers; a click shows which steps wrote what the cell holds; for a range of steps it
    lists the units that were on throughout, and the other places where the same units are. ``docs/explorer.md``
    describes it.

    Parameters
    ----------
    network : LSTM, Network or LSTMLanguageModel
        What is explained. Outside training: nothing is dropped.
    x, state, lengths, reset, skip
        As for a call of the network. For a language model ``x`` is a str; the model reads the start of a text and then
        its characters, and the other four are not for it.
    tokens : sequence, optional
        A label for each step: what stands along the time axis. Unbatched T labels, a str being T characters. For a
        batch one such sequence for each row, with T labels or as many as the row has steps. Anything that ``str`` turns
        into a text; texts are cut after 100 characters. None: the tokens' numbers if x is tokens, otherwise nothing but
        the steps' numbers. Not for a language model, whose labels are the characters.
    tracks : mapping of str to sequence, optional
        Annotations that are drawn under the heat maps, by name, such as ``{"gender": [...]}``: labels in the form of
        ``tokens``; None, NaN or "" where there is none.
    corpus : array_like or list of array_like, optional
        Where to look for other places in which units are on: a sequence as x is unbatched, or a list of them, each
        from the start state; for a language model a str or a list of str. At most 4,194,304 steps times units of all
        layers, and 262,144 steps. An index of it, 2 MiB before compression at most, goes into the file.
    corpus_tokens : sequence, optional
        Its labels in the form of ``tokens``: those of the sequence, or a list with those of each. Not for a language
        model.
    row : int or sequence of int, optional
        Which rows of a batch to show. None: all; the page has a choice of them.
    member : int or sequence of int, optional
        Which members of a network to show. None: all. A corpus needs a single one.
    path : str, bytes or os.PathLike, default "gates.html"
        The file. One that is there is replaced once the new one is complete.

    Raises
    ------
    ValueError
        If the network has no LSTM or x no step; if a shape, a number of labels, or a value does not fit; if there are
        more than 4,194,304 steps times units, over all rows, members, layers and directions; or if the corpus is too
        large.
    TypeError
        If an argument is of a wrong type.
    IndexError
        If there is no such row or member.
    OSError
        If the file cannot be written.

    Notes
    -----
    Values are stored in 16 bits with a relative error of at most 0.03 %; for gates that of 1 - v too. The page computes
    h from o and c where it can. What it says each step wrote is the sum that makes up the cell: c_t is the sum, over
    the steps k up to t, of i_k g_k times the product of the forget gates from k + 1 to t, plus the start state times
    the product of all of them. Zoneout and ``cell_clip`` are part of it. The terms it shows add up to the cell that it
    shows: what rounding leaves is shared out in proportion, and the page says how much it was.

    Units that are on throughout a range, and the places where they are too, are those of Strobelt, Gehrmann, Pfister
    and Rush, "LSTMVis: a tool for visual analysis of hidden state dynamics in recurrent neural networks", IEEE
    Transactions on Visualization and Computer Graphics 24 (2018).

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> lw.explain.explorer(lstm, x, tokens="to be or not to be, ", path="gates.html")  # doctest: +SKIP
    """
    target = path_text(path)
    given = arguments.Given(network, x, tokens, corpus, corpus_tokens)
    if arguments.is_language_model(network):
        given = arguments.with_texts_read(given, (state, lengths, reset, skip))
    network, x = given.network, given.x
    if not isinstance(network, SequenceModule):
        raise TypeError(f"network: expected LSTM, Network or LSTMLanguageModel, got {type(network).__name__}")
    layers = layers_of(network)
    if not layers:
        raise ValueError(f"network: expected at least one LSTM, got {network!r}")
    call = network._call(x, state, lengths, reset, skip)
    members = getattr(network, "members", 1)
    selection = [
        Selected(call, each_row, each_member)
        for each_member in arguments.chosen("member", member, members)
        for each_row in arguments.chosen("row", row, call.rows)
    ]
    _check_size(selection, layers)
    labels = arguments.labels_by_row("tokens", given.tokens, call) if given.tokens is not None else None
    checked_tracks = arguments.checked_tracks(tracks, call)
    sequences = None
    if corpus is not None:
        single = _single_member(network, selection)
        sequences = checked_corpus(single, given.corpus, given.corpus_tokens, layers)
    elif corpus_tokens is not None:
        raise ValueError("corpus_tokens: expected None without a corpus, got labels")
    folder = os.path.dirname(writable_target(target))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    trace = network.trace(x, state, lengths, reset, skip=skip)
    shown, blocks = [], {}
    for place, selected in enumerate(selection):
        facts, coded = sequence_facts(trace, layers, selected)
        own_labels = selected.token_numbers(network) if labels is None else labels[selected.row]
        facts["tokens"] = [arguments.label_text(label) for label in own_labels[: selected.steps]]
        facts["tracks"] = arguments.track_facts(
            {name: of_rows[selected.row][: selected.steps] for name, of_rows in checked_tracks.items()}
        )
        shown.append(facts)
        for number, signals in enumerate(coded):
            blocks[f"values-{place}-{number}"] = pack(signals)
    scales = [
        scale_of([selected.values(getattr(trace[layer.name], watched_signal(layer))) for selected in selection])
        for layer in layers
    ]
    if sequences is not None:
        index = CorpusIndex(layers, scales)
        for each in sequences:
            index.add(single.trace(each.x), each.labels)
        blocks["corpus"] = index.pack()
    page_facts = {
        "network": repr(network),
        "members": members,
        "rows": call.rows,
        "layers": [layer.facts() | {"scale": scale} for layer, scale in zip(layers, scales, strict=True)],
        "thresholds": THRESHOLDS,
        "sequences": shown,
    }
    write_atomically(target, page_html(page_facts, blocks))


def _check_size(selection: Sequence[Selected], layers: Sequence[Layer]) -> None:
    """Raise ValueError if there is nothing to show, or too much for one page."""
    steps = sum(selected.steps for selected in selection)
    if not steps:
        raise ValueError("x: expected at least one step, got none")
    empty = next((selected for selected in selection if not selected.steps), None)
    if empty is not None:
        raise ValueError(f"row: expected rows of at least one step, got row {empty.row}, which has none")
    units = sum(layer.units for layer in layers)
    if steps * units > MAX_UNIT_STEPS:
        raise ValueError(
            f"x: expected at most {MAX_UNIT_STEPS:,} steps times units, over all rows, members, layers and directions, "
            f"got {steps:,} x {units:,}; show fewer steps, or choose with row= and member="
        )


def _single_member(network: SequenceModule[Any], selection: Sequence[Selected]) -> SequenceModule[Any]:
    """Give the only member that is shown as a network of its own. ValueError if there are several."""
    shown = {selected.member for selected in selection}
    if len(shown) > 1:
        raise ValueError(f"corpus: expected one member to be shown, got {len(shown)}; choose it with member=")
    return network.member(shown.pop()) if isinstance(network, Network) and network.members > 1 else network
