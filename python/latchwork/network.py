"""Chains of layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core, files
from latchwork._arrays import boolean, integer, real_dtype
from latchwork._module import Config, Module, core_class, kind_of, members_of_file, without_initial_values
from latchwork._sequence import SequenceModule, StateSize
from latchwork.activation import Activation
from latchwork.input_layers import EmbedColumns, Impute, Scale
from latchwork.layers import Dropout, Embedding, Last, Linear, Max, Mean, Parameterless, Sort
from latchwork.lstm import LSTM
from latchwork.step_layers import InputSkip, Mask, Reverse

if TYPE_CHECKING:
    from typing import Self

    from latchwork._arrays import Array


_LAYERS: dict[str, type[Module]] = {
    layer._kind: layer
    for layer in (
        LSTM, Embedding, Last, Mean, Max, Linear, Activation, Dropout, Scale, Impute, EmbedColumns, Mask, Reverse,
        InputSkip, Sort,
    )
}  # fmt: skip


class Network(SequenceModule[Any]):
    """A chain of layers on one contiguous buffer of parameters: called, streamed, traced, recorded and saved as one.

    ``output, state = network(x, state=None, lengths=None, reset=None)``; see `__call__` for the shapes. The state is
    (h_n, c_n) if there is one LSTM, a tuple of such pairs if there are several, ``()`` if there is none. An `Impute`
    that carries values forward has a pair of its own, (value, age), in the order of the layers.

    Parameters
    ----------
    layers : sequence of layers
        `LSTM`, `Embedding`, `Last`, `Mean`, `Max`, `Linear`, `Activation`, `Dropout`, `Scale`, `Impute`,
        `EmbedColumns`, `Mask`, `Reverse`, `InputSkip` and `Sort`. Each layer's input size is the output size of the one
        before. An `Embedding` may come first, so that the network takes tokens, or a `Mask`. An `Impute` comes before
        the LSTMs, an `EmbedColumns` after no other layers than `Mask`, `Scale` and `Impute`. LSTMs, `Reverse` and
        `InputSkip` come before `Last`, `Mean` or `Max`, of which there may be one. The layers keep their weights and
        share them with the network from then on: a write through one is seen by the other. A layer belongs to at most
        one network.
    members : int, default 1
        How many sets of weights (M) the network has. All are run and trained in one call, and each gives bit for bit
        what it would give as a network of its own. That saves time, most of all in small networks
        (``tests/benchmarks/members.py`` measures it). Member m starts as the same layers built with ``seed + m``
        (modulo 2**64), so if M is above 1, nothing may have been written to the layers since they were built.

    Raises
    ------
    ValueError
        If the layers do not fit together, differ in dtype or ``batch_first``, or belong to a network already; with
        several members also if a layer was written to since it was built. If ``members`` is out of range.
    TypeError
        If an item is no such layer, or ``members`` is no int.

    Notes
    -----
    Parameters are named as in ``torch.nn.Sequential``: ``1.weight_ih_l0`` is that of ``network[1]``. Traces are named
    the same way: ``1.l0``.

    Pickle and ``copy.deepcopy`` copy layer by layer. While another thread trains, use ``state_dict()``, whose copies
    are all of one moment.

    With several members all arrays have an axis M before the others:

    ============================================  ================================================================
    x, the same for all members                   (T, N, input_size), unbatched (T, input_size)
    x of each member's own                        (M, T, N, input_size)
    ``lengths``, ``reset``, start states, y       as without members, or with the axis M in front
    output, end states, gradients, parameters     (M, ...)
    loss of a `Trainer`                           (M,)
    ============================================  ================================================================

    ``batch_first`` swaps T and N and leaves M first. If members shared an input or a start state, there is a gradient
    for each of them; their sum over the first axis is the gradient with respect to what was passed in. Member m has the
    masks of ``mask_seed + m``. ``network[i]`` is layer i with all its members.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> network = lw.Network([lw.Embedding(50, 16), lw.LSTM(16, 32), lw.Last(), lw.Linear(32, 3)])
    >>> output, (h_n, c_n) = network(np.zeros((10, 4), int))
    >>> output.shape
    (4, 3)
    """

    _kind = "network"
    _not_copied = SequenceModule._not_copied | {"_config"}

    def __init__(self, layers: Sequence[Module], members: int = 1) -> None:
        if not isinstance(layers, Sequence):
            raise TypeError(f"layers: expected a sequence of layers, got {type(layers).__name__}")
        self._join(tuple(layers), integer("members", members, 1))

    @classmethod
    def stack(cls, networks: Sequence[Network]) -> Self:
        """Make one network whose members are those of others, with the weights they have at this moment.

        Parameters
        ----------
        networks : sequence of Network
            At least one. Their layers must be equal; only how initial values were drawn may differ.

        Returns
        -------
        Network
            Independent of them; its members are theirs in order.

        Raises
        ------
        ValueError
            If there is none, or if their layers differ.
        TypeError
            If an item is no network.
        """
        networks = list(networks)
        if not networks:
            raise ValueError("networks: expected at least one Network, got none")
        for place, network in enumerate(networks):
            if not isinstance(network, Network):
                raise TypeError(f"networks[{place}]: expected Network, got {type(network).__name__}")
            if network._shape() != networks[0]._shape():
                raise ValueError(
                    f"networks[{place}]: expected the layers of networks[0], {networks[0]!r}, got {network!r}"
                )
        stacked = cls._unset(networks[0]._config, sum(network.members for network in networks))
        flat = [network._read().reshape(network.members, -1) for network in networks]
        stacked._write_flat(np.concatenate(flat))
        stacked._mask_seeds = networks[0]._mask_seeds
        return stacked

    def member(self, index: int) -> Self:
        """Copy one member: make a network of its own with the weights of this moment, which it does not share.

        Parameters
        ----------
        index : int
            From 0 to ``members - 1``, or from the end if it is negative.

        Returns
        -------
        Network
            A network of one member, independent of this one.

        Raises
        ------
        IndexError
            If there is no such member.
        TypeError
            If the index is no int.
        """
        position = operator.index(index)
        if not -self.members <= position < self.members:
            raise IndexError(f"index: expected {-self.members} to {self.members - 1}, got {position}")
        alone = self._unset(self._config, 1)
        alone._write_flat(self._read().reshape(self.members, -1)[position])
        alone._mask_seeds = self._mask_seeds
        return alone

    @property
    def members(self) -> int:
        """How many sets of weights there are."""
        return self._members or 1

    @property
    def batch_first(self) -> bool:
        """Whether input and output are (N, T, ...): as its LSTMs were built, False without an LSTM."""
        batch_first: bool = self._config.python["batch_first"]
        return batch_first

    @property
    def layers(self) -> tuple[Module, ...]:
        """The layers in order."""
        return self._layers

    def __getitem__(self, index: int) -> Module:
        """Return one layer, not a copy: it shares its weights with the network."""
        return self._layers[index]

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        """Iterate over the layers."""
        return iter(self._layers)

    def __repr__(self) -> str:
        """Show the layers."""
        members = "" if self._members is None else f", members={self._members}"
        return f"Network([{', '.join(map(repr, self._layers))}]{members})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Join copied layers."""
        self.__dict__.update(state)
        mask_seeds = self.__dict__.pop("_mask_seeds")
        self._join(self.__dict__.pop("_layers"), self._members or 1)
        self._mask_seeds = mask_seeds

    def __getstate__(self) -> dict[str, Any]:
        """Return the layers, which hold the weights."""
        state = {name: value for name, value in self.__dict__.items() if name not in self._not_copied}
        return state | {"_mask_seeds": self._mask_seeds}

    def _join(self, layers: tuple[Module, ...], members: int) -> None:
        """Give all layers one buffer; on an error they are as before."""
        several = members if members > 1 else None
        _check_layers(layers, several)
        dtypes = {layer.dtype for layer in layers if not isinstance(layer, Parameterless)}
        if len(dtypes) > 1:
            raise ValueError(f"layers: expected one dtype, got {' and '.join(sorted(map(str, dtypes)))}")
        dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
        lstms = {index: layer for index, layer in enumerate(layers) if isinstance(layer, LSTM)}
        if len({lstm.batch_first for lstm in lstms.values()}) > 1:
            raise ValueError("layers: expected one batch_first for all LSTMs, got both True and False")
        modules = [options for layer in layers for options in layer._config.modules]
        try:
            network_type = core_class(dtype, _core.Network32, _core.Network64)
            core = network_type(without_initial_values(modules), "of_chain", 0, members)
        except ValueError as error:  # sizes or the order do not fit; the core calls layers modules
            raise ValueError(str(error).replace("modules", "layers")) from error
        values: dict[str, Array] = {}
        for index, layer in enumerate(layers):
            # A layer that has the members already was copied from a network that has them.
            tensors = layer.state_dict() if layer._members == several else layer._initial_values(members)
            values |= {f"{index}.{name}": np.ascontiguousarray(value) for name, value in tensors.items()}
        core.write(values)
        key = 0
        for layer in layers:
            if not isinstance(layer, Parameterless):
                core.mask_seeds = key, layer._mask_seeds[0]
                key = core.next_mask_seed()
        core.mask_seeds = key, 0  # follows from the layers' seeds
        self._members = several
        self._layers = layers
        self._config = Config(modules, dtype.name, {"batch_first": any(lstm.batch_first for lstm in lstms.values())})
        self._in_network = False
        self._state_sizes = tuple(StateSize(*sizes) for sizes in core.state_sizes)
        stateful = [layer for layer in layers if isinstance(layer, LSTM) or _carries(layer)]
        self._lstm_states = tuple(i for i, layer in enumerate(stateful) if isinstance(layer, LSTM))
        self._trace_names = tuple(
            tuple(f"{index}.{name}" for name in names) for index, lstm in lstms.items() for names in lstm._trace_names
        )
        self._vocabulary = layers[0].num_embeddings if isinstance(layers[0], Embedding) else None
        self._streamable = all(lstm._streamable for lstm in lstms.values()) and not _any_reverse(layers)
        self._adopt(core)
        for index, layer in enumerate(layers):
            layer._in_network = True
            layer._members = several
            if not isinstance(layer, Parameterless):
                layer._adopt(core.module(index))

    @classmethod
    def _unset(cls, config: Config, members: int) -> Self:
        """Make a network whose parameters are yet to be written."""
        layers = []
        for place, options in enumerate(config.modules):
            kind = kind_of(options)
            if kind not in _LAYERS:
                raise ValueError(f"modules[{place}].kind: expected one of {', '.join(_LAYERS)}, got {kind}")
            layer = _LAYERS[kind]._unbuilt(Config([options], config.dtype, config.python if kind == "lstm" else {}))
            layer._members = members if members > 1 else None
            layer._create_unset()
            layers.append(layer)
        return cls(layers, members)

    def _shape(self) -> tuple[Any, ...]:
        return without_initial_values(self._config.modules), self._config.dtype, self._config.python

    def _write_flat(self, flat: Array) -> None:
        self._write({name: place.view(flat) for name, place in self._layout.items()})

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        modules, dtype, _ = files.named("config", content.config, files.CONFIG)
        (batch_first,) = files.named("python", content.python, ("batch_first",))
        python = {"batch_first": boolean("batch_first", batch_first)}
        config = Config(_core.checked_modules(modules), real_dtype(dtype).name, python)
        members = members_of_file(content) or 1
        files.check_tensors(config, members, content.tensors)
        network = cls._unset(config, members)
        network.load_state_dict(content.tensors)
        return network


