"""The variants of the cell by PyTorch's operations and autograd. Imported only where PyTorch is installed."""

import numpy as np
import torch
from torch.nn import functional
from torch_peer import tensor

torch.set_num_threads(1)

# Functions of alpha and beta, by name. The tests stay below the threshold above which PyTorch's softplus is x.
ACTIVATIONS = {
    "sigmoid": lambda: torch.sigmoid,
    "tanh": lambda: torch.tanh,
    "relu": lambda: torch.relu,
    "hard_sigmoid": lambda alpha=0.2, beta=0.5: lambda x: torch.clamp(alpha * x + beta, 0, 1),
    "affine": lambda alpha=1.0, beta=0.0: lambda x: alpha * x + beta,
    "leaky_relu": lambda alpha=0.01: lambda x: functional.leaky_relu(x, alpha),
    "thresholded_relu": lambda alpha=1.0: lambda x: functional.threshold(x, alpha, 0.0),
    "scaled_tanh": lambda alpha=1.0, beta=1.0: lambda x: alpha * torch.tanh(beta * x),
    "elu": lambda alpha=1.0: lambda x: functional.elu(x, alpha),
    "softsign": lambda: functional.softsign,
    "softplus": lambda: lambda x: functional.softplus(x, threshold=700.0),
    "selu": lambda: functional.selu,
    "silu": lambda: functional.silu,
    "gelu": lambda: functional.gelu,
    "gelu_tanh": lambda: lambda x: functional.gelu(x, approximate="tanh"),
    "exponential": lambda: torch.exp,
}
DEFAULTS = {"input": "sigmoid", "forget": "sigmoid", "candidate": "tanh", "output": "sigmoid", "cell": "tanh"}


def activation(given):
    name, *numbers = (given,) if isinstance(given, str) else given
    return ACTIVATIONS[name](*numbers)


class Direction:
    """One layer in one direction of a latchwork.LSTM, outside training."""

    def __init__(self, lstm, parameters, layer, backward):
        self.lstm, self.backward = lstm, backward
        suffix = f"_l{layer}_reverse" if backward else f"_l{layer}"
        self.p = {name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith(suffix)}
        given = lstm.activations or {}
        if isinstance(given, tuple):
            given = given[backward]
        self.act = {gate: activation(given.get(gate, default)) for gate, default in DEFAULTS.items()}
        self.signals = []  # of each step in the order of computation: i, f, g, o, c, h as a trace shows them

    def start_state(self, rows):
        """What a state becomes at a reset, and the start state if none is passed."""
        sizes = self.lstm.proj_size or self.lstm.hidden_size, self.lstm.hidden_size
        if self.lstm.learn_start_state:
            return tuple(self.p[name].expand(rows, -1) for name in ("h_0", "c_0"))
        some = self.p["weight_ih"]
        return tuple(torch.zeros(rows, size, dtype=some.dtype) for size in sizes)

    def norm(self, name, value):
        if not self.lstm.layer_norm:
            return value
        return functional.layer_norm(
            value, value.shape[-1:], self.p[f"norm_{name}_weight"], self.p[f"norm_{name}_bias"], eps=1e-5
        )

    def clipped(self, value, bound):
        return value if bound is None else torch.clamp(value, -bound, bound)

    def step(self, x, h, c):
        lstm, p, act = self.lstm, self.p, self.act
        own_forget_gate = lstm.forget_gate is True
        a = self.norm("ih", x @ p["weight_ih"].T) + self.norm("hh", h @ p["weight_hh"].T)
        if lstm.bias:
            a = a + p["bias_ih"] + p["bias_hh"]
        gates = "ifgo" if own_forget_gate else "igo"
        a = dict(zip(gates, a.split(lstm.hidden_size, dim=-1), strict=True))
        if lstm.peephole:
            peephole = dict(zip(gates.replace("g", ""), p["weight_peephole"].split(lstm.hidden_size), strict=True))
            for gate in gates.replace("g", "").replace("o", ""):
                a[gate] = a[gate] + peephole[gate] * c
        i = act["input"](self.clipped(a["i"], lstm.clip))
        f = 1 - i if lstm.forget_gate == "coupled" else torch.ones_like(i).requires_grad_()
        if own_forget_gate:
            f = act["forget"](self.clipped(a["f"], lstm.clip))
        g = act["candidate"](self.clipped(a["g"], lstm.clip))
        new_c = self.clipped(f * c + i * g, lstm.cell_clip)
        if lstm.peephole:
            a["o"] = a["o"] + peephole["o"] * new_c
        o = act["output"](self.clipped(a["o"], lstm.clip))
        new_h = o * act["cell"](self.norm("cell", new_c))
        if lstm.proj_size:
            new_h = new_h @ p["weight_hr"].T
        p_hidden, p_cell = lstm.zoneout
        # Zoneout of a share of zero must not become another number, with a gradient of its own.
        shown_h = p_hidden * h + (1 - p_hidden) * new_h if p_hidden else new_h
        shown_c = p_cell * c + (1 - p_cell) * new_c if p_cell else new_c
        self.signals.append((i, f, g, o, shown_c, shown_h))
        for signal in self.signals[-1]:
            signal.retain_grad()
        return shown_h, shown_c

    def signal_gradients(self):
        """After backward(): the gradients with respect to i, f, g, o, c and h, each (T, N, size)."""
        steps = self.signals[::-1] if self.backward else self.signals
        d = [
            torch.stack([torch.zeros_like(one) if one.grad is None else one.grad for one in signal])
            for signal in zip(*steps, strict=True)
        ]
        if self.lstm.forget_gate == "coupled":  # i follows from f as f does from i, through which autograd went
            d[1] = -d[0]
        return d

    def run(self, x, state, valid, reset):
        """Output (T, N, H_out) and end state; ``valid`` and ``reset`` are boolean (T, N)."""
        steps, rows = x.shape[:2]
        h, c = state
        outputs = [None] * steps
        for t in reversed(range(steps)) if self.backward else range(steps):
            # The reverse direction enters a segment from the first step of the one after it.
            entered = t + 1 if self.backward else t
            if entered < steps:
                restart = (reset[entered] & valid[entered])[:, None]
                h, c = (torch.where(restart, own, old) for own, old in zip(self.start_state(rows), (h, c), strict=True))
            here = valid[t][:, None]
            new_h, new_c = self.step(x[t], h, c)
            outputs[t] = torch.where(here, new_h, torch.zeros_like(new_h))
            h, c = torch.where(here, new_h, h), torch.where(here, new_c, c)
        return torch.stack(outputs), (h, c)


