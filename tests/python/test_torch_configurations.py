"""The drop-in beside torch.nn.LSTM on random configurations: outputs, every gradient, and the generator's state."""

import random
import warnings
from dataclasses import dataclass

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence  # noqa: E402
from torch_programs import gradients, same  # noqa: E402

SIZES = (1, 2, 7, 17, 31)
LARGE = 100
LAYOUTS = ("transposed", "strided", "expanded first", "expanded second", "offset")


@dataclass
class Configuration:
    """One random use of an LSTM."""

    options: dict
    steps: int
    rows: int | None  # None: unbatched
    lengths: list | None
    enforce_sorted: bool
    start: str  # "none", or the layout of the start states
    layout: str  # of the input
    wants: tuple  # which of input, start states and parameters need gradients
    frozen: float  # the part of the parameters that is frozen
    training: bool
    used: tuple  # which of output, h_n and c_n the loss looks at

    def __str__(self):
        return ", ".join(f"{name}={value}" for name, value in vars(self).items())


def configuration(number):
    draw = random.Random(number)
    hidden = draw.choice(SIZES if number % 20 else (LARGE,))
    layers = draw.choice((1, 1, 2, 3))
    options = {
        "input_size": draw.choice(SIZES if number % 25 else (LARGE,)),
        "hidden_size": hidden,
        "num_layers": layers,
        "bias": draw.random() < 0.8,
        "batch_first": draw.random() < 0.5,
        "dropout": draw.choice((0.0, 0.3, 1.0)) if layers > 1 else 0.0,
        "bidirectional": draw.random() < 0.4,
        "proj_size": draw.randint(1, hidden - 1) if hidden > 1 and draw.random() < 0.3 else 0,
        "dtype": draw.choice((torch.float32, torch.float64)),
    }
    steps = draw.choice((1, 2, 5, 13))
    rows = draw.choice((None, 0, 1, 2, 3, 7, 17, 33))
    lengths = None
    enforce_sorted = draw.random() < 0.5
    if rows and draw.random() < 0.4:
        lengths = [draw.randint(1, steps) for _ in range(rows)]
        if enforce_sorted:
            lengths.sort(reverse=True)
    return Configuration(
        options,
        steps,
        rows,
        lengths,
        enforce_sorted,
        draw.choice(("none", "contiguous", "contiguous", *LAYOUTS)),
        draw.choice(("contiguous", "contiguous", *LAYOUTS)),
        draw.choice((("x", "state"), ("x",), ("state",), ())),
        draw.choice((0.0, 0.0, 0.5, 1.0)),
        draw.random() < 0.8,
        draw.choice((("output", "h_n", "c_n"), ("output",), ("h_n",), ("c_n",))),
    )


def laid_out(shape, layout, dtype, needs_gradient):
    """A leaf, and a view of it that has a shape and lies in memory in a given way."""
    if layout == "transposed":
        leaf = torch.randn(*reversed(shape), dtype=dtype, requires_grad=needs_gradient)
        return leaf, leaf.permute(*reversed(range(len(shape))))
    if layout == "strided":
        leaf = torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype, requires_grad=needs_gradient)
        return leaf, leaf[..., ::2]
    if layout in ("expanded first", "expanded second"):
        axis = 0 if layout == "expanded first" else 1
        leaf = torch.randn(*shape[:axis], 1, *shape[axis + 1 :], dtype=dtype, requires_grad=needs_gradient)
        return leaf, leaf.expand(shape)
    if layout == "offset":
        leaf = torch.randn(shape[0] + 1, *shape[1:-1], shape[-1] + 3, dtype=dtype, requires_grad=needs_gradient)
        return leaf, leaf[1:, ..., 2:-1]
    leaf = torch.randn(*shape, dtype=dtype, requires_grad=needs_gradient)
    return leaf, leaf


def program(layers, c):
    lstm = layers.LSTM(**c.options).train(c.training)
    initial = {name: value.clone() for name, value in lstm.state_dict().items()}
    random_choice = random.Random(1)
    for parameter in lstm.parameters():
        parameter.requires_grad_(random_choice.random() >= c.frozen)
    dtype, inputs = c.options["dtype"], c.options["input_size"]
    leaves, x, state = operands(c, dtype, inputs)
    fed = x
    if c.lengths is not None:
        fed = pack_padded_sequence(x, torch.tensor(c.lengths), c.options["batch_first"], c.enforce_sorted)
    output, (h_n, c_n) = lstm(fed) if state is None else lstm(fed, state)
    results = {"output": output, "h_n": h_n, "c_n": c_n}
    padded = output
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output, c.options["batch_first"])
        results["lengths"] = lengths
    loss = sum(
        (value * torch.randn(value.shape, dtype=dtype)).sum()
        for name, value in (("output", padded), ("h_n", h_n), ("c_n", c_n))
        if name in c.used
    )
    if loss.requires_grad:
        loss.backward()
    return {
        "initial": initial,
        "results": results,
        "gradients": [zero_if_none(lstm), gradients(torch.nn.Module(), *leaves)],
    }


def zero_if_none(lstm):
    """The gradients of parameters that are not frozen: one that took no part in the loss may have none, or zeros."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in lstm.named_parameters()
        if parameter.requires_grad
    }


def operands(c, dtype, inputs):
    """The leaves of a configuration, and the input and the start states that are made of them."""
    shape = (c.steps, inputs) if c.rows is None else (c.steps, c.rows, inputs)
    if c.rows is not None and c.options["batch_first"]:
        shape = (c.rows, c.steps, inputs)
    leaf, x = laid_out(shape, c.layout, dtype, "x" in c.wants)
    if c.start == "none":
        return [leaf], x, None
    depth = c.options["num_layers"] * (1 + c.options["bidirectional"])
    rows = () if c.rows is None else (c.rows,)
    h, cell = (
        laid_out((depth, *rows, size), c.start, dtype, "state" in c.wants)
        for size in (c.options["proj_size"] or c.options["hidden_size"], c.options["hidden_size"])
    )
    return [leaf, h[0], cell[0]], x, (h[1], cell[1])


@pytest.mark.parametrize("number", range(200))
def test_a_random_configuration(number):
    same(program, configuration(number))
