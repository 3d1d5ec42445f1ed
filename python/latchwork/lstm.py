"""LSTM layers over time."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from latchwork._arrays import boolean
from latchwork._cell_options import CellOptions, checked_lstm
from latchwork._module import Config, Option
from latchwork._sequence import SequenceModule, StateSize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork._cell_options import GateActivations

StatePair = tuple["Array", "Array"]


def checked_stack(*, batch_first: Any, bidirectional: Any, reverse: Any, dtype: Any, **options: Any) -> Config:
    """Check the options of a stack of layers. ValueError or TypeError."""
    both, backwards = boolean("bidirectional", bidirectional), boolean("reverse", reverse)
    if both and backwards:
        raise ValueError("reverse: expected False with bidirectional=True, which has both directions, got True")
    direction = "both" if both else "reverse" if backwards else "forward"
    python = {"batch_first": boolean("batch_first", batch_first)}
    return checked_lstm(dtype, python, direction=direction, **options)


class LSTM(CellOptions, SequenceModule[StatePair]):
    """A stack of long short-term memory layers, in one direction or both, with PyTorch's names and shapes.

    ``output, (h_n, c_n) = lstm(x, (h_0, c_0))``; see `__call__` for the shapes. In each step::

        i = sigmoid(W_i x + R_i h_prev + b_i)    input gate
        f = sigmoid(W_f x + R_f h_prev + b_f)    forget gate
        g = tanh   (W_g x + R_g h_prev + b_g)    candidate
        o = sigmoid(W_o x + R_o h_prev + b_o)    output gate
        c = f * c_prev + i * g
        h = o * tanh(c)

    The options from ``forget_gate`` on, alone or combined, turn it into the other cells of the literature.

    Parameters
    ----------
    input_size : int
        Features of the input, at least 1.
    hidden_size : int
        Units of each layer and direction (H), at least 1.
    num_layers : int, default 1
        How many layers there are; each but the first reads the output of the one below.
    bias : bool, default True
        Whether there are ``bias_ih`` and ``bias_hh``.
    batch_first : bool, default False
        Whether input and output are (N, T, features) rather than (T, N, features). States keep their shape.
    dropout : float, default 0.0
        From 0 to 1: the share of the output of every layer but the last that is dropped, in training only.
    bidirectional : bool, default False
        A second direction runs from the end to the start; ``merge`` says how the outputs of both join.
    proj_size : int, default 0
        Above 0, and below ``hidden_size``: h is projected to this many features (P). 0: no projection. Sak, Senior and
        Beaufays, "Long short-term memory recurrent neural network architectures for large scale acoustic modeling",
        Interspeech 2014.
    reverse : bool, default False
        The only direction runs from the end to the start. Not together with ``bidirectional``.
    merge : {"concat", "sum", "mul", "ave"}, default "concat"
        With ``bidirectional``: how the outputs of both directions join, in each layer. "concat": side by side. "sum",
        "mul", "ave": their sum, product or mean, unit by unit, as in Keras. A `Last` after the layer joins the final
        outputs of both.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial parameters, see ``init``. None: a fresh one.
    forget_gate : True, False or "coupled", default True
        False: f = 1, nothing is forgotten. Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9
        (1997). "coupled": f = 1 - i, what is added replaces what is forgotten. Greff, Srivastava, Koutnik, Steunebrink
        and Schmidhuber, "LSTM: a search space odyssey", IEEE Transactions on Neural Networks and Learning Systems 28
        (2017).
    peephole : bool, default False
        The gates of each unit see its cell: i and f the old value c_prev, o the new value c. Gers and Schmidhuber,
        "Recurrent nets that time and count", IJCNN 2000.
    layer_norm : bool, default False
        W x and R h_prev are each normalised over all gates before they are added, and so is the cell before its
        activation. Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016).
    activations : mapping, or pair of mappings, optional
        What replaces the sigmoid of the gates "input", "forget" and "output", and the tanh of "candidate" and of "cell"
        (c on its way to h): a mapping from any of these to a name or (name, alpha) or (name, alpha, beta). A pair: one
        mapping for each direction. Names and defaults of alpha and beta are those of ONNX's LSTM, and then PyTorch's:

        ==========================  ====================================================
        ``"sigmoid"``, ``"tanh"``   1 / (1 + exp(-x)); tanh(x)
        ``"relu"``                  max(x, 0)
        ``"hard_sigmoid"``          alpha x + beta, cut off at 0 and 1; 0.2 and 0.5 (Keras 3: 1/6 and 0.5)
        ``"affine"``                alpha x + beta; 1 and 0
        ``"leaky_relu"``            x, below 0 alpha x; 0.01, at least 0
        ``"thresholded_relu"``      x, below alpha 0; 1, at least 0
        ``"scaled_tanh"``           alpha tanh(beta x); 1 and 1, alpha not 0
        ``"elu"``                   x, below 0 alpha (exp(x) - 1); 1, at least 0
        ``"softsign"``              x / (1 + abs(x))
        ``"softplus"``              log(1 + exp(x))
        ``"selu"``                  1.0507 x, below 0 1.7581 (exp(x) - 1), with more digits
        ``"silu"``                  x / (1 + exp(-x))
        ``"gelu"``                  x (1 + erf(x / sqrt(2))) / 2
        ``"gelu_tanh"``             x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
        ``"exponential"``           exp(x)
        ==========================  ====================================================
    clip : float, optional
        Above 0: the pre-activations of gates and candidate are cut off at +-clip, as by ONNX's ``clip``. None: they are
        not.
    cell_clip : float, optional
        Above 0: c is cut off at +-cell_clip, as by TensorFlow's ``cell_clip`` and in Sak, Senior and Beaufays (2014).
        None: it is not.
    zoneout : (float, float), default (0.0, 0.0)
        (p_hidden, p_cell), from 0 to 1: in training each unit of h and of c keeps its old value with this probability;
        outside training, old and new value are mixed in these shares. Krueger et al., "Zoneout: regularizing RNNs by
        randomly preserving hidden activations", ICLR 2017.
    recurrent_dropout : float, default 0.0
        From 0 to 1: the share that is dropped within the recurrence, in training only.
    recurrent_dropout_on : {"hidden", "candidate"}, default "hidden"
        What ``recurrent_dropout`` drops. "hidden": units of h_prev before R, the same ones at all steps. Gal and
        Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NIPS 2016.
        "candidate": units of g, different ones at each step, so that no memory is lost. Semeniuta, Severyn and Barth,
        "Recurrent dropout without memory loss", COLING 2016.
    weight_dropout : float, default 0.0
        From 0 to 1: the share of the elements of R that is dropped, the same ones for all steps and rows, in training
        only. Merity, Keskar and Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.
    residual : bool, default False
        Each layer but the first adds its input, before dropout, to its output. Needs at least two layers. Wu et al.,
        "Google's neural machine translation system", arXiv:1609.08144 (2016).
    learn_start_state : bool, default False
        The state before the first step, and after a ``reset``, is a parameter rather than zero: h_0 and c_0, the same
        for all sequences, initially zero. A state that is passed in takes precedence before the first step. Forcada and
        Carrasco, "Learning the initial state of a second-order recurrent neural network", Neural Computation 7 (1995).
    forget_bias : float, optional
        Initial bias of the forget gate, whatever ``init`` says; 1 is usual. Needs ``bias`` and a forget gate of its
        own. Gers, Schmidhuber and Cummins (2000); Jozefowicz, Zaremba and Sutskever, "An empirical exploration of
        recurrent network architectures", ICML 2015. None: as ``init`` has it.
    init : {"torch", "keras", "orthogonal", "chrono"}, default "torch"
        Initial parameters. Whatever it is, norms start as the identity and learned start states as zeros.

        - "torch": all uniform in +-1/sqrt(hidden_size).
        - "keras": W Glorot uniform over all gates together, R orthogonal over all gates together, the forget gate's
          bias 1, all other biases and the peepholes 0.
        - "orthogonal": each gate's R orthogonal (Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear
          dynamics of learning in deep linear neural networks", ICLR 2014) and each gate's W Glorot uniform (Glorot and
          Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010), biases
          and peepholes 0.
        - "chrono": as "torch", but biases such that each unit forgets within 1 to ``t_max`` - 1 steps: the forget
          gate's is log(u), the input gate's -log(u), u uniform, all others 0. Tallec and Ollivier, "Can recurrent
          neural networks warp time?", ICLR 2018. Needs ``bias`` and a forget gate, which may be coupled.
    t_max : int, optional
        Only for ``init="chrono"``, which needs it: the longest dependency to be expected, in steps, at least 2.

    Raises
    ------
    ValueError
        If an option is out of range or makes no sense with the others, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Parameters of layer k: ``weight_ih_l{k}`` (4H, input_size), above the first layer (4H, H_layer);
    ``weight_hh_l{k}`` (4H, H_out); ``bias_ih_l{k}``, ``bias_hh_l{k}`` (4H,); ``weight_hr_l{k}`` (P, H). H_out is
    ``proj_size`` or else ``hidden_size``; H_layer, the features of the output, is directions * H_out, or H_out if the
    directions merge; gate order i, f, g, o; suffix ``_reverse``. This is the layout of
    ``torch.nn.LSTM``. Without a forget gate of its own (``forget_gate=False`` or ``"coupled"``) there are three gates:
    3H instead of 4H, in the order i, g, o.

    Then come those that options ask for: ``weight_peephole_l{k}`` (3H,) of i, f, o or (2H,) of i, o;
    ``norm_ih_weight_l{k}``, ``norm_ih_bias_l{k}``, ``norm_hh_weight_l{k}``, ``norm_hh_bias_l{k}`` (4H,) or (3H,),
    ``norm_cell_weight_l{k}``, ``norm_cell_bias_l{k}`` (H,); ``h_0_l{k}`` (H_out,), ``c_0_l{k}`` (H,).

    With all options, a step is, in this order::

        a = W x + R h_prev + b                      layer_norm: N(W x) + N(R h_prev) + b, with epsilon 1e-5
                                                    recurrent_dropout on h_prev, weight_dropout on R
        a_i += p_i * c_prev, a_f += p_f * c_prev    peephole
        i, f, g activated                           after clip
        c = f * c_prev + i * g                      recurrent_dropout on g; then cell_clip
        a_o += p_o * c                              peephole
        o activated                                 after clip
        h = o * tanh(c)                             layer_norm: o * tanh(N(c)); then the projection
        c, h mixed with c_prev, h_prev              zoneout

    The cell is that of Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with the
    forget gate of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000).

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(8, 32, seed=0)
    >>> output, (h_n, c_n) = lstm(np.ones((100, 4, 8)))
    >>> output.shape, h_n.shape
    ((100, 4, 32), (1, 4, 32))
    """

    _kind = "lstm"

    input_size = Option[int]()
    hidden_size = Option[int]()
    num_layers = Option[int]()
    bias = Option[bool]()
    batch_first = Option[bool](lambda config: config.python["batch_first"])
    dropout = Option[float]()
    bidirectional = Option[bool](lambda config: config.modules[0]["direction"] == "both")
    proj_size = Option[int]()
    merge = Option[str](lambda config: config.modules[0].get("merge", "concat"))
    reverse = Option[bool](lambda config: config.modules[0]["direction"] == "reverse")
    residual = Option[bool]()

    _python_options = ("batch_first",)

    def __init__(
        self,
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
        merge: str = "concat",
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
        self._config = checked_stack(
            input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias, batch_first=batch_first,
            dropout=dropout, bidirectional=bidirectional, proj_size=proj_size, reverse=reverse, merge=merge,
            dtype=dtype, forget_gate=forget_gate, peephole=peephole, layer_norm=layer_norm, activations=activations,
            clip=clip, cell_clip=cell_clip, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on=recurrent_dropout_on, weight_dropout=weight_dropout, residual=residual,
            learn_start_state=learn_start_state, forget_bias=forget_bias, init=init, t_max=t_max,
        )  # fmt: skip
        self._warn_of_idle_dropout()
        self._create(seed)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _build(self, modules: Sequence[Mapping[str, Any]], seed: int) -> None:
        super()._build(modules, seed)
        states = self.num_layers * self._directions
        suffixes = ["", "_reverse"] if self.bidirectional else ["_reverse"] if self.reverse else [""]
        self._lstm_states = (0,)
        self._state_sizes = (StateSize(states, self.proj_size or self.hidden_size, self.hidden_size),)
        self._trace_names = (tuple(f"l{layer}{suffix}" for layer in range(self.num_layers) for suffix in suffixes),)
        self._streamable = suffixes == [""]

    def _warn_of_idle_dropout(self) -> None:
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout acts on the output of every layer but the last, so dropout={self.dropout} does nothing with "
                "num_layers=1",
                stacklevel=3,
            )