def run(lstm, parameters, x, start, valid, reset):
    """The whole stack: output, end states, and the directions that computed them.

    ``start``: pairs of (N, size), one for each layer and direction.
    """
    ends, all_directions, directions = [], [], 2 if lstm.bidirectional else 1
    for layer in range(lstm.num_layers):
        outputs = []
        for place in range(directions):
            direction = Direction(lstm, parameters, layer, lstm.reverse or place == 1)
            output, end = direction.run(x, start[layer * directions + place], valid, reset)
            outputs.append(output)
            ends.append(end)
            all_directions.append(direction)
        output = torch.cat(outputs, dim=-1)
        x = output + x if lstm.residual and layer > 0 else output
    return x, tuple(torch.stack(part) for part in zip(*ends, strict=True)), all_directions


def answer(lstm, x, start, d_output, d_state, lengths=None, reset=None, gates=False):
    """Results and gradients by name, as layers.results_of() has them, for a batch whose padding is finite.

    With ``gates`` those with respect to the gates instead: for each layer and direction a list in a trace's order.

    They are computed in float64 for either dtype: norms of a few units amplify errors, so that PyTorch's float32 is off
    by more than is allowed here.
    """
    dtype = torch.float64
    steps, rows = x.shape[:2]
    valid = torch.ones(steps, rows, dtype=torch.bool)
    if lengths is not None:
        valid = torch.arange(steps)[:, None] < torch.as_tensor(lengths)
    reset = torch.zeros(steps, rows, dtype=torch.bool) if reset is None else torch.as_tensor(reset)
    parameters = {name: tensor(value, dtype, True) for name, value in lstm.parameters.items()}
    leaf = tensor(x, dtype, True)
    states = lstm.num_layers * (2 if lstm.bidirectional else 1)
    sizes = lstm.proj_size or lstm.hidden_size, lstm.hidden_size
    # If no start state is passed, the gradient is with respect to zeros that are added to the layer's own.
    given = start or [np.zeros((states, rows, size)) for size in sizes]
    h_0, c_0 = (tensor(part, dtype, True) for part in given)
    pairs = list(zip(h_0, c_0, strict=True))
    if start is None and lstm.learn_start_state:
        directions = 2 if lstm.bidirectional else 1
        for place, pair in enumerate(pairs):
            backward = lstm.reverse or place % directions == 1
            own = Direction(lstm, parameters, place // directions, backward).start_state(rows)
            pairs[place] = tuple(part + more for part, more in zip(own, pair, strict=True))
    output, (h_n, c_n), directions = run(lstm, parameters, leaf, pairs, valid, reset)
    loss = sum(
        (part * tensor(weight, dtype)).sum()
        for part, weight in zip((output, h_n, c_n), (d_output, *d_state), strict=True)
    )
    loss.backward()
    if gates:
        return [[one.numpy() for one in direction.signal_gradients()] for direction in directions]
    results = {"output": output.detach(), "h_n": h_n.detach(), "c_n": c_n.detach()}
    results |= {"x": leaf.grad, "h_0": h_0.grad, "c_0": c_0.grad}
    # A start state that no row uses has no gradient in PyTorch.
    results |= {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in parameters.items()
    }
    return {name: value.numpy() for name, value in results.items()}
