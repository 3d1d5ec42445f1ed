"""Models of PyTorch's: modules, state dictionaries and files, beside PyTorch itself."""

import io
import itertools
import json
import time
import tracemalloc
import warnings
import zipfile

import latchwork as lw
import mutations
import numpy as np
import pytest
from safetensors.numpy import save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # which code computes it is no matter
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numbers(*shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def close(ours, theirs, dtype="float32"):
    theirs = theirs.detach().numpy()
    assert ours.dtype == theirs.dtype == np.dtype(dtype)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(theirs).max()))


def call(module, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.eval()(*map(torch.tensor, arguments))


OPTIONS = [
    {"num_layers": layers, "bias": bias, "batch_first": first, "bidirectional": both, "proj_size": projected}
    for layers, bias, first, both, projected in itertools.product((1, 3), *[(True, False)] * 3, (0, 2))
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_module(options, dtype):
    theirs = nn.LSTM(7, 17, **options, dropout=0.25 * (options["num_layers"] > 1)).to(getattr(torch, dtype))
    ours = lw.from_torch(theirs)
    for name, value in options.items():
        assert getattr(ours, name) == value
    assert ours.dropout == theirs.dropout
    assert {name: array.tobytes() for name, array in ours.state_dict().items()} == {
        name: tensor.numpy().tobytes() for name, tensor in theirs.state_dict().items()
    }
    x = numbers(5, 3, 7, dtype=dtype)
    output, (h, c) = ours(x)
    expected, (h_n, c_n) = call(theirs, x)
    for mine, other in ((output, expected), (h, h_n), (c, c_n)):
        close(mine, other, dtype)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda options: "-".join(map(str, options.values())))
def test_a_state_dict_says_all_but_batch_first(options):
    theirs = nn.LSTM(7, 17, **options)
    ours = lw.from_torch(theirs.state_dict())
    assert not ours.batch_first
    assert repr(lw.from_torch(theirs.state_dict(), batch_first=options["batch_first"])) == repr(lw.from_torch(theirs))
    assert {name: array.tobytes() for name, array in ours.state_dict().items()} == {
        name: tensor.numpy().tobytes() for name, tensor in theirs.state_dict().items()
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("of_tensors", [True, False])
def test_a_cell(bias, of_tensors, dtype):
    theirs = nn.LSTMCell(3, 5, bias).to(getattr(torch, dtype))
    ours = lw.from_torch(theirs.state_dict() if of_tensors else theirs)
    assert isinstance(ours, lw.LSTMCell)
    x, h, c = (numbers(4, size, dtype=dtype) for size in (3, 5, 5))
    for mine, other in zip(ours(x, (h, c)), theirs(torch.tensor(x), (torch.tensor(h), torch.tensor(c))), strict=True):
        close(mine, other, dtype)


def test_half_precision_becomes_float32():
    for half in (torch.float16, torch.bfloat16):
        theirs = nn.LSTM(3, 5).to(half)
        ours = lw.from_torch(theirs)
        assert ours.dtype == np.float32
        assert (ours.parameters["weight_ih_l0"] == theirs.weight_ih_l0.detach().float().numpy()).all()


class Tagger(nn.Module):
    """What users write: layers as attributes, and a forward that joins them."""

    def __init__(self, both=False, head=nn.Linear):
        super().__init__()
        self.fc = head(10 if both else 5, 4)  # registered first, called last
        self.embedding = nn.Embedding(11, 3, padding_idx=0)
        self.dropout = nn.Dropout(0.3)
        self.lstm = nn.LSTM(3, 5, 2, batch_first=True, bidirectional=both, dropout=0.1)

    def forward(self, x):
        output, _ = self.lstm(self.dropout(self.embedding(x)))
        return self.fc(output)


def forward_of(function, both=False):
    """A tagger with another forward."""
    made = Tagger(both)
    made.__class__ = type("Model", (Tagger,), {"forward": function})
    return made


def zero_state(self, x):
    zeros = torch.zeros(2, x.size(0), 5).to(x.device)
    return self.fc(self.lstm(self.embedding(x), (zeros, torch.zeros_like(zeros)))[0][:, -1, :])


def zeros_in_many_ways(self, x):
    self.lstm.flatten_parameters()
    zeros = x.new_zeros(1, x.shape[0], 5, dtype=torch.float32).expand(2, -1, -1).contiguous().requires_grad_()
    return self.fc(self.lstm(self.embedding(x), (zeros, zeros.clone().detach()))[1][0][-1])


def returned_state(self, x, state=None):
    output, state = self.lstm(self.embedding(x), state)
    return self.fc(functional.dropout(output, 0.2, self.training)), state


def last_hidden(self, x):
    _, (h, _) = self.lstm(self.embedding(x))
    return torch.sigmoid(self.fc(h[-1]))


def both_ends(self, x):
    _, (h, _) = self.lstm(self.embedding(x))
    return self.fc(torch.cat((h[-2, :, :], h[-1, :, :]), dim=1))


def mean(self, x):
    return functional.elu(self.fc(steps_of(self, x).mean(dim=1)), 0.5)


def maximum(self, x):
    return self.fc(torch.max(steps_of(self, x), 1)[0]).tanh()


def highest(self, x):
    return functional.leaky_relu(self.fc(steps_of(self, x).amax(1)))


def steps_of(model, x):
    return model.lstm(model.embedding(x))[0]


FORWARDS = {
    "tagger": (Tagger.forward, False, lw.LSTM),
    "tagger both": (Tagger.forward, True, lw.LSTM),
    "zero_state": (zero_state, False, lw.Last),
    "zeros_in_many_ways": (zeros_in_many_ways, False, lw.Last),
    "returned_state": (returned_state, False, lw.LSTM),
    "last_hidden": (last_hidden, False, lw.Last),
    "both_ends": (both_ends, True, lw.Last),
    "mean": (mean, True, lw.Mean),
    "maximum": (maximum, True, lw.Max),
    "highest": (highest, False, lw.Max),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_module_s_forward_is_followed(name):
    forward, both, layer = FORWARDS[name]
    theirs = forward_of(forward, both)
    ours = lw.from_torch(theirs)
    assert any(isinstance(each, layer) for each in ours)
    assert ours.batch_first
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    expected = call(theirs, tokens)
    close(ours(tokens)[0], expected[0] if isinstance(expected, tuple) else expected)


def test_what_is_wrapped_is_followed_too():
    theirs = Tagger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for wrapped in (nn.DataParallel(theirs), torch.compile(theirs), torch.compile(nn.DataParallel(theirs))):
            assert repr(lw.from_torch(wrapped)) == repr(lw.from_torch(theirs))


def test_modules_within_modules_are_followed():
    def head(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, outputs), nn.Softsign(), nn.Linear(outputs, 3))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Tagger(head=head)

        def forward(self, x, unused=None):
            return self.inner(x)

    theirs = Model()
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    ours = lw.from_torch(theirs)
    close(ours(tokens)[0], call(theirs, tokens))
    assert ours[3].activation == "softsign"
    assert len(ours) == 5


def test_packed_sequences_are_lengths():
    def packed(self, x, lengths):
        x = nn.utils.rnn.pack_padded_sequence(self.embedding(x), lengths, batch_first=True, enforce_sorted=False)
        output, (h, _) = self.lstm(x)
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        return self.fc(output), h

    theirs = forward_of(packed, True)
    tokens, lengths = np.random.default_rng(1).integers(0, 11, (3, 6)), np.array([2, 6, 1])
    padded = lw.from_torch(theirs)(tokens, lengths=lengths)[0]
    expected, _ = call(theirs, tokens, lengths)
    for row, length in enumerate(lengths):
        close(padded[row, :length], expected[row, :length])


def packed_steps(self, x, lengths, pack_first=True, pad_first=True):
    """The output of packed sequences, padded again, and h_n."""
    x = nn.utils.rnn.pack_padded_sequence(self.embedding(x), lengths, batch_first=pack_first, enforce_sorted=False)
    output, (h, _) = self.lstm(x)
    return nn.utils.rnn.pad_packed_sequence(output, batch_first=pad_first)[0], h


def test_the_end_of_packed_sequences_is_their_own():
    theirs = forward_of(lambda self, x, lengths: self.fc(packed_steps(self, x, lengths)[1][-1]))
    tokens, lengths = np.random.default_rng(1).integers(0, 11, (3, 6)), np.array([2, 6, 1])
    close(lw.from_torch(theirs)(tokens, lengths=lengths)[0], call(theirs, tokens, lengths))


PACKED = {
    "last": (lambda self, x, n: self.fc(packed_steps(self, x, n)[0][:, -1]), "which may be padding"),
    "mean": (lambda self, x, n: self.fc(packed_steps(self, x, n)[0].mean(1)), "over the padding too"),
    "maximum": (lambda self, x, n: self.fc(packed_steps(self, x, n)[0].max(1)[0]), "over the padding too"),
    "packed by steps": (lambda self, x, n: packed_steps(self, x, n, False, False)[0], "batch_first than the pack"),
    "padded by steps": (lambda self, x, n: packed_steps(self, x, n, True, False)[0], "batch_first than pack"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_what_goes_over_the_padding_of_packed_sequences_is_refused(name):
    forward, reason = PACKED[name]
    with pytest.raises(ValueError, match=reason):
        lw.from_torch(forward_of(forward))


def test_a_second_lstm_over_padding_is_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Tagger(), nn.LSTM(5, 3, batch_first=True)

        def forward(self, x, lengths):
            return self.second(packed_steps(self.first, x, lengths)[0])

    with pytest.raises(ValueError, match="runs over the padding"):
        lw.from_torch(Model())


def written_over(self, x):
    output = steps_of(self, x)
    functional.relu(output, inplace=True)
    return self.fc(output)


def written_over_by_another_name(self, x):
    output = steps_of(self, x)
    torch.relu_(output.contiguous())
    return self.fc(output)


def start_state_written_over(self, x):
    zeros = torch.zeros(2, x.size(0), 5)
    zeros.add_(1)
    return self.fc(self.lstm(self.embedding(x), (zeros, zeros))[0])


@pytest.mark.parametrize("forward", [written_over, written_over_by_another_name, start_state_written_over])
def test_what_is_changed_in_place_for_others_is_refused(forward):
    with pytest.raises(ValueError, match="changes in place what something else reads too"):
        lw.from_torch(forward_of(forward))


def test_what_is_changed_in_place_for_itself_is_followed():
    theirs = forward_of(lambda self, x: functional.relu(self.fc(steps_of(self, x)), True).relu_())
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    close(lw.from_torch(theirs)(tokens)[0], call(theirs, tokens))


def test_a_dropout_that_acts_in_evaluation_too_is_refused():
    with pytest.raises(ValueError, match="drops in evaluation too"):
        lw.from_torch(forward_of(lambda self, x: functional.dropout(steps_of(self, x))).eval())
    theirs = forward_of(lambda self, x: functional.dropout(steps_of(self, x), training=self.training))
    assert repr(lw.from_torch(theirs.eval())) == repr(lw.from_torch(theirs.train()))


def test_a_copy_may_be_changed_in_place():
    def forward(self, x):
        output = self.fc(steps_of(self, x))
        output.clone().tanh_()
        return output

    theirs = forward_of(forward)
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    close(lw.from_torch(theirs)(tokens)[0], call(theirs, tokens))


@pytest.mark.parametrize("name", ["mean", "max", "amax"])
def test_steps_that_are_kept_as_an_axis_are_refused(name):
    for given in ((1, True), (1,)):
        keywords = {} if len(given) == 2 else {"keepdim": True}
        with pytest.raises(ValueError, match="over something else than the steps"):
            lw.from_torch(forward_of(lambda self, x: getattr(steps_of(self, x), name)(*given, **keywords)))  # noqa: B023


def test_integers_are_made_of_tokens_alone():
    theirs = forward_of(lambda self, x: self.fc(steps_of(self, x.to(torch.long))))
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    close(lw.from_torch(theirs)(tokens)[0], call(theirs, tokens))
    rounded = forward_of(lambda self, x: self.lstm(x.to(torch.int32).float())[0])
    with pytest.raises(ValueError, match="takes integers"):
        lw.from_torch(rounded)
    with pytest.raises(ValueError, match=r"rounds to torch\.int32"):
        lw.from_torch(forward_of(lambda self, x: self.fc(steps_of(self, x).to(torch.int32).float())))


@pytest.mark.parametrize("path", ["", "lstm", "fc"])
@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
def test_hooks_are_refused(path, kind):
    theirs = Tagger()
    hook = getattr(theirs.get_submodule(path), kind)(lambda *given: None)
    with pytest.raises(ValueError, match="expected a module without hooks"):
        lw.from_torch(theirs)
    hook.remove()
    lw.from_torch(theirs)


def test_a_dropout_or_identity_of_the_user_s_is_no_pytorch_one():
    class Double(nn.Identity):
        def forward(self, x):
            return x * 2

    with pytest.raises(ValueError, match="has no counterpart"):
        lw.from_torch(nn.Sequential(nn.Linear(3, 2), Double()), prefix=["0", "1"])


REFUSED = {
    "reshape": (lambda self, x: self.fc(steps_of(self, x).reshape(-1, 5)), "'reshape' has no counterpart"),
    "two results": (lambda self, x: (self.fc(steps_of(self, x)), x), "more than one result"),
    "sum": (lambda self, x: self.fc(steps_of(self, x) + 1), "'add' has no counterpart"),
    "attention": (lambda self, x: self.fc(steps_of(self, x)) @ torch.ones(4, 4), "joins several values"),
    "residual": (lambda self, x: sum_of(self.fc(steps_of(self, x))), "joins several values"),
    "softmax of steps": (lambda self, x: self.fc(steps_of(self, x)).softmax(1), "the features, got dim=1"),
    "first step": (lambda self, x: self.fc(steps_of(self, x)[:, 0]), "not the last one alone"),
    "last row": (lambda self, x: self.fc(steps_of(self, x)[-1]), "not the last one alone"),
    "cell state": (lambda self, x: self.fc(self.lstm(self.embedding(x))[1][1][-1]), "an item is taken"),
    "lower layer": (lambda self, x: self.fc(self.lstm(self.embedding(x))[1][0][0]), "another layer than the last"),
    "branch": (lambda self, x: self.fc(x) if x.sum() > 0 else x, "cannot be followed: TraceError"),
    "state": (lambda self, x: self.lstm(self.embedding(x), (torch.ones(2, 1, 5),) * 2)[0], "state that is computed"),
}  # fmt: skip


def sum_of(x):
    return torch.add(x, x.clone().tanh())


@pytest.mark.parametrize("name", REFUSED)
def test_a_forward_that_is_no_chain_is_refused(name):
    forward, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as refused:
        lw.from_torch(forward_of(forward))
    assert "prefix='lstm' takes it out" in str(refused.value)
    assert "'embedding', 'dropout', 'lstm'" in str(refused.value)


def test_the_last_step_of_two_directions_is_no_last():
    def last(self, x):
        return self.fc(steps_of(self, x)[:, -1])

    with pytest.raises(ValueError, match="reverse direction ends at the first one"):
        lw.from_torch(forward_of(last, True))


def test_prefix_makes_a_chain_of_modules_and_of_tensors():
    theirs = forward_of(zero_state)
    tokens = np.random.default_rng(1).integers(0, 11, (4, 6))
    expected = call(theirs, tokens)
    prefix = ["embedding", lw.Dropout(0.3), "lstm", lw.Last(), "fc"]
    close(lw.from_torch(theirs, prefix=prefix)(tokens)[0], expected)
    close(lw.from_torch(theirs.state_dict(), prefix=prefix, batch_first=True)(tokens)[0], expected)
    assert [type(layer).__name__ for layer in lw.from_torch(theirs, prefix=prefix)] == [
        "Embedding", "Dropout", "LSTM", "Last", "Linear",
    ]  # fmt: skip
    assert lw.from_torch(theirs, prefix="lstm").dropout == pytest.approx(0.1)
    assert repr(lw.from_torch(theirs, prefix=("lstm",))) == repr(lw.from_torch(theirs.lstm))


def test_a_cell_in_a_chain_runs_over_time():
    cell, head = nn.LSTMCell(3, 5), nn.Linear(5, 2, bias=False)
    ours = lw.from_torch({**prefixed("c", cell), **prefixed("f", head)}, prefix=["c", "f"])
    x = numbers(6, 4, 3)
    state, expected = None, []
    for step in torch.tensor(x):
        state = cell(step, state)
        expected.append(head(state[0]))
    close(ours(x)[0], torch.stack(expected))


def prefixed(prefix, module):
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def test_several_candidates_are_listed():
    layers = {"encoder.rnn": nn.LSTM(3, 5, 2), "decoder": nn.LSTMCell(5, 4), "fc": nn.Linear(4, 1)}
    tensors = {name: tensor for prefix, layer in layers.items() for name, tensor in prefixed(prefix, layer).items()}
    with pytest.raises(ValueError, match="It holds 2 LSTMs; prefix='encoder.rnn' takes one out") as refused:
        lw.from_torch(tensors)
    for text in ("'encoder.rnn' (3 -> 5, num_layers=2)", "'decoder' (5 -> 4, cell=True)", r"'fc' (Linear (1, 4))"):
        assert text in str(refused.value)
    assert lw.from_torch(tensors, prefix="encoder").num_layers == 2
    with pytest.raises(ValueError, match="got 'rnn'; there are 'encoder.rnn', 'decoder', 'fc'"):
        lw.from_torch(tensors, prefix="rnn")


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_in_front_is_gone(wrap):
    theirs = nn.LSTM(3, 5)
    tensors = {f"{wrap}rnn.{name}": tensor for name, tensor in theirs.state_dict().items()}
    for prefix in (None, "rnn", "rnn."):
        ours = lw.from_torch(tensors, prefix=prefix)
        assert (ours.parameters["weight_hh_l0"] == theirs.weight_hh_l0.detach().numpy()).all()


def test_checkpoints_hold_a_state_dict():
    theirs = nn.LSTM(3, 5)
    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.ones(2, 3))[0].sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "model": theirs.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5}
    assert (lw.from_torch(checkpoint).parameters["bias_ih_l0"] == theirs.bias_ih_l0.detach().numpy()).all()
    twice = checkpoint | {"ema": nn.LSTM(3, 7).state_dict()}
    with pytest.raises(ValueError, match=r"'model' \(3 -> 5\)[^\n]*\n  'ema' \(3 -> 7\)"):
        lw.from_torch(twice)
    assert lw.from_torch(twice, prefix="ema").hidden_size == 7


def test_embedding_or_linear_is_told_by_sizes_or_not_at_all():
    lstm = prefixed("l", nn.LSTM(3, 5))
    ours = lw.from_torch({"e.weight": torch.ones(3, 7), **lstm}, prefix=["e", "l"])
    assert isinstance(ours[0], lw.Linear)
    assert isinstance(lw.from_torch({"e.weight": torch.ones(7, 3), **lstm}, prefix=["e", "l"])[0], lw.Embedding)
    for shape, prefix in (((3, 3), ["e", "l"]), ((7, 3), "e")):
        with pytest.raises(ValueError, match="which may be either"):
            lw.from_torch({"e.weight": torch.ones(shape), **lstm}, prefix=prefix)


VARIANTS_IN_NAMES = [
    {"peephole": True},
    {"layer_norm": True, "bias": False},
    {"learn_start_state": True, "proj_size": 2},
    {"peephole": True, "layer_norm": True, "learn_start_state": True, "proj_size": 3},
]


@pytest.mark.parametrize("options", VARIANTS_IN_NAMES, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("direction", ["forward", "bidirectional", "reverse", "cell"])
def test_names_that_say_which_variant_it_is(options, direction, dtype):
    if direction == "cell":
        model = lw.LSTMCell(4, 5, dtype=dtype, seed=0, **options)
    else:
        model = lw.LSTM(
            4, 5, 2, dtype=dtype, seed=0, **options, **({direction: True} if direction != "forward" else {})
        )
    tensors = {name: torch.tensor(array) for name, array in model.state_dict().items()}
    back = lw.from_torch(tensors)
    assert repr(back) == repr(model)
    assert {name: array.tobytes() for name, array in back.state_dict().items()} == {
        name: array.tobytes() for name, array in model.state_dict().items()
    }
    inside = {f"net.rnn.{name}": tensor for name, tensor in tensors.items()} | {"net.fc.weight": torch.ones(2, 5)}
    assert repr(lw.from_torch(inside, prefix="net.rnn")) == repr(model)
    with pytest.raises(ValueError, match="It holds 1 LSTM") as refused:
        lw.from_torch(inside)
    for option in options:
        assert option in str(refused.value)
    assert ("direction reverse" in str(refused.value)) == (direction == "reverse")


def changed(**tensors):
    return {**nn.LSTM(3, 5, 2).state_dict(), **tensors}


CONTRADICTIONS = {
    r"weight_hh_l1: expected \(20, 5\), got \(24, 6\)": lambda: changed(weight_hh_l1=torch.ones(24, 6)),
    r"bias_hh_l0: expected \(20,\), got \(19,\)": lambda: changed(bias_hh_l0=torch.ones(19)),
    r"weight_ih_l0_reverse: expected \(20, 3\), got none": lambda: changed(bias_ih_l0_reverse=torch.ones(20)),
    "expected layers 0 to 9, got 0, 1, 9": lambda: changed(weight_ih_l9=torch.ones(20, 5)),
    r"weight_peephole_l1: expected \(15,\), got none": lambda: changed(weight_peephole_l0=torch.ones(15)),
    r"c_0_l0: expected \(5,\), got none": lambda: changed(h_0_l0=torch.ones(5)),
    r"norm_hh_bias_l0: expected \(20,\), got none": lambda: {
        name: torch.tensor(array)
        for name, array in lw.LSTM(3, 5, layer_norm=True).state_dict().items()
        if name != "norm_hh_bias_l0"
    },
    "got weight_clock_l0 too": lambda: changed(weight_clock_l0=torch.ones(15)),
    r"weight_ih_l0: expected real numbers, got dtype int64": lambda: changed(weight_ih_l0=torch.ones(20, 3, dtype=int)),
    "a dense tensor, got a tensor without numbers": lambda: nn.LSTM(3, 5, device="meta").state_dict(),
    r"got '' \(GRU\)": lambda: nn.GRU(3, 5).state_dict(),
    r"got '' \(RNN\)": lambda: nn.RNN(3, 5).state_dict(),
    "got none": dict,
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_tensors_that_contradict_each_other_are_refused(message):
    with pytest.raises(ValueError, match=message):
        lw.from_torch(CONTRADICTIONS[message]())


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Tagger(), {nn.LSTM, nn.Linear})


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Tagger())


DISGUISED = {
    "quantised": (quantised, "got a quantised one"),
    "weight_norm": (weight_normed, "weight_norm, spectral_norm"),
    "parametrised": (lambda: parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0"), "remove_parametrizations"),
    "pruned": (lambda: prune.random_unstructured(nn.LSTM(3, 5), "weight_hh_l0", 0.5), "prune.remove"),
    "TorchScript": (scripted, "got TorchScript"),
    "GRU": (lambda: nn.GRU(3, 5), "GRU has no counterpart"),
    "max_norm": (lambda: nn.Embedding(3, 5, max_norm=1.0), "max_norm: expected None"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISGUISED)
def test_modules_whose_weights_are_others_are_refused(name):
    make, reason = DISGUISED[name]
    with pytest.raises(ValueError, match=reason):
        lw.from_torch(make())


def test_tensors_of_disguised_layers_are_named():
    for tensors, reason in (
        (weight_normed().state_dict(), "weights are computed from others"),
        (DISGUISED["parametrised"][0]().state_dict(), "weights are computed from others"),
        (quantised().state_dict(), "expected the tensors of an LSTM"),
    ):
        with pytest.raises(ValueError, match=reason):
            lw.from_torch(tensors)


def test_types():
    for model in (None, 3, [1], object()):
        with pytest.raises(TypeError, match="model: expected a torch.nn.Module, a mapping of tensors or a path"):
            lw.from_torch(model)
    for prefix in (3, [3], {"a": 1}, lw.LSTM(1, 2), [lw.Linear(2, 3)]):
        with pytest.raises(TypeError, match="prefix: expected a str"):
            lw.from_torch(nn.LSTM(3, 5).state_dict(), prefix=prefix)
    with pytest.raises(ValueError, match="prefix: expected at least one name"):
        lw.from_torch(nn.LSTM(3, 5), prefix=[])
    with pytest.raises(ValueError, match="prefix: expected the name of a module, got 'x'; there are 'embedding'|'fc'"):
        lw.from_torch(Tagger(), prefix="x")


# Files.


def save(content, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch(zipped, tmp_path):
    theirs = nn.LSTM(3, 5)
    path = save(theirs.state_dict(), tmp_path / "a", _use_new_zipfile_serialization=zipped)
    for each in (path, str(path), str(path).encode()):
        assert (lw.from_torch(each).parameters["weight_ih_l0"] == theirs.weight_ih_l0.detach().numpy()).all()
    path = save({"model": Tagger().state_dict(), "epoch": 3}, tmp_path / "b", _use_new_zipfile_serialization=zipped)
    assert len(lw.from_torch(path, prefix=["embedding", "lstm", "fc"])) == 3
    with pytest.raises(ValueError, match="b: its tensors do not say in which order its 3 layers"):
        lw.from_torch(path)


def test_files_of_safetensors(tmp_path):
    tensors = {f"rnn.{name}": tensor.numpy() for name, tensor in nn.LSTM(3, 5, bidirectional=True).state_dict().items()}
    path = tmp_path / "a"
    save_file(tensors | {"other": np.zeros(3, np.int64)}, path)
    for ours in (lw.from_torch(path, prefix="rnn"), lw.load(path, prefix="rnn")):
        assert ours.bidirectional
        assert (ours.parameters["bias_hh_l0_reverse"] == tensors["rnn.bias_hh_l0_reverse"]).all()
    with pytest.raises(ValueError, match="got a safetensors file from elsewhere"):
        lw.load(path)
    lw.LSTM(3, 5).save(path)
    for read in (lw.from_torch, lambda path: lw.load(path, prefix="")):
        with pytest.raises(ValueError, match="got a model of Latchwork's, which lw.load"):
            read(path)


def exported(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),)), path)


FILES = {
    "a module": (lambda path: save(nn.LSTM(3, 5), path), r"got a pickled object of torch\.nn\.modules\.rnn\.LSTM"),
    "quantised": (lambda path: save(quantised().state_dict(), path), "got quantised weights"),
    "TorchScript": (lambda path: scripted().save(path), "got a TorchScript file"),
    "pt2": (exported, r"got an exported program of PyTorch's \(.pt2\)"),
    "a list": (lambda path: save([torch.ones(3)], path), "expected a state dictionary, got list"),
    "a text": (lambda path: path.write_text("text"), "got a text file"),
    "expanded": (lambda path: save({"a": torch.ones(1).expand(10**12)}, path), "whose numbers are in the file"),
    "nothing": (lambda path: path.write_bytes(b""), "got an empty file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(name, tmp_path):
    write, reason = FILES[name]
    write(tmp_path / "file.pt")
    with pytest.raises(ValueError, match=reason):
        lw.from_torch(tmp_path / "file.pt")


def test_a_file_that_is_missing_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        lw.from_torch(tmp_path / "none.pt")


def test_a_zip_bomb_is_refused(tmp_path):
    save(nn.LSTM(3, 5).state_dict(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as good,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, bytes(10**8) if name.endswith("data/0") else good.read(name))
    with pytest.raises(ValueError, match="holds no compressed entries"):
        lw.from_torch(tmp_path / "bomb.pt")


HEADERS = {
    "no units": ({"weight_ih_l0": [0, 10**12], "weight_hh_l0": [0, 0]}, r"weight_ih: expected \(4 \* hidden_size"),
    "no inputs": ({"weight_ih_l0": [4 * 10**12, 0], "weight_hh_l0": [4, 1]}, r"weight_ih: expected \(4 \* hidden_size"),
    "few numbers": ({"weight_ih_l0": [10**12, 3], "weight_hh_l0": [10**12, 1]}, "a truncated safetensors file|damaged"),
    "many layers": (dict.fromkeys(["weight_ih_l0", "weight_hh_l0", "weight_ih_l9999"], [4, 1]), "expected layers 0 to"),
    "a wide layer": ({"weight_ih_l0": [400_000, 1], "weight_hh_l0": [4, 1]}, r"expected \(400000, 100000\), got \(4,"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_claim_much_cost_little(name, tmp_path):
    shapes, message = HEADERS[name]
    header, end = {}, 0
    for tensor, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(min(end, 10**7)))
    tracemalloc.start()
    start = time.process_time()
    for read in (lw.from_torch, lambda path: lw.load(path, prefix="")):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "a")
    assert time.process_time() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_a_checkpoint_that_holds_itself_is_no_end():
    inside = nested = {}
    for _ in range(50):
        nested = {"a": nested, "b": nested}
    inside["c"] = nested
    with pytest.raises(ValueError, match="expected the tensors of an LSTM, got none"):
        lw.from_torch(nested)


def contents():
    tensors = nn.LSTM(2, 3).state_dict()
    for zipped in (True, False):
        content = io.BytesIO()
        torch.save(tensors, content, _use_new_zipfile_serialization=zipped)
        yield content.getvalue()
    from safetensors.numpy import save as to_bytes

    yield to_bytes({name: tensor.numpy() for name, tensor in tensors.items()})


@pytest.mark.parametrize("which", range(3), ids=["zip", "legacy", "safetensors"])
def test_mutated_files_are_value_errors(which, tmp_path):
    assert (
        mutations.are_read_or_refused(lw.from_torch, list(contents())[which], mutations.COUNT, tmp_path / "file.pt")
        > 0.5
    )
