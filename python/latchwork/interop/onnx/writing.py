"""Models as ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import boolean, integer
from latchwork._writing import path_text, write_atomically
from latchwork.interop.chain import layers_of
from latchwork.interop.onnx.layer_nodes import WRITERS
from latchwork.interop.onnx.loading import onnx_package
from latchwork.layers import Dropout, Embedding, Last, Max, Mean
from latchwork.lstm import LSTM
from latchwork.step_layers import Reverse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork._module import Module
    from latchwork._writing import FilePath

_FIRST_OPSET, _USUAL_OPSET = 13, 17
_LARGEST = (1 << 31) - 1  # bytes of a message


def to_onnx(
    model: Any,
    file: FilePath,
    *,
    stateful: bool = False,
    lengths: bool = False,
    opset: int = _USUAL_OPSET,
) -> None:
    """Write a model as an ONNX file, which ONNX Runtime runs with the same numbers.

    The input is ``x``, the output is ``output``, in the model's own axes; batch and steps are open. The weights in the
    file are the model's to the bit, so that `latchwork.from_onnx` gives them back.

    Parameters
    ----------
    model : LSTM, Network, another layer, or a fitted estimator
        What is written: of an estimator its network, with the scaling of inputs and outputs.
    file : str, bytes or os.PathLike
        Where to write; the write is atomic.
    stateful : bool, default False
        Whether the state is an input and an output: ``h_0`` and ``c_0``, ``h_n`` and ``c_n``, each (layers times
        directions, N, H), as a call has them. In a network with several pairs the second has the names ``h_0_1`` and so
        on. An `Impute` that carries values forward has a pair as well: ``value_0`` and ``age_0``, (N, features). False:
        each run starts from the model's own start state.
    lengths : bool, default False
        Whether there is an input ``lengths`` (N,), int32, for ragged batches: outputs in padding are zero.
    opset : int, default 17
        The version of ONNX's operators, at least 13.

    Raises
    ------
    ValueError
        If ONNX cannot express the model: an LSTM with layer norm, projection, ``cell_clip``, zoneout or without a
        forget gate, say. The message says which layer and why. If there are several members, or the file would be too
        large.
    TypeError
        If the model is none of these.
    ImportError
        If the package onnx is not installed.
    OSError
        If the file cannot be written.

    Notes
    -----
    ONNX Runtime 1.32 has no LSTM in float64; such files are valid all the same.
    """
    path = path_text(file)
    onnx = onnx_package()
    stateful, with_lengths = boolean("stateful", stateful), boolean("lengths", lengths)
    opset = integer("opset", opset, _FIRST_OPSET)
    if opset > onnx.defs.onnx_opset_version():
        raise ValueError(f"opset: expected at most {onnx.defs.onnx_opset_version()}, as onnx has, got {opset}")
    layers = layers_of(model)
    size = sum(array.nbytes for layer in layers for array in layer.state_dict().values())
    if size > _LARGEST // 2:
        raise ValueError(
            f"model: expected at most {_LARGEST // 2} bytes of weights, which an ONNX file holds, got {size}"
        )
    graph = Graph(onnx, layers, _batch_first(model), stateful, with_lengths, opset)
    message = graph.message()
    try:
        onnx.checker.check_model(message, full_check=True)
    except Exception as error:  # the checker's own kinds, which depend on the version
        raise ValueError(f"model: expected one that onnx accepts, got: {error}") from error
    write_atomically(path, message.SerializeToString())


def _batch_first(model: Any) -> bool:
    # Estimators take (N, T, features), whatever their networks do.
    return hasattr(model, "network_") or bool(getattr(model, "batch_first", False))


class Graph:
    """A graph that grows layer by layer.

    Attributes
    ----------
    dtype : numpy.dtype
        That of all numbers.
    opset : int
        The version of ONNX's operators.
    stateful : bool
        Whether states are inputs and outputs.
    lengths : str
        The name of the lengths, int32; empty if there are none.
    sequence : bool
        Whether the data still has steps: (T, N, features), else (N, features).
    features : int
        How many features the data has.
    last : str
        The end state h of the LSTM whose output the data is; empty if it is something else.
    x : str
        The input, with the steps first.
    input_features : int
        How many features the input has.
    zero_in_padding : bool
        Whether the data is zero after the end of each sequence.
    directions : tuple of str
        The suffixes of the names of the last LSTM's directions.
    pairs : int
        How many LSTMs there are so far.
    """

    def __init__(
        self, onnx: Any, layers: Sequence[Module], batch_first: bool, stateful: bool, lengths: bool, opset: int
    ) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._names = 0
        self._mask = ""
        self.opset = opset
        self.stateful = stateful
        self.dtype = _dtype(layers)
        self.pairs = 0
        self.sequence = any(isinstance(layer, (LSTM, Last, Mean, Max, Reverse)) for layer in layers)
        self.lengths = ""
        self.x = ""
        self.input_features = 0
        self.last = ""
        self.zero_in_padding = False
        self.directions: tuple[str, ...] = ("",)
        if lengths and not self.sequence:
            raise ValueError("lengths: expected False for a model without steps, got True")
        self._write(layers, batch_first, lengths)

    def _write(self, layers: Sequence[Module], batch_first: bool, lengths: bool) -> None:
        tokens = isinstance(layers[0], Embedding)
        self.features = _features(layers)
        axes: list[Any] = (["N", "T"] if batch_first else ["T", "N"]) if self.sequence else ["N"]
        kind = np.dtype(np.int64) if tokens else self.dtype
        x = self.input("x", kind, axes if tokens else [*axes, self.features])
        if lengths:
            self.lengths = self.input("lengths", np.dtype(np.int32), ["N"])
        if self.sequence and batch_first:
            x = self.node("Transpose", [x], perm=[1, 0] if tokens else [1, 0, 2])
        self.x, self.input_features = x, self.features
        for place, layer in enumerate(layers):
            writer = WRITERS.get(layer._kind)
            if writer is None:
                raise ValueError(f"{_place(layers, place)}: ONNX has no counterpart of {type(layer).__name__}")
            try:
                x = writer(self, layer, x)
            except ValueError as error:
                raise ValueError(f"{_place(layers, place)}: {error}") from error
            if not isinstance(layer, (LSTM, Dropout)):
                self.last, self.zero_in_padding = "", False
        if self.lengths and self.sequence and not self.zero_in_padding:
            zero = self.constant(np.zeros((), self.dtype))
            x = self.node("Where", [self.mask(), x, zero])
        if self.sequence and batch_first:
            x = self.node("Transpose", [x], perm=[1, 0, 2])
        self.node("Identity", [x], outputs=["output"])
        axes = axes if self.sequence else ["N"]
        self._outputs.insert(0, self._info("output", self.dtype, [*axes, self.features]))

    def input(self, name: str, dtype: np.dtype[Any], shape: Sequence[Any]) -> str:
        """Add an input of the graph."""
        self._inputs.append(self._info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[Any]) -> None:
        """Give something as an output of the graph, beside the one called ``output``."""
        self.node("Identity", [value], outputs=[name])
        self._outputs.append(self._info(name, self.dtype, shape))

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str] | int = 1, name: str = "", **attributes: Any
    ) -> Any:
        """Add a node. Give the name of its output, or a list of names if there are several."""
        names = [self._new_name(op_type) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        name = name or self._new_name(op_type)
        self._nodes.append(self._onnx.helper.make_node(op_type, inputs, names, name=name, **attributes))
        return names[0] if len(names) == 1 else names

    def body(self, nodes: Sequence[tuple[Any, ...]], inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        """Make a graph within a node: its nodes as (op_type, inputs, outputs, attributes)."""
        helper = self._onnx.helper
        made = [helper.make_node(kind, given, names, **attributes) for kind, given, names, attributes in nodes]
        infos = [[self._info(name, self.dtype, shape) for name, shape in each.items()] for each in (inputs, outputs)]
        return helper.make_graph(made, self._new_name("body"), *infos)

    def constant(self, array: Array, name: str = "") -> str:
        """Add numbers; equal ones without a name of their own are kept once."""
        array = np.array(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 and not name else (name or object(),)
        if key not in self._constants:
            chosen = name or self._new_name("constant")
            self._constants[key] = chosen
            self._initializers.append(self._onnx.numpy_helper.from_array(array, chosen))
        return self._constants[key]

    def whole(self, *numbers: int) -> str:
        """Add whole numbers, as shapes and axes are given."""
        return self.constant(np.array(numbers, np.int64))

    def sizes(self, x: str, first: int, end: int) -> str:
        """Give the sizes of some axes."""
        return str(self.node("Slice", [self.node("Shape", [x]), self.whole(first), self.whole(end), self.whole(0)]))

    def mask(self) -> str:
        """Give (T, N, 1): which steps are within their sequence."""
        if not self._mask:
            raise ValueError("lengths: expected an LSTM before the layer that needs them")
        return self._mask

    def make_mask(self, x: str) -> None:
        """Find out which steps of (T, N, features) are within their sequence."""
        if not self.lengths or self._mask:
            return
        zero, one = (self.constant(np.array(number, np.int64)) for number in (0, 1))
        steps = self.node("Squeeze", [self.sizes(x, 0, 1)])
        numbers = self.node("Unsqueeze", [self.node("Range", [zero, steps, one]), self.whole(1)])
        lengths = self.node("Cast", [self.lengths], to=7)
        self._mask = self.node("Unsqueeze", [self.node("Less", [numbers, lengths]), self.whole(2)])

    def message(self) -> Any:
        """Give the model."""
        helper = self._onnx.helper
        made = helper.make_graph(self._nodes, "latchwork", self._inputs, self._outputs, self._initializers)
        opset = helper.make_opsetid("", self.opset)
        from latchwork import __version__

        ir_version = helper.find_min_ir_version_for([opset])
        return helper.make_model(
            made, opset_imports=[opset], producer_name="latchwork", producer_version=__version__, ir_version=ir_version
        )

    def _new_name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"

    def _info(self, name: str, dtype: np.dtype[Any], shape: Sequence[Any]) -> Any:
        helper = self._onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)


def _dtype(layers: Sequence[Module]) -> np.dtype[Any]:
    """Give the dtype of the layers that have one."""
    for layer in layers:
        if layer.state_dict():
            return layer.dtype
    return np.dtype(np.float32)


def _features(layers: Sequence[Module]) -> int:
    """Give the features of the input, which the first layer that knows them says."""
    for layer in layers:
        for name in ("input_size", "in_features", "features", "num_embeddings"):
            if hasattr(layer, name):
                return int(getattr(layer, name))
    raise ValueError("model: expected a layer that says how many features there are")


def _place(layers: Sequence[Module], place: int) -> str:
    return f"layer {place}" if len(layers) > 1 else "model"
