"""The drop-in's modules inside models, beside Latchwork's own: conversion, traces and streams."""

import warnings

import latchwork as lw
import numpy as np
import pytest
from cell_options import MODULES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import latchwork.torch as lwt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Tagger(nn.Module):
    """As users write it; ``options`` are those of the LSTM."""

    def __init__(self, forward=None, **options):
        super().__init__()
        self.embedding = nn.Embedding(11, 3)
        self.lstm = (lwt.LSTM if options else nn.LSTM)(3, 5, 2, batch_first=True, **options)
        both = options.get("bidirectional") and options.get("merge") in (None, "concat")
        self.fc = nn.Linear(10 if both else 5, 4)
        if forward is not None:
            self.__class__ = type("Model", (Tagger,), {"forward": forward})

    def forward(self, x):
        return self.fc(self.lstm(self.embedding(x))[0])


TOKENS = torch.arange(24).reshape(4, 6) % 11


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-5)


def last_step(self, x):
    return self.fc(self.lstm(self.embedding(x))[0][:, -1])


def last_hidden(self, x):
    return self.fc(self.lstm(self.embedding(x))[1][0][-1])


def both_ends(self, x):
    h = self.lstm(self.embedding(x))[1][0]
    return self.fc(torch.cat((h[-2], h[-1]), 1))


@pytest.mark.parametrize("forward", [Tagger.forward, last_step, last_hidden], ids=lambda forward: forward.__name__)
def test_a_replaced_model_comes_over_as_before(forward):
    model = Tagger(forward)
    before = lw.from_torch(model)
    lwt.replace(model)
    after = lw.from_torch(model)
    assert repr(after) == repr(before)
    tokens = TOKENS.numpy()
    assert (after(tokens)[0] == before(tokens)[0]).all()
    close(after(tokens)[0], model.eval()(TOKENS))


