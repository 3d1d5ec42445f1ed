"""Losses and their gradients: the trainer's own, for training loops that are written out.

``loss, d_output = lw.losses.cross_entropy(tape.output, y)`` and then ``tape.backward(d_output)`` is what a
`latchwork.Trainer` does. Each function takes these arguments; what follows them are options of its own, which a
`Trainer` takes too, such as ``Trainer(network, "huber", optimizer, delta=0.5)``.

Parameters
----------
output : array_like
    (T, N, features), with ``batch_first`` (N, T, features); after pooling (N, features). float32, or converted to
    float64.
y : array_like
    The targets in the axes of the output. For `cross_entropy` class labels, which are integers, without the last axis;
    otherwise values. A likelihood and `quantile` have several features of the output for each feature of the target,
    side by side.
lengths : array_like of int, optional
    (N,): how many steps of each sequence count. None: all. Not after pooling.
weights : array_like, optional
    How much each target counts, at least 0: (N,) for rows, (T, N) for steps, in the axes of the output, or in the shape
    of the targets for single elements. With weight 0 a target does not count at all, whatever it is, NaN too: so gaps
    are left out. None: all count alike.
batch_first : bool, default False
    The order of the first two axes.
members : int, optional
    How many members the output is of, if it has their axis in front; targets, lengths and weights may have it too.

Returns
-------
loss : float
    The mean over what counts, weighted: the sum of weights times losses divided by the sum of the weights. 0 if nothing
    counts. With members an array (M,).
d_output : numpy.ndarray
    The gradient of the loss with respect to the output, in its shape and dtype; 0 where nothing counts.

Raises
------
ValueError
    If a shape does not fit, an option is out of range, a weight is negative or not finite, or a target that counts is
    no label or not finite.
TypeError
    If an argument is of a wrong type or dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latchwork import _core
from latchwork._arrays import as_array, boolean, integer, lengths_array, real_array, shape_text
from latchwork._axes import Axes
from latchwork._targets import in_the_users_words, target_array, weights_array

__all__ = [
    "absolute_error",
    "cross_entropy",
    "gaussian",
    "huber",
    "negative_binomial",
    "quantile",
    "squared_error",
    "student_t",
]


def cross_entropy(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Cross-entropy of the softmax of the output with class labels, the mean over steps and rows.

    It takes logits, since it applies the softmax itself: a `Trainer` refuses a network that ends in softmax. See
    `latchwork.losses` for the arguments that all losses have, results and errors.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        From 0 to 1: the share of each label that all classes divide among them equally.
    ignore_index : int, default -100
        Where this is the label, the step does not count.
    """
    options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index}
    return _loss("cross_entropy", options, output, y, lengths, weights, batch_first, members)


