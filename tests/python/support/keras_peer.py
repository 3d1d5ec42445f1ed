"""Keras's answers, from a process of its own: ``python keras_peer.py QUESTIONS ANSWERS``.

Keras chooses its backend when it is imported, for the whole process, and writes a configuration into its home.
Questions and answers are .npz files: a case's options are JSON under its name, its arrays bear names such as "case/x".
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

WEIGHTS = ("kernel", "recurrent", "bias")


def ask(cases, path):
    """Run this file over cases, a mapping from names to (options, arrays); their answers by name."""
    questions, answers = Path(path) / "questions.npz", Path(path) / "answers.npz"
    content = {name: np.array(json.dumps(options)) for name, (options, _) in cases.items()}
    content |= {f"{name}/{part}": value for name, (_, arrays) in cases.items() for part, value in arrays.items()}
    np.savez(questions, **content)
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(path), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(
        [sys.executable, __file__, questions, answers], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    with np.load(answers) as content:
        results = {name: {} for name in cases}
        for key in content:
            name, _, part = key.rpartition("/")
            results[name][part] = content[key]
    return results


def answer(options, arrays):
    """Output and end state of a keras.layers.LSTM, and gradients; time is the first axis."""
    import keras
    import torch

    layer = keras.layers.LSTM(arrays["recurrent"].shape[0], return_sequences=True, return_state=True, **options)
    dtype = getattr(torch, options["dtype"])
    x = torch.tensor(arrays["x"], dtype=dtype).swapaxes(0, 1).requires_grad_()
    layer.build(x.shape)
    layer.set_weights([arrays[name] for name in WEIGHTS if name in arrays])
    mask = torch.tensor(arrays["mask"]).T if "mask" in arrays else None
    start = [torch.tensor(arrays[name], dtype=dtype).requires_grad_() for name in ("h_0", "c_0")]
    output, *end = layer(x, initial_state=start, mask=mask)
    results = (output.swapaxes(0, 1), *end)
    weights = (torch.tensor(arrays[name], dtype=dtype) for name in ("d_output", "d_h_n", "d_c_n"))
    sum((part * weight).sum() for part, weight in zip(results, weights, strict=True)).backward()
    named = dict(zip(("output", "h_n", "c_n"), (part.detach() for part in results), strict=True))
    named |= {"x": x.grad.swapaxes(0, 1), "h_0": start[0].grad, "c_0": start[1].grad}
    named |= {f"d_{name}": weight.value.grad for name, weight in zip(WEIGHTS, layer.trainable_weights, strict=False)}
    return {name: value.numpy() for name, value in named.items()}


def initial_weights(options):
    """The weights of as many fresh layers as asked for, stacked."""
    import keras

    count, features = options.pop("count"), options.pop("features")
    stacks = []
    for seed in range(count):
        keras.utils.set_random_seed(seed)
        layer = keras.layers.LSTM(**options)
        layer.build((None, None, features))
        stacks.append(layer.get_weights())
    return dict(zip(WEIGHTS, (np.stack(part) for part in zip(*stacks, strict=True)), strict=True))


def main(questions, answers):
    results = {}
    with np.load(questions) as content:
        for name in content:
            if "/" in name:
                continue
            options = json.loads(str(content[name]))
            arrays = {key.removeprefix(f"{name}/"): content[key] for key in content if key.startswith(f"{name}/")}
            found = answer(options, arrays) if arrays else initial_weights(options)
            results |= {f"{name}/{part}": value for part, value in found.items()}
    np.savez(answers, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
