"""Writes ONNX files as PyTorch exports them, and what they give, to onnx/: python make_interop_onnx.py

Needs PyTorch, onnx, ONNX Runtime and safetensors.
"""

import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import numpy as np  # noqa: E402
import onnx_graphs  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from torch import nn  # noqa: E402

TARGET = HERE / "onnx"
STEPS, ROWS = 5, 3


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(10, 3)

    def forward(self, tokens):
        return self.linear(self.lstm(self.table(tokens))[0])


class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2)
        self.head = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.Sigmoid())

    def forward(self, x):
        return self.head(self.lstm(x)[0][-1])


class LearnedStart(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5)
        self.h_0, self.c_0 = nn.Parameter(torch.randn(1, 1, 5)), nn.Parameter(torch.randn(1, 1, 5))

    def forward(self, x):
        start = tuple(part.expand(1, x.shape[1], 5).contiguous() for part in (self.h_0, self.c_0))
        return self.lstm(x, start)[0]


class WithState(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2)

    def forward(self, x, h_0, c_0):
        output, (h_n, c_n) = self.lstm(x, (h_0, c_0))
        return output, h_n, c_n


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, bidirectional=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], total_length=STEPS)[0]


def cases():
    """Modules by name, with the inputs of an example and the axes that stay open."""
    x, state = torch.randn(STEPS, ROWS, 4), torch.randn(2, ROWS, 5)
    open_axes = {"x": {0: "T", 1: "N"}}
    return {
        "last": (LastStep(), {"x": x}, {}),
        "learned": (LearnedStart(), {"x": x}, open_axes),
        "packed": (Packed(), {"x": x, "lengths": torch.tensor([5, 4, 2])}, {}),
        "state": (WithState(), {"x": x, "h_0": state, "c_0": -state}, {}),
        "tagger": (Tagger(), {"tokens": torch.randint(0, 9, (ROWS, STEPS))}, {"tokens": {0: "N", 1: "T"}}),
    }


def of_torch():
    answers = {}
    for name, (module, inputs, axes) in cases().items():
        path = TARGET / f"{name}.onnx"
        torch.onnx.export(module.eval(), tuple(inputs.values()), str(path), dynamo=False, opset_version=17,
                          input_names=list(inputs), dynamic_axes=axes)  # fmt: skip
        outputs = module(*inputs.values())
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        answers |= {f"{name}.in.{key}": value.numpy() for key, value in inputs.items()}
        answers |= {f"{name}.out.{place}": value.detach().numpy() for place, value in enumerate(outputs)}
    return answers


def of_tensorflow():
    """One step as TensorFlow's BasicLSTMCell is written."""
    model = onnx_graphs.cell()
    content = model.SerializeToString()
    (TARGET / "cell.onnx").write_bytes(content)
    inputs = {"x": onnx_graphs.normal(1, 3, 4), "h": onnx_graphs.normal(2, 3, 5), "c": onnx_graphs.normal(3, 3, 5)}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(None, inputs)
    answers = {f"cell.in.{key}": value for key, value in inputs.items()}
    return answers | {f"cell.out.{place}": value for place, value in enumerate(outputs)}


def main():
    torch.manual_seed(0)
    TARGET.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = of_torch() | of_tensorflow()
    metadata = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in answers.items()},
        TARGET / "expected.safetensors",
        metadata,
    )


if __name__ == "__main__":
    main()
