"""The C++ core as the Python package sees it. Not public: the modules beside it are what users call.

Every class comes twice, for float32 (…32) and float64 (…64). Arrays must have the class's dtype, native byte order and
contiguous features (last axis); other axes may have any stride. ``TypeError`` and ``ValueError`` otherwise.
T steps, N rows (sequences), F features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, final

from numpy.typing import NDArray

_Array = NDArray[Any]
# (h, c) for each LSTM module, C-contiguous, (layers * directions, N, size), and (value, age) for each Impute that
# carries values forward, (1, N, features).
_States = Sequence[tuple[_Array, _Array]]

class _Bound(type): ...  # the type of every class that pybind11 makes

def available_isas() -> list[str]: ...
def current_isa() -> str: ...
def set_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def set_team_function(function: int) -> None: ...  # the address of GOMP_parallel; 0: none
def cpu() -> dict[str, Any]: ...  # maker, family, model, hypervisor, caches: l1d, l2, l3, each bytes and shared_by
def build_info() -> dict[str, str]: ...  # version, compiler, flags of each instruction set, eigen, pybind11

# The options of a module: {"kind": "lstm", "input_size", "hidden_size", "num_layers", "bias", "dropout",
# "direction": "forward" | "reverse" | "both", "merge": "concat" | "sum" | "mul" | "ave", "proj_size", "cell",
# "forget_gate": "own" | "none" | "coupled", "peephole", "layer_norm", "activations": a list of one dict for all
# directions or one for each, {"input" | "forget" | "candidate" | "output" | "cell": name or (name, alpha, beta)},
# "clip" and "cell_clip": None | float, "zoneout_hidden", "zoneout_cell", "recurrent_dropout",
# "recurrent_dropout_on": "hidden" | "candidate", "weight_dropout", "residual", "learn_start_state",
# "forget_bias": None | float, "init": "torch" | "keras" | "orthogonal" | "chrono", "t_max": None | int},
# {"kind": "embedding", "num_embeddings", "embedding_dim"}, {"kind": "last"}, {"kind": "mean"}, {"kind": "max"},
# {"kind": "linear", "in_features", "out_features", "bias", "activation": "identity" or as above, "init_scale"},
# {"kind": "dropout", "p"}, {"kind": "scale", "shift": [float], "factor": [float]},
# {"kind": "impute", "features", "method": "forward" | "constant", "fill": [float], "indicators": [int],
# "persistence": [float]},
# {"kind": "embed_columns", "features", "columns": [int], "num_embeddings": [int], "embedding_dim": [int]},
# {"kind": "sort", "group"}, {"kind": "activation", "activation": as a linear's}.
# A missing key takes its default; an unknown one is a ValueError.
_Options = Mapping[str, Any]

# These two return the options with all defaults filled in, such that JSON can hold them. For an invalid option they
# raise ValueError or TypeError and name it: "hidden_size: ...", or "modules[2].hidden_size: ..." in a longer chain.
def checked_module(module: _Options) -> dict[str, Any]: ...
def checked_modules(modules: Sequence[_Options]) -> list[dict[str, Any]]: ...  # a chain, which must fit together
def checked_optimizer(optimizer: _Options) -> dict[str, Any]: ...  # with every option of its kind

# module: "mean" or "max". x: (T, N, features), float32 or float64. Returns (N, features) of the same dtype.
def pooled(module: _Options, x: _Array, lengths: _Array | None) -> _Array: ...

# module: an activation. x: (rows, features), float32 or float64, contiguous. Returns an array like it.
def activated(module: _Options, x: _Array) -> _Array: ...
def parameter_count(modules: Sequence[_Options]) -> int: ...  # how many numbers the parameters of valid modules hold

# A network has one or more members. With several, M, arrays have an axis M before the others; what is passed in may
# lack it and is then the same for all.
class Network32(metaclass=_Bound):
    # Member m's initial values come from seed + m. names: "of_layer", such as "weight_ih_l0", or "of_chain", with the
    # module's number in front, such as "1.weight_ih_l0". ValueError for another.
    def __init__(self, modules: Sequence[_Options], names: str, seed: int, members: int) -> None: ...
    def module(self, index: int) -> Network32: ...  # shares the parameters
    # Name, shape and offset of each tensor, for one member.
    def layout(self) -> list[tuple[str, tuple[int, ...], int]]: ...
    def view(self) -> _Array: ...  # (parameters,), several members (M, parameters); read-only, keeps the buffer alive
    def read(self) -> _Array: ...  # a copy of one moment, even while others write
    def write(self, values: Mapping[str, _Array]) -> None: ...  # C-contiguous arrays; all of them or, on error, none
    @property
    def version(self) -> int: ...  # changes with every write
    # (key, count) of the network's own mask seeds. The networks of single modules share them.
    @property
    def mask_seeds(self) -> tuple[int, int]: ...
    @mask_seeds.setter
    def mask_seeds(self, value: tuple[int, int]) -> None: ...
    def next_mask_seed(self) -> int: ...
    @property
    def members(self) -> int: ...
    @property
    def parameters_begin(self) -> int: ...  # of one member, in those of the network that this is a module of
    @property
    def takes_tokens(self) -> bool: ...
    @property
    def keeps_sequence(self) -> bool: ...
    @property
    def takes_missing(self) -> bool: ...  # whether NaN in the input reaches an Impute, which replaces it
    @property
    def state_sizes(self) -> list[tuple[int, int, int]]: ...  # count, size of h, size of c; of each module with a state
    @property
    def input_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    # x: (T, N, F), or int64 (T, N) for tokens. lengths: int64 (N,). reset, skip: bool (T, N). zero_skipped: the output
    # of skipped steps is zero, rather than that of the step before.
    # start None: zeros, or h_0 and c_0 if they are learned; a reset goes back to these, whatever start was.
    # output: (T, N, output_size), after Last (1, N, output_size), of forward_last_step (1, N, output_size); written.
    # end: written.
    # checkpoint: steps between the states that record() keeps; 0: it keeps everything. mask_seed: member m has
    # mask_seed + m; None: the next of the network's own, if training. first_row: the number of the first row in a
    # larger batch, on which masks depend.
    def forward(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        output: _Array,
        end: _States | None,
        skip: _Array | None = None,
        zero_skipped: bool = False,
    ) -> None: ...
    def forward_last_step(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        output: _Array,
        end: _States | None,
        skip: _Array | None = None,
        zero_skipped: bool = False,
    ) -> None: ...
    def record(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        output: _Array,
        end: _States | None,
        training: bool,
        mask_seed: int | None,
        checkpoint: int,
        first_row: int,
        skip: _Array | None = None,
        zero_skipped: bool = False,
        gradient_blocks: int = 0,  # 0: each layer chooses
    ) -> Tape32: ...
    # On tensors of another library, given by their addresses (0: none), see cpp/bindings/register_tensors.cpp.
    # parameters: of each tensor of layout(). sizes: steps, rows. x, output, d_output, d_input: address, and the strides
    # of steps and rows in elements. masks: int64 lengths (N,), bool reset and skip (T, N). batch_sizes: int64 (T,) of a
    # packed sequence. start, end, d_end, d_start: h and c. threads: the most that the call may use.
    def run_tensors(
        self,
        parameters: Sequence[int],
        sizes: tuple[int, int],
        x: tuple[int, int, int],
        masks: tuple[int, int, int],
        batch_sizes: int,
        start: tuple[int, int],
        output: tuple[int, int, int],
        end: tuple[int, int],
        threads: int,
    ) -> None: ...
    # Gives one number, whose memory keeps the tape alive and whose address is the `place` that backward_tensors asks
    # for. mask_seed None: not as in training.
    def record_tensors(
        self,
        parameters: Sequence[int],
        sizes: tuple[int, int],
        x: tuple[int, int, int],
        masks: tuple[int, int, int],
        batch_sizes: int,
        start: tuple[int, int],
        output: tuple[int, int, int],
        end: tuple[int, int],
        threads: int,
        mask_seed: int | None,
        checkpoint: int,
    ) -> _Array: ...
    # False if there is no tape at this place any more; nothing is written then. An address of 0: not wanted.
    @staticmethod
    def backward_tensors(
        place: int,
        d_output: tuple[int, int, int],
        d_end: tuple[int, int],
        parameters: int,
        d_input: tuple[int, int, int],
        d_start: tuple[int, int],
        threads: int,
    ) -> bool: ...
    # batch None: step takes (F,) and returns (output_size,); else (batch, F). Tokens: () int or int64 (batch,).
    def stream(self, batch: int | None, zero_skipped: bool = False) -> Stream32: ...

class _Tape(metaclass=_Bound):
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # a network makes them
    # parameters: (M * parameters,), written, or added to if accumulate; None: not wanted. d_input: as x. d_start: as
    # start. d_signals: for each LSTM and each of its states the six arrays of signal(), in the order given there;
    # written.
    def backward(
        self,
        d_output: _Array | None,
        d_end: _States | None,
        parameters: _Array | None,
        accumulate: bool,
        d_input: _Array | None,
        d_start: _States | None,
        d_signals: Sequence[Sequence[Sequence[_Array]]] | None = None,
    ) -> None: ...
    @property
    def mask_seed(self) -> int | None: ...
    # signal: "input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden".
    # values: C-contiguous (T, N, size). ValueError if the recording has checkpoints.
    def signal(self, lstm: int, state: int, signal: str, values: _Array) -> None: ...

@final
class Tape32(_Tape): ...

@final
class Tape64(_Tape): ...

class _Stream(metaclass=_Bound):
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # a network makes them
    @property
    def batch_size(self) -> int | None: ...
    @property
    def input_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    # Strict: exact dtype and shape, C-contiguous, or TypeError/ValueError. With out (returned) nothing is allocated.
    # reset, skip: bool, or numbers 0 and 1 of any dtype, (batch,), or one of them if batch_size is None. RuntimeError
    # if another thread is inside step.
    def step(self, x: Any, out: _Array | None = None, reset: Any = None, skip: Any = None) -> _Array: ...
    def get_state(self) -> list[tuple[_Array, _Array]]: ...  # (layers * directions, N, size); N = 1 if batch is None
    def set_state(self, states: _States) -> None: ...
    def reset(self) -> None: ...
    def refresh(self) -> None: ...  # takes the network's weights of this moment

@final
class Stream32(_Stream): ...

@final
class Stream64(_Stream): ...

class Optimizer32(metaclass=_Bound):
    # {"kind": "sgd" | "adam" | "adamw" | "rmsprop", "lr", "momentum", "dampening", "nesterov", "beta1", "beta2",
    # "alpha", "centered", "eps", "weight_decay"}. targets: networks, or modules of them.
    def __init__(self, options: Mapping[str, Any], targets: Sequence[Network32]) -> None: ...
    @property
    def lr(self) -> float: ...
    @lr.setter
    def lr(self, value: float) -> None: ...
    @property
    def steps(self) -> list[int]: ...  # of each member
    # Updates the parameters in one write. For each target a pair: the gradients of all members of a network, 1-D, and
    # where in those of one member the target's begin. RuntimeError if a gradient or a result is not finite: nothing has
    # changed then.
    def step(self, gradients: Sequence[tuple[_Array, int]], check_finite: bool) -> None: ...
    def buffers(self) -> list[_Array]: ...  # 1-D: target after target, in a target member after member
    def restore(self, options: Mapping[str, Any], steps: Sequence[int], buffers: Sequence[_Array]) -> None: ...

class Trainer32(metaclass=_Bound):
    # loss: {"kind": "cross_entropy" | "squared_error" | "absolute_error" | "huber" | "quantile" | "gaussian" |
    # "student_t" | "negative_binomial", "quantiles": [...], "quantile_weights": [...], "delta", "label_smoothing",
    # "ignore_index"}; None: a loss that Python computes. clip_norm 0: no clipping.
    def __init__(
        self,
        network: Network32,
        loss: Mapping[str, Any] | None,
        optimizers: Sequence[Optimizer32],
        clip_norm: float,
        seed: int,
        gradient_blocks: int,  # 0: each layer chooses
    ) -> None: ...
    # target: (T, N, F) values, or int64 (T, N) labels (after Last: T = 1); or, without a loss, a function of the output
    # (M, T, N, features) that returns the losses, float64 (M,), and the gradient. weights: (T, N, 1) or (T, N, F). end
    # may be start. Returns the loss before the update, with several members float64 (M,).
    # RuntimeError if a loss or gradient is not finite: nothing has changed then.
    def step(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        target: Any,
        weights: _Array | None,
        end: _States | None,
        skip: _Array | None,
    ) -> Any: ...
    # step() is gradient() and apply(). ready(module, member, values) is called when a module's gradients are complete.
    def gradient(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        target: Any,
        weights: _Array | None,
        end: _States | None,
        skip: _Array | None,
        first_row: int,
        ready: Callable[[int, int, _Array], object] | None,
    ) -> Any: ...
    @property
    def gradients(self) -> _Array: ...  # (M * parameters,), writeable
    @property
    def gradient_norms(self) -> list[float]: ...  # of each member, before clipping; empty before the first apply()
    def apply(self) -> None: ...
    def evaluate(
        self,
        x: _Array,
        lengths: _Array | None,
        reset: _Array | None,
        start: _States | None,
        target: Any,
        weights: _Array | None,
        end: _States | None,
        skip: _Array | None,
    ) -> Any: ...
    @property
    def steps(self) -> list[int]: ...  # of each member
    @property
    def seed(self) -> int: ...
    @property
    def checkpoint(self) -> int: ...  # 0: a step keeps all that it computed
    @checkpoint.setter
    def checkpoint(self, value: int) -> None: ...
    def restore(self, seed: int, steps: Sequence[int]) -> None: ...

# Losses of an output (T, N, features) and the gradient; with several members, (M, T, N, features), losses (M,).
def loss_and_gradient(
    loss: Mapping[str, Any],
    output: _Array,
    target: _Array,
    weights: _Array | None,
    lengths: _Array | None,
    members: int,
) -> tuple[Any, _Array]: ...
def outputs_per_target(loss: Mapping[str, Any]) -> int: ...

# The norms of `pieces` pieces, each of which consists of one of the equal pieces of every array (1-D, contiguous,
# float32 or float64); returns float64 (pieces,).
def gradient_norms(gradients: Sequence[_Array], pieces: int) -> _Array: ...
def random_words(seed: int, first: int, count: int) -> _Array: ...  # uint32
def exp(values: _Array) -> _Array: ...  # of float64
def log(values: _Array) -> _Array: ...

# Of (rows, columns), C-contiguous, float32 or float64; NaN does not count. How many numbers each column has, the least
# and the largest (float64); the sums of value / unit or of (value / unit - mean)**2, of units that are powers of two.
def column_extents(values: _Array) -> tuple[_Array, _Array, _Array]: ...
def column_sums(values: _Array, units: _Array, means: _Array | None) -> _Array: ...
def all_finite(values: _Array) -> bool: ...  # C-contiguous, float32 or float64
def clip_scale(norm: _Array, clip_norm: float) -> _Array: ...  # of each norm

# Functions of one number that give the same bits on every CPU.
def cos(x: float) -> float: ...
def pow(base: float, exponent: float) -> float: ...

class Network64(Network32): ...
class Optimizer64(Optimizer32): ...
class Trainer64(Trainer32): ...