def squared_error(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """``(output - y) ** 2``.

    See `latchwork.losses` for the arguments that all losses have, results and errors.
    """
    return _loss("squared_error", {}, output, y, lengths, weights, batch_first, members)


def absolute_error(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """``abs(output - y)``.

    See `latchwork.losses` for the arguments that all losses have, results and errors.
    """
    return _loss("absolute_error", {}, output, y, lengths, weights, batch_first, members)


def huber(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    delta: float = 1.0,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Half the squared error d up to ``delta``, ``delta * (abs(d) - delta / 2)`` beyond.

    See `latchwork.losses` for the arguments that all losses have, results and errors.

    Parameters
    ----------
    delta : float, default 1.0
        Above 0.
    """
    return _loss("huber", {"delta": delta}, output, y, lengths, weights, batch_first, members)


def quantile(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    quantiles: Sequence[float],
    quantile_weights: Sequence[float] | None = None,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Quantile loss, the mean over quantiles q: ``max(q * (y - output), (q - 1) * (y - output))``.

    See `latchwork.losses` for the arguments that all losses have, results and errors.

    Parameters
    ----------
    quantiles : sequence of float
        Each above 0 and below 1. The output holds, for each feature of y, one value for each quantile, side by side.
    quantile_weights : sequence of float, optional
        How much each quantile counts in the mean, at least 0. None: all count alike.
    """
    options: dict[str, Any] = {"quantiles": quantiles}
    if quantile_weights is not None:
        options["quantile_weights"] = quantile_weights
    return _loss("quantile", options, output, y, lengths, weights, batch_first, members)


def gaussian(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Negative log-likelihood of y under a normal distribution.

    The output holds two features for each feature k of y: ``output[..., 2 * k]`` is the mean, and
    ``softplus(output[..., 2 * k + 1]) + 1e-6`` the standard deviation. See `latchwork.losses` for the arguments that
    all losses have, results and errors.
    """
    return _loss("gaussian", {}, output, y, lengths, weights, batch_first, members)


def student_t(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Negative log-likelihood of y under Student's t-distribution, which has heavier tails than a normal one.

    The output holds three features for each feature k of y: ``output[..., 3 * k]`` is the location,
    ``softplus(output[..., 3 * k + 1]) + 1e-6`` the scale, and ``2 + softplus(output[..., 3 * k + 2])`` the degrees of
    freedom. See `latchwork.losses` for the arguments that all losses have, results and errors.
    """
    return _loss("student_t", {}, output, y, lengths, weights, batch_first, members)


def negative_binomial(
    output: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    batch_first: bool = False,
    *,
    members: int | None = None,
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Negative log-likelihood of counts y, at least 0, under a negative binomial distribution.

    The output holds two features for each feature k of y: ``mean = softplus(output[..., 2 * k]) + 1e-6`` and
    ``dispersion = softplus(output[..., 2 * k + 1]) + 1e-6``. The variance is ``mean + dispersion * mean ** 2``. See
    `latchwork.losses` for the arguments that all losses have, results and errors.

    Notes
    -----
    Salinas, Flunkert, Gasthaus and Januschowski, "DeepAR: probabilistic forecasting with autoregressive recurrent
    networks", International Journal of Forecasting 36, 2020.
    """
    return _loss("negative_binomial", {}, output, y, lengths, weights, batch_first, members)


BY_FUNCTION: dict[Callable[..., Any], str] = {
    function: function.__name__
    for function in (
        cross_entropy,
        squared_error,
        absolute_error,
        huber,
        quantile,
        gaussian,
        student_t,
        negative_binomial,
    )
}


def _loss(
    kind: str,
    options: dict[str, Any],
    output: Any,
    y: Any,
    lengths: Any,
    weights: Any,
    batch_first: Any,
    members: Any,
) -> tuple[Any, np.ndarray[Any, Any]]:
    array = as_array("output", output)
    dtype = np.dtype(np.float32 if array.dtype in (np.float32, np.float16) else np.float64)
    array = real_array("output", array, dtype)
    count = None if members is None else integer("members", members, 2)
    axes = Axes(True, boolean("batch_first", batch_first), count)
    front = 0 if count is None else 1
    sequence = array.ndim == 3 + front
    if not sequence and array.ndim != 2 + front or count is not None and array.shape[0] != count:
        shapes = [axes.shape("T", "N", "features"), axes.shape("T", "N", "features", sequence=False)]
        raise ValueError(f"output: expected {' or '.join(map(shape_text, shapes))}, got {shape_text(array.shape)}")
    core_output = axes.to_core(array, sequence)
    steps, rows, features = core_output.shape[front:]
    core_lengths = None
    if lengths is not None:
        if not sequence:
            raise ValueError("lengths: expected None after pooling, whose output has no steps, got lengths")
        core_lengths = lengths_array(lengths, steps, rows, count)
    chosen = {"kind": kind} | options
    labels = kind == "cross_entropy"
    place = (labels, features // max(_core.outputs_per_target(chosen), 1), dtype, axes, steps, rows, sequence)
    target = target_array(y, *place)
    core_weights = None if weights is None else weights_array(weights, *place)
    try:
        loss, d_output = _core.loss_and_gradient(chosen, core_output, target, core_weights, core_lengths, count or 1)
    except ValueError as error:
        raise in_the_users_words(error) from None
    return loss, axes.from_core(d_output, sequence)
