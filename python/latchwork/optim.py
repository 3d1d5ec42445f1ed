"""Optimisers, with PyTorch's definitions, argument names and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core, schedules
from latchwork._arrays import real_number
from latchwork._optimizer import Optimizer, gradients_list
from latchwork._parameters import members_of

if TYPE_CHECKING:
    from latchwork._optimizer import Target
    from latchwork.schedules import Schedule
    from latchwork.tape import Gradients

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm", "schedules"]


class SGD(Optimizer):
    """Stochastic gradient descent, with or without momentum.

    Parameters
    ----------
    target : layer or Network, or sequence of them, optional
        Whose parameters to update. A layer inside a network: the other layers keep their weights. None: those of the
        network of the `latchwork.Trainer` that it is given to.
    lr : float or Schedule, default 1e-3
        Learning rate, or one of `latchwork.optim.schedules`.
    momentum, dampening : float, default 0.0
        ``velocity = momentum * velocity + (1 - dampening) * gradient``.
    weight_decay : float, default 0.0
        This multiple of the parameters is added to the gradient.
    nesterov : bool, default False
        Nesterov's momentum; needs a momentum and no dampening.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.
    """

    _kind = "sgd"

    def __init__(
        self,
        target: Target = None,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(target, options)


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    target : layer or Network, or sequence of them, optional
        Whose parameters to update. A layer inside a network: the other layers keep their weights. None: those of the
        network of the `latchwork.Trainer` that it is given to.
    lr : float or Schedule, default 1e-3
        Learning rate, or one of `latchwork.optim.schedules`.
    betas : pair of float, default (0.9, 0.999)
        Decay of the two running means, each from 0 to below 1.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        This multiple of the parameters is added to the gradient.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    _kind = "adam"

    def __init__(
        self,
        target: Target = None,
        lr: float | Schedule = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(target, _adam_options(lr, betas, eps, weight_decay))


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    target : layer or Network, or sequence of them, optional
        Whose parameters to update. A layer inside a network: the other layers keep their weights. None: those of the
        network of the `latchwork.Trainer` that it is given to.
    lr : float or Schedule, default 1e-3
        Learning rate, or one of `latchwork.optim.schedules`.
    betas : pair of float, default (0.9, 0.999)
        Decay of the two running means, each from 0 to below 1.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 1e-2
        Before each step the parameters shrink by ``lr * weight_decay``.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    _kind = "adamw"

    def __init__(
        self,
        target: Target = None,
        lr: float | Schedule = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(target, _adam_options(lr, betas, eps, weight_decay))


class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running mean of the gradient's square.

    Parameters
    ----------
    target : layer or Network, or sequence of them, optional
        Whose parameters to update. A layer inside a network: the other layers keep their weights. None: those of the
        network of the `latchwork.Trainer` that it is given to.
    lr : float or Schedule, default 1e-2
        Learning rate, or one of `latchwork.optim.schedules`.
    alpha : float, default 0.99
        Decay of the running mean, from 0 to below 1.
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.0
        This multiple of the parameters is added to the gradient.
    momentum : float, default 0.0
        ``velocity = momentum * velocity + scaled gradient``.
    centered : bool, default False
        Whether to scale by the variance of the gradient instead of the mean of its square. Where rounding would make it
        negative, it is 0.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.

    Notes
    -----
    Tieleman and Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine Learning, 2012; centred as in Graves,
    "Generating sequences with recurrent neural networks", 2013.
    """

    _kind = "rmsprop"

    def __init__(
        self,
        target: Target = None,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(target, options)


def clip_grad_norm(grads: Gradients[Any] | Sequence[Gradients[Any]], clip_norm: float) -> Any:
    """Scale gradients down, in place, so that the Euclidean norm of all of them together is at most ``clip_norm``.

    If there are several members, each is scaled by the norm of its own gradients.

    Parameters
    ----------
    grads : Gradients or sequence of Gradients
        Their ``parameters`` are multiplied by ``min(1, clip_norm / (norm + 1e-6))``, as PyTorch does. Several, of one
        number of members: by the norm of all together.
    clip_norm : float
        At least 0.

    Returns
    -------
    float
        The norm before scaling; with several members an array (M,).

    Raises
    ------
    ValueError
        If ``clip_norm`` is negative or not finite, or the numbers of members differ.
    TypeError
        If an argument is of another type.
    """
    all_grads = gradients_list(grads)
    limit = real_number("clip_norm", clip_norm)
    members = members_of(all_grads[0].parameters._layout)
    if any(members_of(each.parameters._layout) != members for each in all_grads):
        raise ValueError("grads: expected one number of members, got several")
    flats = [each.parameters.flat for each in all_grads]
    norms = _core.gradient_norms(flats, 1 if members is None else members)
    scales = _core.clip_scale(norms, limit)
    for flat in flats:
        parts = flat.reshape(len(norms), -1)
        parts *= scales.astype(flat.dtype)[:, np.newaxis]
    return float(norms[0]) if members is None else norms


def _adam_options(lr: Any, betas: Any, eps: Any, weight_decay: Any) -> dict[str, Any]:
    if not isinstance(betas, (tuple, list)):
        raise TypeError(f"betas: expected a pair of floats, got {type(betas).__name__}")
    if len(betas) != 2:
        raise ValueError(f"betas: expected a pair of floats, got {len(betas)} items")
    return {"lr": lr, "beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay}
