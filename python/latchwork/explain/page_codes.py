"""How the explorer stores the numbers of a trace: 16 bits each, in steps that are as fine as three digits need.

The page multiplies hundreds of forget gates, so what must stay small is the relative error of f and of 1 - f, of i, and
of the cell. Codes are therefore even steps of a logarithm rather than of the value. `explorer_page/values.js` reads
them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array

LOGIT = 17.0  # where shares end: beyond it a sigmoid in float32 is 0 or 1, to 4e-8
SHARE_STEPS = 65532  # between the codes 2 and 65534; code 0 is NaN, 1 is the value 0, 65535 the value 1
RANGE = 16.0  # natural logarithms from the largest |v| of a unit down to the smallest that is not stored as 0
SIGNED_STEPS = 32765  # on either side of code 32768, which is the value 0; code 0 is NaN, 1 and 65535 are infinite


class Coded(NamedTuple):
    """The codes of one signal of one sequence."""

    codes: Array
    """(T, H), 16 bits."""
    scales: Array | None
    """(H,): the largest |v| of each unit, for even steps of log(|v|), with which values may be anything. None: values
    are shares, from 0 to 1, in even steps of log(v / (1 - v)). Either way the relative error is at most 0.03 %."""


def encode(values: Array) -> Coded:
    """Code the values (T, H) of a signal. Those of the default activations' gates are shares; others may not be."""
    values = values.astype(np.float64)
    valid = values[~np.isnan(values)]
    return _shares(values) if ((valid >= 0) & (valid <= 1)).all() else _signed(values)


def pack(signals: Sequence[Coded]) -> bytes:
    """Compress codes: for each signal and unit the differences from step to step, high bytes before low ones.

    The scales come last, as float64.
    """
    parts = []
    for signal in signals:
        by_unit = np.ascontiguousarray(signal.codes.T)
        by_unit[:, 1:] -= by_unit[:, :-1].copy()
        octets = by_unit.reshape(-1, 1).astype("<u2").view(np.uint8)
        parts += [octets[:, 1].tobytes(), octets[:, 0].tobytes()]
    parts += [signal.scales.astype("<f8").tobytes() for signal in signals if signal.scales is not None]
    return zlib.compress(b"".join(parts), 6)


def _shares(values: Array) -> Coded:
    with np.errstate(divide="ignore"):
        steps = (np.log(values / (1 - values)) + LOGIT) * (SHARE_STEPS / (2 * LOGIT))
    return Coded(_codes(np.clip(np.rint(steps), -1, SHARE_STEPS + 1) + 2), None)


def _signed(values: Array) -> Coded:
    size = abs(values)
    scales = np.max(size, axis=0, where=np.isfinite(size), initial=0.0)
    scales[scales == 0] = 1.0
    with np.errstate(divide="ignore"):
        steps = np.rint((np.log(size / scales) / RANGE + 1) * SIGNED_STEPS)
    steps = np.where(np.isinf(values), SIGNED_STEPS + 1, np.clip(steps, -1, SIGNED_STEPS))
    return Coded(_codes(32768 + np.sign(values) * (steps + 1)), scales)


def _codes(steps: Array) -> Array:
    steps[np.isnan(steps)] = 0
    return steps.astype(np.uint16)
