"""PyTorch's answers to the questions the tests ask. Imported only where PyTorch is installed."""

import warnings

import numpy as np
import torch

torch.set_num_threads(1)


def run_lstm(lstm, x, state):
    """A torch.nn.LSTM's answer, without its remark on which implementation serves projections."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        return lstm(x, state)


def tensor(array, dtype, requires_grad=False):
    return torch.tensor(np.asarray(array), dtype=dtype, requires_grad=requires_grad)


def answer(configuration, numbers, dtype=torch.float64, gradients=True):
    """Results by name: output, h_n, c_n; and gradients: x, h_0, c_0 and the parameters."""
    c = configuration
    lstm = torch.nn.LSTM(**c.options, dtype=dtype)
    lstm.load_state_dict({name: tensor(value, dtype) for name, value in numbers.parameters.items()})
    x = tensor(numbers.x, dtype, requires_grad=gradients)
    start = numbers.start
    if start is None:
        start = (np.zeros(c.state_shape(c.output_size)), np.zeros(c.state_shape(c.hidden_size)))
    h_0, c_0 = (tensor(state, dtype, requires_grad=gradients) for state in start)
    with torch.set_grad_enabled(gradients):
        fed = x
        if c.lengths is not None:
            lengths = torch.tensor(c.lengths)
            fed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, c.batch_first, enforce_sorted=False)
        output, (h_n, c_n) = run_lstm(lstm, fed, (h_0, c_0))
        if c.lengths is not None:
            output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, c.batch_first, total_length=c.steps)
    results = {"output": output.detach(), "h_n": h_n.detach(), "c_n": c_n.detach()}
    if gradients:
        loss = (output * tensor(numbers.d_output, dtype)).sum()
        loss = loss + (h_n * tensor(numbers.d_state[0], dtype)).sum() + (c_n * tensor(numbers.d_state[1], dtype)).sum()
        loss.backward()
        results |= {"x": x.grad, "h_0": h_0.grad, "c_0": c_0.grad}
        results |= {name: parameter.grad for name, parameter in lstm.named_parameters()}
    return {name: value.numpy() for name, value in results.items()}


class Last(torch.nn.Module):
    """Each sequence's final output; for the reverse direction that is the one of step 0."""

    def forward(self, output, lengths, reverse_from):
        steps, rows = output.shape[:2]
        ends = torch.full((rows,), steps - 1) if lengths is None else torch.as_tensor(lengths) - 1
        final = output[ends, torch.arange(rows)]
        return torch.cat([final[:, :reverse_from], output[0][:, reverse_from:]], dim=1)


def chain(case, dtype=torch.float64):
    """The network of a TrainingCase with its first weights; parameters bear latchwork's names."""
    modules = [torch.nn.Embedding(case.vocabulary, case.input_size, dtype=dtype)] if case.vocabulary else []
    modules.append(
        torch.nn.LSTM(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            proj_size=case.proj_size,
            dtype=dtype,
        )
    )
    if case.last:
        modules.append(Last())
    modules.append(torch.nn.Linear(case.lstm_output_size, case.output_size, dtype=dtype))
    network = torch.nn.Sequential(*modules)
    network.load_state_dict({name: tensor(value, dtype) for name, value in case.parameters().items()})
    return network


def run_chain(case, network, x, lengths, state):
    """Output and the LSTM's end state."""
    value = x
    for module in network:
        if isinstance(module, torch.nn.LSTM):
            if lengths is not None:
                value = torch.nn.utils.rnn.pack_padded_sequence(value, torch.as_tensor(lengths), enforce_sorted=False)
            value, state = run_lstm(module, value, state)
            if lengths is not None:
                value, _ = torch.nn.utils.rnn.pad_packed_sequence(value, total_length=x.shape[0])
        elif isinstance(module, Last):
            directions_from = case.lstm_output_size // (2 if case.bidirectional else 1)
            value = module(value, lengths, directions_from)
        else:
            value = module(value)
    if case.activation is not None:
        value = getattr(torch, case.activation)(value)
    return value, state


def loss_of(case, output, target, lengths):
    """The mean over all valid elements."""
    if not case.last and lengths is not None:
        valid = torch.arange(output.shape[0])[:, None] < torch.as_tensor(lengths)
        output, target = output[valid], target[valid]
    if case.loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())
    if case.loss == "squared_error":
        return torch.nn.functional.mse_loss(output, target)
    if case.loss == "absolute_error":
        return torch.nn.functional.l1_loss(output, target)
    quantiles = torch.tensor(case.quantiles, dtype=output.dtype)
    error = target[..., None] - output.unflatten(-1, (-1, len(case.quantiles)))
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean()


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def train(case, steps, dtype=torch.float64):
    """The loss before each update."""
    network = chain(case, dtype)
    optimizer = OPTIMIZERS[case.optimizer](network.parameters(), **case.optimizer_options)
    losses, state = [], None
    for step in range(steps):
        x, target, lengths = case.batch(step)
        x = torch.tensor(x) if case.vocabulary else tensor(x, dtype)
        target = torch.tensor(target) if case.loss == "cross_entropy" else tensor(target, dtype)
        optimizer.zero_grad()
        output, end = run_chain(case, network, x, lengths, state)
        state = tuple(part.detach() for part in end) if case.carried else None
        loss = loss_of(case, output, target, lengths)
        loss.backward()
        if case.clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), case.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)
