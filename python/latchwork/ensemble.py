"""Many LSTMs of one shape, run and trained in one call."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._arrays import integer
from latchwork.lstm import LSTM, StackedLSTM, checked_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork._cell_options import GateActivations
    from latchwork._core import Network32


class EnsembleLSTM(StackedLSTM):
    """M LSTMs of one shape with weights of their own, run and trained in one call.

    It behaves as an `LSTM` whose arrays have an axis M of members before all others, and gives bit for bit what M calls
    of the members would; small layers gain the most time (``tests/benchmarks/ensemble.py`` measures it).

    Parameters
    ----------
    members : int
        How many LSTMs (M), at least 1.
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, reverse, dtype
        Of each member, as for `LSTM`; so are all options from ``forget_gate`` on.
    seed : int, optional
        Member m starts as ``LSTM(..., seed=seed + m)`` does. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range or makes no sense with the others, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Shapes:

    ========================  ====================================================================
    input, shared             (T, N, input_size), unbatched (T, input_size)
    input, separate           (M, T, N, input_size)
    start state, shared       (L * D, N, H_out) and (L * D, N, H)
    start state, separate     (M, L * D, N, H_out) and (M, L * D, N, H)
    output and its gradient   (M, T, N, D * H_out)
    end state, gradients      (M, ...)
    parameters                (M, ...)
    ``lengths``, ``reset``    as for `LSTM`, the same for all members
    ========================  ====================================================================

    ``batch_first`` swaps T and N and leaves M first. Unbatched input is always shared: three axes mean a shared batch,
    so separate sequences without a batch need one of a single row, (M, T, 1, input_size). The gradient by an input or
    a start state that was shared is that of each member: the sum over the first axis is that by what was passed.

    In a recording with ``training=True`` member m has the masks of ``mask_seed + m``, as in a `Trainer` those of
    ``seed + m`` (modulo 2**64).

    Examples
    --------
    >>> ensemble = EnsembleLSTM(100, 8, 16, seed=0)
    >>> output, (h_n, c_n) = ensemble(np.ones((50, 4, 8)))
    >>> output.shape, h_n.shape
    ((100, 50, 4, 16), (100, 1, 4, 16))
    >>> ensemble[3]
    LSTM(8, 16)
    """

    _kind = "ensemble_lstm"

    @property
    def members(self) -> int:
        """How many LSTMs there are."""
        return self._count

    def __init__(
        self,
        members: int,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        reverse: bool = False,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        forget_gate: bool | str = True,
        peephole: bool = False,
        layer_norm: bool = False,
        activations: GateActivations | Sequence[GateActivations] | None = None,
        clip: float | None = None,
        cell_clip: float | None = None,
        zoneout: tuple[float, float] = (0.0, 0.0),
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: str = "hidden",
        weight_dropout: float = 0.0,
        residual: bool = False,
        learn_start_state: bool = False,
        forget_bias: float | None = None,
        init: str = "torch",
        t_max: int | None = None,
    ) -> None:
        self._count = integer("members", members, 1)
        self._config = checked_stack(
            input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias, batch_first=batch_first,
            dropout=dropout, bidirectional=bidirectional, proj_size=proj_size, reverse=reverse, dtype=dtype,
            forget_gate=forget_gate, peephole=peephole, layer_norm=layer_norm, activations=activations,
            clip=clip, cell_clip=cell_clip, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on=recurrent_dropout_on, weight_dropout=weight_dropout, residual=residual,
            learn_start_state=learn_start_state, forget_bias=forget_bias, init=init, t_max=t_max,
        )  # fmt: skip
        self._warn_of_idle_dropout()
        self._create(seed)

    @classmethod
    def from_members(cls, members: Sequence[LSTM]) -> Self:
        """Make an ensemble of the weights that LSTMs have at this moment.

        Parameters
        ----------
        members : sequence of LSTM
            At least one, all of equal options.

        Returns
        -------
        EnsembleLSTM
            Independent of them.

        Raises
        ------
        ValueError
            If there is none, or if options differ.
        TypeError
            If an item is no LSTM.
        """
        lstms = list(members)
        for index, lstm in enumerate(lstms):
            if not isinstance(lstm, LSTM):
                raise TypeError(f"members[{index}]: expected LSTM, got {type(lstm).__name__}")
            if lstm._config != lstms[0]._config:
                raise ValueError(f"members[{index}]: expected the options of members[0], {lstms[0]!r}, got {lstm!r}")
        if not lstms:
            raise ValueError("members: expected at least one LSTM, got none")
        ensemble = cls._unbuilt(lstms[0]._config)
        ensemble._count = len(lstms)
        ensemble._create_unset()
        values = [lstm.state_dict() for lstm in lstms]
        ensemble._write({name: np.stack([value[name] for value in values]) for name in ensemble._layout})
        return ensemble

    def __len__(self) -> int:
        """Return the number of members."""
        return self.members

    def __getitem__(self, index: int) -> LSTM:
        """Return an independent LSTM with the weights that a member has at this moment."""
        position = operator.index(index)
        if not -self.members <= position < self.members:
            raise IndexError(f"index: expected {-self.members} to {self.members - 1}, got {position}")
        return self._member(position, self._read())

    def __iter__(self) -> Iterator[LSTM]:
        """Iterate over independent LSTMs, as of one moment."""
        flat = self._read()
        return (self._member(index, flat) for index in range(self.members))

    def _member(self, index: int, flat: Array) -> LSTM:
        lstm = LSTM._unbuilt(self._config)
        lstm._create_unset()
        lstm._write({name: place.view(flat)[index] for name, place in self._layout.items()})
        return lstm

    def _new_core(self, modules: Sequence[Mapping[str, Any]], seed: int) -> Network32:
        self._members = self.members
        core_class = _core.Ensemble64 if self.dtype == np.float64 else _core.Ensemble32
        return core_class(self.members, modules[0], seed)

    def _write(self, values: Mapping[str, Array]) -> None:
        self._core.write({name: np.ascontiguousarray(value) for name, value in values.items()})
