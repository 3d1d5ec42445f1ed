"""Writes a state dictionary of PyTorch's, and PyTorch's answers, to a file beside this: python make_interop_torch.py

Needs PyTorch and safetensors. test_interop_golden.py compares where PyTorch is not installed.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent


def main():
    torch.manual_seed(0)
    embedding, lstm = torch.nn.Embedding(11, 3), torch.nn.LSTM(3, 5, 2, bidirectional=True)
    projected, head = torch.nn.LSTM(10, 7, proj_size=4, bias=False), torch.nn.Linear(4, 3)
    cell = torch.nn.LSTMCell(3, 5)
    tokens = torch.randint(0, 11, (6, 2))
    with torch.no_grad():
        outputs, _ = lstm(embedding(tokens))
        expected = torch.tanh(head(projected(outputs)[0][-1]))
        h, c = cell(embedding(tokens[0]))
    layers = {"embedding": embedding, "lstm": lstm, "projected": projected, "head": head, "cell": cell}
    tensors = {
        f"{prefix}.{name}": tensor for prefix, layer in layers.items() for name, tensor in layer.state_dict().items()
    }
    answers = {"x.tokens": tokens, "y.lstm": outputs, "y.head": expected, "y.cell_h": h, "y.cell_c": c}
    save_file(tensors | answers, HERE / "interop_torch.safetensors", {"torch": torch.__version__})


if __name__ == "__main__":
    main()