def _refusal(layer: Any) -> str:
    """Say why something is no layer, and what to do instead."""
    *others, last = (layer.__name__ for layer in _LAYERS.values())
    expected = f"expected {', '.join(others)} or {last}"
    if isinstance(layer, type) and issubclass(layer, tuple(_LAYERS.values())):
        return f"{expected}, got the class {layer.__name__} itself; {layer.__name__}(...) makes a layer"
    if callable(layer) and not isinstance(layer, Module):
        return (
            f"{expected}, got {type(layer).__name__}: a network runs, trains and saves in the core, which can neither "
            "call a Python function nor differentiate it; Activation, Linear and LSTM have the activations, what comes "
            "before or after the network is yours to apply to x or to its output, and Tape.backward takes the gradient "
            "with respect to that output"
        )
    return f"{expected}, got {type(layer).__name__}"


def _any_reverse(layers: tuple[Module, ...]) -> bool:
    return any(isinstance(layer, Reverse) for layer in layers)


def _carries(layer: Module) -> bool:
    """Say whether a layer is an Impute that has a state."""
    return isinstance(layer, Impute) and layer.method == "forward"


def _check_layers(layers: tuple[Module, ...], members: int | None) -> None:
    for index, layer in enumerate(layers):
        if not isinstance(layer, tuple(_LAYERS.values())):
            raise TypeError(f"layers[{index}]: {_refusal(layer)}")
        if layer._in_network or any(layer is other for other in layers[:index]):
            raise ValueError(
                f"layers[{index}]: expected a layer that belongs to no network, got one that does; "
                "copy.deepcopy(layer) makes one with the same weights"
            )
        if layer._members != members and layer._members is not None:
            raise ValueError(
                f"layers[{index}]: expected a layer of one member or of {members or 1}, got one of {layer._members}"
            )
        if layer._members != members and not layer._is_as_built():
            raise ValueError(
                f"layers[{index}]: expected a layer as it was built, whose members can start with seeds of their own, "
                "got one with other weights; Network.stack joins networks that have theirs"
            )
