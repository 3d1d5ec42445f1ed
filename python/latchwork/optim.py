"""Optimisers, with PyTorch's definitions, argument names and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from latchwork import _core
from latchwork._arrays import contiguous_real_array, integer, real_number
from latchwork._module import Module, core_class
from latchwork._parameters import flat_size, members_of
from latchwork.tape import Gradients

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm"]


class Optimizer:
    """What all optimisers share: ``optimizer.step(grads)`` updates the parameters of its target in one write.

    Without a target an optimiser only says how to train: give it to a `latchwork.Trainer`.
    """

    _kind: ClassVar[str]

    def __init__(self, target: Module | None, options: Mapping[str, Any]) -> None:
        if target is not None and not isinstance(target, Module):
            raise TypeError(f"target: expected a layer or a Network, got {type(target).__name__}")
        if target is not None and not target._layout:
            raise ValueError(f"target: expected a layer with parameters, got {target!r}")
        self._target = target
        self._options = _checked({"kind": self._kind, **options})
        self._core = None if target is None else _new_core(target, self._options)

    @property
    def lr(self) -> float:
        """Learning rate; may be set at any time, at least 0 (ValueError)."""
        lr: float = self._options["lr"]
        return lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._options = _checked(self._options | {"lr": value})
        if self._core is not None:
            self._core.lr = self.lr

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return 0 if self._core is None else self._core.steps

    def step(self, grads: Gradients[Any]) -> None:
        """Update the parameters.

        Parameters
        ----------
        grads : Gradients
            Of the target, as ``tape.backward`` returns them. Not changed.

        Raises
        ------
        ValueError
            If the gradients are of another module, or the optimiser has no target.
        TypeError
            If ``grads`` is something else.
        """
        target, core = self._bound("step")
        if not isinstance(grads, Gradients):
            raise TypeError(f"grads: expected Gradients, got {type(grads).__name__}")
        if grads.parameters._layout != target._layout or grads.parameters.flat.dtype != target.dtype:
            raise ValueError(f"grads: expected gradients of {target!r}, got those of another module")
        core.step(target._core, grads.parameters.flat, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Copy options, number of steps and moments."""
        _, core = self._bound("state_dict")
        return {"options": dict(self._options), "steps": core.steps, "buffers": [np.array(b) for b in core.buffers()]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of an optimiser of the same class gave, options included; all of it or nothing.

        Raises
        ------
        ValueError
            If it is of another class, of another number of parameters, or incomplete.
        TypeError
            If something in it is of another type.
        """
        target, _ = self._bound("load_state_dict")
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
        if set(state_dict) != {"options", "steps", "buffers"}:
            raise ValueError(f"state_dict: expected options, steps and buffers, got {', '.join(map(str, state_dict))}")
        arguments = dict(state_dict["options"])
        kind = arguments.pop("kind", None)
        if kind != self._kind:
            raise ValueError(f'state_dict: expected that of "{self._kind}", got that of {kind!r}')
        if "beta1" in arguments and "beta2" in arguments:
            arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
        fresh = type(self)(target, **arguments)
        _, core = fresh._bound("load_state_dict")
        size = len(target._core.view())
        buffers = [
            contiguous_real_array(f"buffers[{i}]", buffer, target.dtype, (size,))
            for i, buffer in enumerate(state_dict["buffers"])
        ]
        core.restore(integer("steps", state_dict["steps"], 0), buffers)
        self._options, self._core = fresh._options, core

    def __repr__(self) -> str:
        """Show the options."""
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items() if name != "kind")
        return f"{type(self).__name__}({options})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the target, options and moments."""
        state = self.__dict__ | {"_core": None}
        return state if self._core is None else state | {"_state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the moments of the copied optimiser."""
        self.__dict__.update(state)
        saved = self.__dict__.pop("_state", None)
        if saved is not None:
            assert self._target is not None
            self._core = _new_core(self._target, self._options)
            self._core.restore(saved["steps"], saved["buffers"])

    def _bound(self, use: str) -> tuple[Module, _core.Optimizer32]:
        if self._target is None or self._core is None:
            name = type(self).__name__
            raise ValueError(f"{use}: expected an optimiser with a target, {name}(layer_or_network), got {self!r}")
        return self._target, self._core


class SGD(Optimizer):
    """Stochastic gradient descent, with or without momentum.

    Parameters
    ----------
    target : LSTM, LSTMCell, Embedding, Linear or Network, optional
        Whose parameters to update. None: for a `latchwork.Trainer`.
    lr : float, default 1e-3
        Learning rate.
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
        target: Module | None = None,
        lr: float = 1e-3,
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
    target : LSTM, LSTMCell, Embedding, Linear or Network, optional
        Whose parameters to update. None: for a `latchwork.Trainer`.
    lr : float, default 1e-3
        Learning rate.
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
        target: Module | None = None,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(target, _adam_options(lr, betas, eps, weight_decay))


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    target : LSTM, LSTMCell, Embedding, Linear or Network, optional
        Whose parameters to update. None: for a `latchwork.Trainer`.
    lr : float, default 1e-3
        Learning rate.
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
        target: Module | None = None,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(target, _adam_options(lr, betas, eps, weight_decay))


def clip_grad_norm(grads: Gradients[Any], clip_norm: float) -> Any:
    """Scale gradients down, in place, so that the Euclidean norm of all of them together is at most ``clip_norm``.

    If there are several members, each is scaled by the norm of its own gradients.

    Parameters
    ----------
    grads : Gradients
        Their ``parameters`` are multiplied by ``min(1, clip_norm / (norm + 1e-6))``, as PyTorch does.
    clip_norm : float
        At least 0.

    Returns
    -------
    float
        The norm before scaling; with several members an array (M,).

    Raises
    ------
    ValueError
        If ``clip_norm`` is negative or not finite.
    TypeError
        If an argument is of another type.
    """
    if not isinstance(grads, Gradients):
        raise TypeError(f"grads: expected Gradients, got {type(grads).__name__}")
    flat = grads.parameters.flat
    limit = real_number("clip_norm", clip_norm)
    members = members_of(grads.parameters._layout)
    norms = _core.gradient_norms(flat, 1 if members is None else members)
    scales = _core.clip_scale(norms, limit).astype(flat.dtype)
    parts = flat.reshape(len(norms), -1)
    parts *= scales[:, np.newaxis]
    return float(norms[0]) if members is None else norms


def _adam_options(lr: Any, betas: Any, eps: Any, weight_decay: Any) -> dict[str, Any]:
    if not isinstance(betas, (tuple, list)):
        raise TypeError(f"betas: expected a pair of floats, got {type(betas).__name__}")
    if len(betas) != 2:
        raise ValueError(f"betas: expected a pair of floats, got {len(betas)} items")
    return {"lr": lr, "beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay}


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Let the core check the options, and say in Python's words what it refuses."""
    try:
        return _core.checked_optimizer(options)
    except (TypeError, ValueError) as error:
        message = str(error)
        for name, python_name in (("beta1:", "betas[0]:"), ("beta2:", "betas[1]:")):
            if message.startswith(name):
                raise type(error)(python_name + message.removeprefix(name)) from None
        raise


def _new_core(target: Module, options: Mapping[str, Any]) -> _core.Optimizer32:
    optimizer_type = core_class(target.dtype, _core.Optimizer32, _core.Optimizer64)
    return optimizer_type(options, flat_size(target._layout))
