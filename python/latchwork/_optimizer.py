"""What all optimisers share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from latchwork import _core
from latchwork._arrays import boolean, contiguous_real_array, integer
from latchwork._module import Module, core_class
from latchwork._parameters import flat_size
from latchwork.schedules import Schedule, schedule_of
from latchwork.tape import Gradients

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._parameters import Layout

    Target = Module | Sequence[Module] | None


class Optimizer:
    """What all optimisers share: ``optimizer.step(grads)`` updates the parameters of its targets in one write.

    Without a target an optimiser only says how to train, until it is given to a `latchwork.Trainer`: the trainer's
    network is its target from then on.
    """

    _kind: ClassVar[str]

    def __init__(self, target: Target, options: Mapping[str, Any]) -> None:
        lr = options["lr"]
        self._schedule = lr if isinstance(lr, Schedule) else None
        if self._schedule is not None:
            options = {**options, "lr": self._schedule(0)}
        self._options = _checked({"kind": self._kind, **options})
        self._targets: tuple[Module, ...] = ()
        self._core: _core.Optimizer32 | None = None
        self._target_cores: tuple[_core.Network32, ...] = ()
        if target is not None:
            self._bind(_targets_of(target))

    @property
    def targets(self) -> tuple[Module, ...]:
        """Whose parameters are updated; empty if that is not yet known."""
        return self._targets

    @property
    def lr(self) -> float:
        """Learning rate of the next step; may be set at any time, at least 0 (ValueError).

        Setting it takes the place of a schedule.
        """
        lr: float = self._options["lr"] if self._schedule is None else self._schedule(self.steps)
        return lr

    @lr.setter
    def lr(self, value: float | Schedule) -> None:
        if type(value) is float and 0.0 <= value < math.inf:  # as before each step of a run; the core would take longer
            schedule = None
            self._options = self._options | {"lr": value}
        else:
            schedule = value if isinstance(value, Schedule) else None
            self._options = _checked(self._options | {"lr": value if schedule is None else schedule(self.steps)})
        self._schedule = schedule
        if self._core is not None:
            self._core.lr = self._options["lr"]

    @property
    def schedule(self) -> Schedule | None:
        """Where the learning rate comes from; None if it is a number."""
        return self._schedule

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return 0 if self._core is None else max(self._core.steps)

    def step(self, grads: Gradients[Any] | Sequence[Gradients[Any]], *, check_finite: bool = True) -> None:
        """Update the parameters.

        Parameters
        ----------
        grads : Gradients or sequence of Gradients
            As ``tape.backward`` returns them, of the target or of the network that it is inside. If there are several
            targets: a list with one for each, or gradients of a network that all are inside. Not changed.
        check_finite : bool, default True
            Whether to refuse gradients that hold NaN or infinity, and a step after which a parameter would. False takes
            such steps, as PyTorch does.

        Raises
        ------
        ValueError
            If the gradients are of another module, or the optimiser has no target.
        TypeError
            If an argument is of another type.
        RuntimeError
            If a gradient or a result is not finite, unless ``check_finite`` is False; nothing has changed then.
        """
        core = self._bound("step")
        all_grads = gradients_list(grads)
        if all_grads[0] is grads:
            all_grads = all_grads * len(self._targets)
        if len(all_grads) != len(self._targets):
            raise ValueError(f"grads: expected one for each of the {len(self._targets)} targets, got {len(all_grads)}")
        places = [_place_in(target, each) for target, each in zip(self._targets, all_grads, strict=True)]
        self._prepare()
        core.step(places, boolean("check_finite", check_finite))

    def state_dict(self) -> dict[str, Any]:
        """Copy options, schedule, number of steps and moments: all that the next steps depend on but the parameters."""
        core = self._bound("state_dict")
        return {
            "options": dict(self._options),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "steps": core.steps,
            "buffers": [np.array(buffer) for buffer in core.buffers()],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of an optimiser of the same class gave, options included; all of it or nothing.

        Raises
        ------
        ValueError
            If it is of another class, of another number of parameters, or incomplete.
        TypeError
            If something in it is of another type.
        """
        self._load(self._loadable(state_dict))

    def __repr__(self) -> str:
        """Show the options."""
        shown = self._options if self._schedule is None else self._options | {"lr": self._schedule}
        options = ", ".join(f"{name}={value!r}" for name, value in shown.items() if name != "kind")
        return f"{type(self).__name__}({options})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the targets, options and moments."""
        state = self.__dict__ | {"_core": None, "_target_cores": ()}
        if self._core is not None:
            state["_state"] = (self._core.steps, [np.array(buffer) for buffer in self._core.buffers()])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the moments of the copied optimiser."""
        self.__dict__.update(state)
        saved = self.__dict__.pop("_state", None)
        if saved is not None:
            self._make_core().restore(self._options, *saved)

    def _bind(self, targets: tuple[Module, ...]) -> None:
        self._targets = targets
        try:
            self._make_core()
        except Exception:
            self._targets = ()
            raise

    def _unbind(self) -> None:
        self._targets, self._core, self._target_cores = (), None, ()

    def _make_core(self) -> _core.Optimizer32:
        cores = tuple(target._core for target in self._targets)
        optimizer_type = core_class(self._targets[0].dtype, _core.Optimizer32, _core.Optimizer64)
        self._core = optimizer_type(self._options, cores)
        self._target_cores = cores
        return self._core

    def _bound(self, use: str) -> _core.Optimizer32:
        """Give the core's optimiser, made anew if a target has joined a network since."""
        if self._core is None:
            name = type(self).__name__
            raise ValueError(f"{use}: expected an optimiser with a target, {name}(layer_or_network), got {self!r}")
        if any(target._core is not core for target, core in zip(self._targets, self._target_cores, strict=True)):
            before = self._core
            self._make_core().restore(self._options, before.steps, before.buffers())
        return self._core

    def _prepare(self) -> None:
        """Give the core the learning rate of the next step."""
        if self._schedule is not None and self._core is not None:
            self._core.lr = self._schedule(self.steps)

    def _loadable(self, state_dict: Any) -> tuple[dict[str, Any], Schedule | None, list[int], list[Array]]:
        """Check the state of an optimiser."""
        core = self._bound("load_state_dict")
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
        if set(state_dict) != {"options", "schedule", "steps", "buffers"}:
            names = ", ".join(map(str, state_dict))
            raise ValueError(f"state_dict: expected options, schedule, steps and buffers, got {names}")
        options = _checked(state_dict["options"])
        if options["kind"] != self._kind:
            raise ValueError(f'state_dict: expected that of "{self._kind}", got that of {options["kind"]!r}')
        schedule = None if state_dict["schedule"] is None else schedule_of(state_dict["schedule"])
        steps = [integer("steps", count, 0) for count in state_dict["steps"]]
        if len(steps) != len(core.steps):
            raise ValueError(f"steps: expected {len(core.steps)} numbers, got {len(steps)}")
        size = sum(flat_size(target._layout) for target in self._targets)
        buffers = [
            contiguous_real_array(f"buffers[{i}]", buffer, self._targets[0].dtype, (size,))
            for i, buffer in enumerate(state_dict["buffers"])
        ]
        # A core of its own says whether their number is right.
        type(core)(options, self._target_cores).restore(options, steps, buffers)
        return options, schedule, steps, buffers

    def _load(self, state: tuple[dict[str, Any], Schedule | None, list[int], list[Array]]) -> None:
        self._options, self._schedule, steps, buffers = state
        self._bound("load_state_dict").restore(self._options, steps, buffers)


