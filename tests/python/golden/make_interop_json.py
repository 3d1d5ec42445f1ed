"""Writes models as JSON and .nam, and PyTorch's answers, to a folder beside this: python make_interop_json.py

Needs PyTorch. Each file's answer to the numbers of ``x`` is in answers.json. test_interop_golden.py compares.
"""

import json
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent / "json"
STEPS = 12


def keras_layers(lstm, head):
    """Give both layers as RTNeural has them, in Keras's layout, with one bias."""
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    weights = [lstm.weight_ih_l0.T, lstm.weight_hh_l0.T, bias]
    return [
        {"type": "lstm", "activation": "tanh", "shape": [None, None, lstm.hidden_size], "weights": lists(weights)},
        {"type": "dense", "activation": "", "shape": [None, None, 1], "weights": lists([head.weight.T, head.bias])},
    ]


def lists(tensors):
    return [tensor.detach().tolist() for tensor in tensors]


def nam(lstm, head, start):
    """Give a model as Neural Amp Modeler has it, which starts from states of its own."""
    both = torch.cat([lstm.weight_ih_l0, lstm.weight_hh_l0], 1)
    parts = [both, lstm.bias_ih_l0 + lstm.bias_hh_l0, *start, head.weight, head.bias]
    config = {"input_size": 1, "hidden_size": lstm.hidden_size, "num_layers": 1}
    weights = torch.cat([part.detach().flatten() for part in parts]).tolist()
    return {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights, "sample_rate": 48000}


def main():
    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    files, answers = {}, {}
    for name, size, layers in (("rtneural", 1, 1), ("aidax", 1, 1), ("guitarml", 2, 2), ("bare", 1, 2), ("nam", 1, 1)):
        lstm = torch.nn.LSTM(size, 5, layers, dtype=torch.float64)
        head = torch.nn.Linear(5, 1, dtype=torch.float64)
        tensors = {f"rec.{key}": value.tolist() for key, value in lstm.state_dict().items()}
        tensors |= {f"lin.{key}": value.tolist() for key, value in head.state_dict().items()}
        x = torch.rand(STEPS, size, dtype=torch.float64) * 2 - 1
        start = (
            torch.rand(2, 1, 5, dtype=torch.float64)
            if name == "nam"
            else torch.zeros(2, layers, 5, dtype=torch.float64)
        )
        in_gain, out_gain = (10 ** (-3 / 20), 10 ** (4 / 20)) if name == "aidax" else (1.0, 1.0)
        skip = name in ("aidax", "guitarml")
        gained = in_gain * x
        y = out_gain * (head(lstm(gained, (start[0], start[1]))[0]) + skip * gained[:, :1])
        data = {
            "model": "SimpleRNN", "input_size": size, "skip": 1, "output_size": 1, "unit_type": "LSTM",
            "num_layers": layers, "hidden_size": 5, "bias_fl": True,
        }  # fmt: skip
        if name in ("rtneural", "aidax"):
            files[f"{name}.json"] = {"in_shape": [None, None, size], "layers": keras_layers(lstm, head)}
        if name == "aidax":
            files["aidax.json"] |= {"in_gain": -3.0, "out_gain": 4.0, "in_skip": 1, "samplerate": 48000}
        if name == "guitarml":
            files["guitarml.json"] = {"model_data": data, "state_dict": tensors}
        if name == "bare":
            files["bare.json"] = tensors
        if name == "nam":
            files["model.nam"] = nam(lstm, head, start)
        answers["model.nam" if name == "nam" else f"{name}.json"] = {"x": x.tolist(), "y": y.tolist()}
    for name, content in (files | {"answers.json": answers}).items():
        (HERE / name).write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
