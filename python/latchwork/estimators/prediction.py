"""Running a fitted network over sequences, batch by batch, and joining its members."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from latchwork._arrays import Array
    from latchwork.estimators.data.inputs import Sequences
    from latchwork.network import Network

# Numbers that the input and the outputs of the layers of one call take at most, unless one sequence takes more and
# cannot be read in several calls.
_NUMBERS_OF_A_CALL = 2**22


def run_network(
    network: Network, sequences: Sequences, steps: bool, finish: Callable[[Array], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """Run the network over all sequences, in batches whose memory is bounded.

    Each sequence's result is the same, bit for bit, whatever batch it is in.

    Parameters
    ----------
    network : Network
        One or several members.
    sequences : Sequences
        n of them, at least one.
    steps : bool
        Whether there is a result for each step, one sequence after another, rather than one for each sequence.
    finish : callable
        Makes results of outputs, number by number: given (M, n, features), with ``steps`` (M, T, n, features), it
        returns arrays without the axis M, and with others in place of the features.

    Returns
    -------
    tuple of numpy.ndarray
        What ``finish`` made, each (n, ...) or (total steps, ...).
    """
    results: tuple[Array, ...] | None = None
    count, axes = (sequences.total_steps, 2) if steps else (len(sequences), 1)
    numbers_of_a_step = _numbers_of_a_step(network)
    for samples in _batches(sequences.lengths, numbers_of_a_step):
        x, valid = sequences.batch(samples)
        steps_of_a_call = max(len(x), 1)
        if steps and network._streamable:
            steps_of_a_call = max(_NUMBERS_OF_A_CALL // (numbers_of_a_step * len(samples)), 1)
        parts = _finished(network, x, valid, steps_of_a_call, finish)
        if results is None:
            results = tuple(np.empty((count, *part.shape[axes:]), part.dtype) for part in parts)
        for result, part in zip(results, parts, strict=True):
            if steps:
                sequences.unbatch(part, samples, result)
            else:
                result[samples] = part
    assert results is not None  # there is at least one sequence
    return results


def _finished(
    network: Network, x: Array, lengths: Array | None, steps: int, finish: Callable[[Array], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """Run the network over a batch in calls of so many steps, each of which goes on from the one before."""
    pieces = []
    state = None
    for begin in range(0, max(len(x), 1), steps):
        piece = x[begin : begin + steps]
        valid = None if lengths is None else np.clip(lengths - begin, 0, len(piece))
        output, state = network(piece, state, valid)
        pieces.append(finish(output if network.members > 1 else output[np.newaxis]))
    return pieces[0] if len(pieces) == 1 else tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))


def mean_of_members(values: Array) -> Array:
    """Give the mean over the first axis, member after member, which gives the same bits on every CPU."""
    total: Array = values[0].astype(np.float64)
    for each in values[1:]:
        total += each
    total /= len(values)
    return total


def spread_of_members(values: Array) -> Array:
    """Give the standard deviation over the first axis."""
    mean = mean_of_members(values)
    total = np.zeros_like(mean)
    for each in values:
        total += (each - mean) ** 2
    return np.sqrt(total / len(values))


def _batches(lengths: Array, numbers_of_a_step: int) -> Iterator[Array]:
    """Yield the numbers of samples of about equal length that fit into one call together."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        # The samples after the first are at least as long as it is, so that a guess from the first is never too small.
        longest = max(int(lengths[order[begin]]), 1) * numbers_of_a_step
        end = min(begin + max(_NUMBERS_OF_A_CALL // longest, 1), len(order))
        while end - begin > 1 and int(lengths[order[end - 1]]) * (end - begin) * numbers_of_a_step > _NUMBERS_OF_A_CALL:
            end = begin + (end - begin) // 2
        yield order[begin:end]
        begin = end


def _numbers_of_a_step(network: Network) -> int:
    """Count what one step of one sequence takes: input and output of the widest layers, of all members."""
    core = network._core
    widths = [size.states * (size.hidden + size.cell) for size in network._state_sizes]
    return core.input_size + network.members * (max(widths, default=0) + core.output_size)