def gradients_list(grads: Any) -> list[Gradients[Any]]:
    """Read Gradients, or several of them."""
    all_grads = [grads] if isinstance(grads, Gradients) else grads
    if not isinstance(all_grads, (tuple, list)) or not all_grads:
        raise TypeError(f"grads: expected Gradients or a list of them, got {type(grads).__name__}")
    for each in all_grads:
        if not isinstance(each, Gradients):
            raise TypeError(f"grads: expected Gradients, got {type(each).__name__}")
    return list(all_grads)


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


def _targets_of(target: Any) -> tuple[Module, ...]:
    targets = (target,) if isinstance(target, Module) else target
    if not isinstance(targets, (tuple, list)):
        raise TypeError(f"target: expected a layer or a Network, or several of them, got {type(target).__name__}")
    if not targets:
        raise ValueError("target: expected at least one layer or Network, got none")
    for each in targets:
        if not isinstance(each, Module):
            raise TypeError(f"target: expected a layer or a Network, got {type(each).__name__}")
        if not each._layout:
            raise ValueError(f"target: expected a layer with parameters, got {each!r}")
    if len({each.dtype for each in targets}) > 1:
        raise ValueError("target: expected one dtype, got float32 and float64")
    return tuple(targets)


def _place_in(target: Module, grads: Gradients[Any]) -> tuple[Array, int]:
    """Find the gradients of a target: the array, and where they begin in those of one member."""
    begin = _begin_in(grads.parameters._layout, target) if grads.parameters.flat.dtype == target.dtype else None
    if begin is None:
        raise ValueError(f"grads: expected gradients of {target!r}, got those of another module")
    return grads.parameters.flat, begin


def _begin_in(layout: Layout, target: Module) -> int | None:
    """Find where a target's gradients begin in those of a module with this layout. None: they are not there."""
    own = target._layout
    if layout is own or layout == own:
        return 0
    # Those of a layer of a network lie there as its parameters do, with its number in front of their names.
    begin = target._core.parameters_begin
    first = next(iter(own))
    for name, place in layout.items():
        if place.start == begin and name.endswith(f".{first}"):
            prefix = name.removesuffix(first)
            moved = {f"{prefix}{key}": each._replace(start=begin + each.start, end=begin + each.end)
                     for key, each in own.items()}  # fmt: skip
            return begin if moved.items() <= layout.items() else None
    return None
