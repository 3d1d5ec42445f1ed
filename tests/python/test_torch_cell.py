"""The drop-in's LSTMCell beside torch.nn.LSTMCell: single steps, and a loop over time."""

import itertools
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch_programs import gradients, same  # noqa: E402

DTYPES = (torch.float32, torch.float64)
SIZES = ((1, 1), (3, 7), (17, 31), (100, 33))


def step(layers, dtype, sizes, rows, bias, start):
    inputs, hidden = sizes
    cell = layers.LSTMCell(inputs, hidden, bias, dtype=dtype)
    batch = () if rows is None else (rows,)
    leaves = [torch.randn(*batch, inputs, dtype=dtype, requires_grad=True)]
    leaves += [torch.randn(*batch, hidden, dtype=dtype, requires_grad=start == "both") for _ in range(2)]
    if start == "c_0 alone":
        leaves[2].requires_grad_()
    h, c = cell(leaves[0]) if start is None else cell(leaves[0], (leaves[1], leaves[2]))
    ((h * torch.randn_like(h)).sum() + (c * torch.randn_like(c)).sum()).backward()
    return {"h": h, "c": c, "gradients": gradients(cell, *leaves), "parameters": list(cell.state_dict())}


@pytest.mark.parametrize("start", [None, "neither", "both", "c_0 alone"])
@pytest.mark.parametrize("rows", [None, 0, 1, 5])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_step(dtype, sizes, rows, start):
    for bias in (True, False):
        same(step, dtype, sizes, rows, bias, start)


def only_one(layers, which):
    cell = layers.LSTMCell(3, 4)
    x = torch.randn(2, 3, requires_grad=True)
    cell(x)[which].sum().backward()
    return gradients(cell, x)


@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_of_one_result_alone(which):
    same(only_one, which)


def loop(layers, dtype, steps, masked):
    """A decoder: two cells on top of each other, whose output is their next input, and episodes that end."""
    lower, upper = layers.LSTMCell(5, 7, dtype=dtype), layers.LSTMCell(7, 5, dtype=dtype)
    x = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    first = [torch.randn(4, size, dtype=dtype, requires_grad=True) for size in (7, 7, 5, 5)]
    below, above = (first[0], first[1]), (first[2], first[3])
    y, loss = x, 0
    for t in range(steps):
        if masked:
            keep = torch.tensor([[1.0], [0.0 if t == 2 else 1.0], [1.0], [0.0]], dtype=dtype)
            below, above = tuple(s * keep for s in below), tuple(s * keep for s in above)
        below = lower(y, below)
        above = upper(below[0], above)
        y = above[0]
        loss = loss + (y**2).sum() + above[1].sum() / (t + 1)
    loss.backward()
    return {"loss": loss, "lower": gradients(lower), "upper": gradients(upper, x, *first)}


@pytest.mark.parametrize(("dtype", "masked"), list(itertools.product(DTYPES, (False, True))), ids=str)
def test_a_loop_over_time(dtype, masked):
    same(loop, dtype, 12, masked)


def trained_in_a_loop(layers):
    """Weights that change between loops, so that whatever a cell keeps of them must be noticed to be old."""
    cell = layers.LSTMCell(3, 6, dtype=torch.float64)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        state = (torch.zeros(2, 6, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.float64))
        loss = 0
        for _ in range(4):
            state = cell(torch.randn(2, 3, dtype=torch.float64), state)
            loss = loss + (state[0] - 0.3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"losses": losses, "parameters": dict(cell.named_parameters())}


def test_weights_that_change_between_loops():
    same(trained_in_a_loop)


def written_within_a_loop(layers):
    """A write between two steps of one loop, as an evolution strategy does without gradients."""
    cell = layers.LSTMCell(3, 6)
    x, state, seen = torch.randn(2, 3), None, []
    with torch.no_grad():
        for t in range(6):
            state = cell(x, state)
            seen.append(state[0])
            if t % 2:
                cell.weight_hh.data[t, 0] += 1.0
            else:
                cell.bias_ih.numpy()[t] -= 1.0
    return seen


def test_a_write_between_two_steps():
    same(written_within_a_loop)


def options(layers):
    cell = layers.LSTMCell(3, 4, bias=False)
    return {
        "repr": repr(cell),
        "names": [name for name, _ in cell.named_parameters()],
        "biases": (cell.bias_ih, cell.bias_hh),
        "sizes": (cell.input_size, cell.hidden_size, cell.bias),
    }


def test_attributes():
    same(options)
