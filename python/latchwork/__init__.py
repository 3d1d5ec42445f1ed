"""Latchwork trains, runs and explains LSTMs on ordinary CPUs.

Layers: `LSTM`, `LSTMCell`, `Embedding`, `Linear`, `Activation`, `Last`, `Mean`, `Max`, `Dropout`, `Sort`, `Reverse`,
`InputSkip`, for inputs `Mask`, `Scale`, `Impute` and `EmbedColumns`, and `Network`, a chain of them, which may have
many members.
`Stream` runs step by step, `Trace` shows every gate, `Tape` gives gradients, `Trainer`, `optim` and `losses` train,
`load` reads what ``save`` wrote, `pad` makes one array of ragged sequences. `LSTMRegressor` and `LSTMClassifier` learn
from sequences, `LSTMLanguageModel` from text. `Callback` and `TensorBoard` watch a fit, `verify` repeats parts of it,
`DivergenceError` says where it went wrong. `explain` says what a model did and why, `plot` draws it. `from_torch`,
`from_keras`, `from_onnx`, `from_rtneural` and `from_nam` read models from elsewhere, `onnx_lstms` lists those in an
ONNX file, and `to_torch`, `to_onnx`, `to_rtneural` and `to_nam` write. `torch` has layers for
PyTorch's own programs. Shapes and names are PyTorch's throughout.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latchwork._lazy import lazy_names

if TYPE_CHECKING:
    from latchwork import explain as explain
    from latchwork import losses as losses
    from latchwork import optim as optim
    from latchwork import plot as plot
    from latchwork import torch as torch
    from latchwork.activation import Activation as Activation
    from latchwork.estimators.classifier import LSTMClassifier as LSTMClassifier
    from latchwork.estimators.language_model import LSTMLanguageModel as LSTMLanguageModel
    from latchwork.estimators.prediction_stream import PredictionStream as PredictionStream
    from latchwork.estimators.regressor import LSTMRegressor as LSTMRegressor
    from latchwork.estimators.runs.callbacks import Callback as Callback
    from latchwork.estimators.runs.callbacks import TensorBoard as TensorBoard
    from latchwork.estimators.runs.stopping import DivergenceError as DivergenceError
    from latchwork.estimators.runs.verification import verify as verify
    from latchwork.files import load as load
    from latchwork.input_layers import EmbedColumns as EmbedColumns
    from latchwork.input_layers import Impute as Impute
    from latchwork.input_layers import Scale as Scale
    from latchwork.interop.keras.reading import from_keras as from_keras
    from latchwork.interop.nam import from_nam as from_nam
    from latchwork.interop.nam import to_nam as to_nam
    from latchwork.interop.onnx.reading import from_onnx as from_onnx
    from latchwork.interop.onnx.reading import onnx_lstms as onnx_lstms
    from latchwork.interop.onnx.writing import to_onnx as to_onnx
    from latchwork.interop.pytorch.reading import from_torch as from_torch
    from latchwork.interop.pytorch.writing import to_torch as to_torch
    from latchwork.interop.rtneural.reading import from_rtneural as from_rtneural
    from latchwork.interop.rtneural.writing import to_rtneural as to_rtneural
    from latchwork.layers import Dropout as Dropout
    from latchwork.layers import Embedding as Embedding
    from latchwork.layers import Last as Last
    from latchwork.layers import Linear as Linear
    from latchwork.layers import Max as Max
    from latchwork.layers import Mean as Mean
    from latchwork.layers import Sort as Sort
    from latchwork.lstm import LSTM as LSTM
    from latchwork.lstm_cell import LSTMCell as LSTMCell
    from latchwork.machine import cpu_info as cpu_info
    from latchwork.machine import get_num_threads as get_num_threads
    from latchwork.machine import set_isa as set_isa
    from latchwork.machine import set_num_threads as set_num_threads
    from latchwork.machine import show_versions as show_versions
    from latchwork.network import Network as Network
    from latchwork.padding import pad as pad
    from latchwork.step_layers import InputSkip as InputSkip
    from latchwork.step_layers import Mask as Mask
    from latchwork.step_layers import Reverse as Reverse
    from latchwork.stream import Stream as Stream
    from latchwork.tape import Gradients as Gradients
    from latchwork.tape import Tape as Tape
    from latchwork.trace import Trace as Trace
    from latchwork.training import Trainer as Trainer

    __version__: str

# Each name is imported when it is first asked for, so that `import latchwork` takes next to no time. `torch` is not in
# `__all__`, because it needs PyTorch, and ``from latchwork import *`` does not.
_MODULE_OF = {
    "Activation": "activation",
    "Callback": "estimators.runs.callbacks",
    "DivergenceError": "estimators.runs.stopping",
    "Dropout": "layers",
    "EmbedColumns": "input_layers",
    "Embedding": "layers",
    "Gradients": "tape",
    "Impute": "input_layers",
    "InputSkip": "step_layers",
    "LSTM": "lstm",
    "LSTMCell": "lstm_cell",
    "LSTMClassifier": "estimators.classifier",
    "LSTMLanguageModel": "estimators.language_model",
    "LSTMRegressor": "estimators.regressor",
    "Last": "layers",
    "Linear": "layers",
    "Mask": "step_layers",
    "Max": "layers",
    "Mean": "layers",
    "Network": "network",
    "PredictionStream": "estimators.prediction_stream",
    "Reverse": "step_layers",
    "Scale": "input_layers",
    "Sort": "layers",
    "Stream": "stream",
    "Tape": "tape",
    "TensorBoard": "estimators.runs.callbacks",
    "Trace": "trace",
    "Trainer": "training",
    "cpu_info": "machine",
    "explain": "explain",
    "from_keras": "interop.keras.reading",
    "from_nam": "interop.nam",
    "from_onnx": "interop.onnx.reading",
    "from_rtneural": "interop.rtneural.reading",
    "from_torch": "interop.pytorch.reading",
    "get_num_threads": "machine",
    "load": "files",
    "losses": "losses",
    "onnx_lstms": "interop.onnx.reading",
    "optim": "optim",
    "pad": "padding",
    "plot": "plot",
    "set_isa": "machine",
    "set_num_threads": "machine",
    "show_versions": "machine",
    "to_nam": "interop.nam",
    "to_onnx": "interop.onnx.writing",
    "to_rtneural": "interop.rtneural.writing",
    "to_torch": "interop.pytorch.writing",
    "torch": "torch",
    "verify": "estimators.runs.verification",
}

__all__ = [
    "Activation",
    "Callback",
    "DivergenceError",
    "Dropout",
    "EmbedColumns",
    "Embedding",
    "Gradients",
    "Impute",
    "InputSkip",
    "LSTM",
    "LSTMCell",
    "LSTMClassifier",
    "LSTMLanguageModel",
    "LSTMRegressor",
    "Last",
    "Linear",
    "Mask",
    "Max",
    "Mean",
    "Network",
    "PredictionStream",
    "Reverse",
    "Scale",
    "Sort",
    "Stream",
    "Tape",
    "TensorBoard",
    "Trace",
    "Trainer",
    "__version__",
    "cpu_info",
    "explain",
    "from_keras",
    "from_nam",
    "from_onnx",
    "from_rtneural",
    "from_torch",
    "get_num_threads",
    "load",
    "losses",
    "onnx_lstms",
    "optim",
    "pad",
    "plot",
    "set_isa",
    "set_num_threads",
    "show_versions",
    "to_nam",
    "to_onnx",
    "to_rtneural",
    "to_torch",
    "verify",
]


_lazy_name = lazy_names(__name__, _MODULE_OF)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _lazy_name(name)
    version = globals()[name] = importlib.import_module("latchwork._core").build_info()["version"]
    return version


def __dir__() -> list[str]:
    return sorted(__all__)