FOLLOWED = {
    "steps": (Tagger.forward, {"peephole": True, "layer_norm": True, "bidirectional": True}),
    "merged": (Tagger.forward, {"merge": "sum", "bidirectional": True}),
    "reverse": (Tagger.forward, {"reverse": True, "residual": True}),
    "last step": (last_step, {"residual": True, "zoneout": (0.1, 0.2)}),
    "last state": (last_hidden, {"forget_gate": "coupled", "learn_start_state": True}),
    "reverse end": (last_hidden, {"reverse": True, "clip": 1.0}),
    "both ends": (both_ends, {"bidirectional": True, "activations": {"cell": "relu"}}),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_a_forward_with_a_variant_is_followed(case):
    forward, options = FOLLOWED[case]
    model = Tagger(forward, **options).eval()
    ours = lw.from_torch(model)
    assert repr(ours[1]) == repr(lw.from_torch(model.lstm))
    close(ours(TOKENS.numpy())[0], model(TOKENS))


NOT_FOLLOWED = {
    "a step of an LSTM is taken whose reverse direction": (last_step, {"reverse": True}),
    "h_n of an LSTM with residual connections": (last_hidden, {"residual": True}),
    "cat joins the ends of both directions, which the LSTM itself merges": (
        both_ends, {"merge": "mul", "bidirectional": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", NOT_FOLLOWED)
def test_a_forward_that_means_something_else_is_refused(message):
    forward, options = NOT_FOLLOWED[message]
    model = Tagger(**options)
    model.__class__ = type("Model", (Tagger,), {"forward": forward})
    with pytest.raises(ValueError, match=message) as refused:
        lw.from_torch(model)
    (option,) = options.keys() - {"bidirectional"}
    assert ("direction reverse" if option == "reverse" else f"{option}={options[option]!r}") in str(refused.value)
    assert repr(lw.from_torch(model, prefix="lstm")) == repr(lw.from_torch(model.lstm))


def with_lengths(self, x, lengths):
    return self.fc(self.lstm(self.embedding(x), lengths=lengths)[1][0][-1])


def with_resets(self, x, reset):
    return self.fc(self.lstm(self.embedding(x), reset=reset)[0])


def test_lengths_and_resets_are_those_of_the_call():
    model = Tagger(with_lengths, peephole=True)
    lengths = torch.tensor([6, 1, 4, 2])
    ours = lw.from_torch(model)
    close(ours(TOKENS.numpy(), lengths=lengths)[0], model(TOKENS, lengths))
    model = Tagger(with_resets, peephole=True)
    reset = torch.rand(4, 6) < 0.3
    close(lw.from_torch(model)(TOKENS.numpy(), reset=reset)[0], model(TOKENS, reset))


COMPUTED = {
    "takes a reset that is computed": lambda self, x, flag: self.lstm(self.embedding(x), reset=flag.relu()),
    "takes a skip, which": lambda self, x, flag: self.lstm(self.embedding(x), skip=flag),
    "takes lengths that are computed": lambda self, x, flag: self.lstm(self.embedding(x), lengths=self.fc(flag)),
    "takes a padded output, and runs over the padding": lambda self, x, n: self.lstm(
        self.lstm(self.embedding(x), lengths=n)[0]
    ),
    "the last step is taken of a padded output": lambda self, x, n: self.lstm(self.embedding(x), lengths=n)[0][:, -1],
}


@pytest.mark.parametrize("message", COMPUTED)
def test_what_is_computed_for_an_lstm_is_refused(message):
    def forward(self, x, argument):
        return COMPUTED[message](self, x, argument)

    with pytest.raises(ValueError, match=message):
        lw.from_torch(Tagger(forward, peephole=True))


@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_a_trace_is_that_of_the_layer(kind, options):
    dtype = options.get("dtype", "float32")
    module = lw.to_torch(kind(**options | {"seed": 3}))
    lwt.replace(module.eval())  # a cell without a variant is one of PyTorch's own
    layer = kind(**options)
    layer.load_state_dict(module.state_dict())
    x = torch.randn(6, 4, 3, dtype=getattr(torch, dtype))
    reset = torch.rand(6, 4) < 0.2
    trace = module.trace(x.requires_grad_(), lengths=torch.tensor([6, 1, 4, 5]), reset=reset)
    output = module(x, lengths=torch.tensor([6, 1, 4, 5]), reset=reset)[0] if kind is lw.LSTM else None
    if output is None:
        states = None
        with torch.no_grad():
            for step in x[:, 0]:
                states = module(step[None], states)
        alone = module.trace(x[:, :1])
        assert alone.output[-1].tobytes() == states[0].numpy().tobytes()
        assert alone.cell[-1].tobytes() == states[1].numpy().tobytes()
        return
    assert trace.output.tobytes() == output.detach().numpy().tobytes()
    expected = layer.trace(x.detach().numpy(), lengths=[6, 1, 4, 5], reset=reset.numpy())
    assert list(trace) == list(expected)
    for name in trace:
        for ours, other in zip(trace[name], expected[name], strict=True):
            assert ours.tobytes() == other.tobytes()


def test_a_trace_of_a_packed_sequence_and_of_a_state():
    module = lwt.LSTM(3, 5, batch_first=True)
    x, lengths = torch.randn(4, 6, 3), torch.tensor([2, 6, 1, 4])
    state = torch.randn(1, 4, 5, requires_grad=True), torch.randn(1, 4, 5)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    trace = module.trace(packed, state)
    assert trace.output.tobytes() == module.trace(x, state, lengths=lengths).output.tobytes()
    close(trace.state[0], module(packed, state)[1][0])
    with pytest.raises(ValueError, match="lengths: expected None for a packed sequence, which has its own"):
        module.trace(packed, lengths=lengths)


def test_what_explains_and_draws_takes_a_trace(tmp_path):
    module = lwt.LSTM(3, 5, peephole=True)
    x = torch.randn(7, 2, 3)
    written = lw.explain.written_by(module.trace(x), step=-1, row=0)
    assert sorted(written.steps) == list(range(7))
    saliency = lw.explain.saliency(lw.from_torch(module), x.numpy(), output=0)
    assert saliency.gradient.shape == (7, 2, 3)
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    lw.plot.gates(module.trace(x), row=0)


@pytest.mark.parametrize("made", [lambda: lwt.LSTM(3, 5, 2), lambda: nn.LSTM(3, 5, 2), lambda: nn.LSTMCell(3, 5),
                                  lambda: lwt.LSTMCell(3, 5, peephole=True)])  # fmt: skip
def test_a_stream_goes_step_by_step(made):
    module = made()
    lwt.replace(module)
    x = torch.randn(6, 4, 3)
    expected = module.trace(x).output
    stream, alone = module.stream(4), module.stream()
    for step, output in zip(x.numpy(), expected, strict=True):
        assert stream.step(step).tobytes() == output.tobytes()
        assert alone.step(step[0]).tobytes() == output[0].tobytes()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert stream.step(x[0].numpy()).any()  # with the weights that it was made with


def test_a_trace_and_a_stream_of_present_weights():
    module = lwt.LSTM(3, 5)
    x = torch.randn(6, 4, 3)
    parametrizations.weight_norm(module, "weight_hh_l0")
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(3)
        expected = module(x)[0].numpy()
    assert module.trace(x).output.tobytes() == expected.tobytes()
    assert module.stream(4).step(x[0].numpy()).tobytes() == expected[0].tobytes()
    module.register_forward_hook(lambda module, arguments, output: None)
    assert module.trace(x).output.tobytes() == expected.tobytes()


def test_bad_traces():
    module = lwt.LSTM(3, 5)
    with pytest.raises(ValueError, match=r"x: expected \(T, N, 3\)"):
        module.trace(torch.ones(2, 2, 4))
    with pytest.raises(ValueError, match="stream: expected forward LSTMs only"):
        lwt.LSTM(3, 5, bidirectional=True).stream()
