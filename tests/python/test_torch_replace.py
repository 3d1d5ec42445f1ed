"""Models of PyTorch's whose LSTMs Latchwork computes: what is swapped, what is left, and what stays as it was."""

import copy
import io
import pickle
import re
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import latchwork.torch as lwt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from torch_graphs import fresh_compiler  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Tagger(nn.Module):
    """Two layers in different places, one of them under two names."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True)
        self.cells = nn.ModuleList([nn.LSTMCell(10, 4), nn.LSTMCell(4, 4, bias=False)])
        self.again = self.cells[1]
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        output, _ = self.lstm(x)
        states = [None, None]
        for step in output.unbind(1):
            for place, cell in enumerate(self.cells):
                states[place] = cell(step, states[place])
                step = states[place][0]
        return self.head(self.again(step, states[1])[0])


def kinds(model):
    return [type(module) for module in model.modules() if isinstance(module, (nn.LSTM, nn.LSTMCell))]


def gradients(model, x):
    model.zero_grad()
    output = model(x)
    output.square().sum().backward()
    return [output.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def never(*arguments):
    raise AssertionError("PyTorch's own code computed an LSTM")


def test_a_model_gives_the_same_and_is_given_back(monkeypatch):
    model = Tagger().double()
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    expected = gradients(model, x)
    parameters, modules = list(model.named_parameters()), list(model.modules())
    attributes = [sorted(vars(module)) for module in modules]
    report = lwt.replace(model)
    assert [(each.path, each.kind, each.input_size, each.hidden_size, each.also) for each in report.swapped] == [
        ("lstm", "LSTM", 3, 5, ()),
        ("cells.0", "LSTMCell", 10, 4, ()),
        ("cells.1", "LSTMCell", 4, 4, ("again",)),
    ]
    assert report.left == ()
    assert kinds(model) == [lwt.LSTM, lwt.LSTMCell, lwt.LSTMCell]
    assert all(one is other for one, other in zip(model.modules(), modules, strict=True))
    for (name, parameter), (other_name, other) in zip(model.named_parameters(), parameters, strict=True):
        assert name == other_name
        assert parameter is other
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.modules.rnn._VF, "lstm", never)  # PyTorch's own code computes none of it
        patch.setattr(torch.nn.modules.rnn._VF, "lstm_cell", never)
        for ours, theirs in zip(gradients(model, x), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    back = lwt.restore(model)
    assert back == report
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert kinds(model) == [nn.LSTM, nn.LSTMCell, nn.LSTMCell]
    for ours, theirs in zip(gradients(model, x), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_report_is_a_table():
    model = nn.ModuleDict({"encoder": nn.LSTM(8, 32, 2), "rough": nn.LSTM(2, 3).half(), "cell": nn.LSTMCell(2, 3)})
    model["twin"] = model["encoder"]
    report = lwt.replace(model)
    assert repr(report).splitlines() == [
        "Report: 2 swapped, 1 left",
        "  swapped  encoder  LSTM(8, 32, num_layers=2) (also twin)",
        "  swapped  cell     LSTMCell(2, 3)",
        "  left     rough    LSTM: its dtype is torch.float16, not float32 or float64",
    ]
    assert repr(lwt.replace(nn.Linear(2, 3))) == "Report: 0 swapped, 0 left"
    assert "(the model)" in repr(lwt.replace(nn.LSTM(2, 3)))


@pytest.mark.parametrize("made", [lambda: nn.LSTM(3, 5), lambda: nn.LSTMCell(3, 5)], ids=["LSTM", "LSTMCell"])
def test_a_model_that_is_one_itself(made):
    model = made()
    assert [each.path for each in lwt.replace(model).swapped] == [""]
    assert isinstance(model, (lwt.LSTM, lwt.LSTMCell))
    lwt.restore(model)
    assert type(model) in (nn.LSTM, nn.LSTMCell)
    assert "replaced" not in repr(sorted(vars(model)))


def test_twice_is_as_once():
    model = Tagger()
    lwt.replace(model)
    again = lwt.replace(model)
    assert not again.swapped
    assert [(each.path, each.reason) for each in again.left] == [
        (path, "it is Latchwork's already") for path in ("lstm", "cells.0", "cells.1")
    ]
    assert len(lwt.restore(model).swapped) == 3
    assert lwt.restore(model) == lwt.Report((), ())


def test_what_was_made_as_latchwork_s_is_not_given_back():
    model = nn.ModuleList([lwt.LSTM(3, 5), nn.LSTM(3, 5)])
    lwt.replace(model)
    assert [each.path for each in lwt.restore(model).swapped] == ["1"]
    assert kinds(model) == [lwt.LSTM, nn.LSTM]


def test_hooks_modes_and_flags_stay():
    model = Tagger().eval()
    model.lstm.weight_hh_l1.requires_grad_(False)
    seen = []
    model.lstm.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    model.lstm.register_forward_hook(lambda module, arguments, output: seen.append(type(module)))
    model.lstm.register_full_backward_hook(lambda module, d_input, d_output: seen.append("backward"))
    model.lstm.weight_ih_l0.register_hook(lambda gradient: seen.append("gradient"))
    model.lstm.extra = "kept"
    lwt.replace(model)
    assert not model.lstm.training
    assert not model.lstm.weight_hh_l1.requires_grad
    assert model.lstm.extra == "kept"
    model(torch.randn(2, 3, 3, requires_grad=True)).sum().backward()
    assert seen[:2] == ["before", lwt.LSTM]
    assert sorted(seen[2:]) == ["backward", "gradient"]
    assert model.lstm.weight_hh_l1.grad is None
    model.train()
    assert model.lstm.training


def test_an_optimiser_and_tied_weights_go_on():
    model = nn.ModuleList([nn.LSTM(5, 5), nn.LSTM(5, 5)])
    model[1].weight_hh_l0 = model[0].weight_hh_l0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lwt.replace(model)
    x = torch.randn(4, 2, 5)
    before = model[0].weight_hh_l0.detach().clone()
    model[1](model[0](x)[0])[0].sum().backward()
    optimizer.step()
    assert model[0].weight_hh_l0 is model[1].weight_hh_l0
    assert not torch.equal(before, model[0].weight_hh_l0)


def test_what_else_holds_a_layer_sees_the_swap():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 5)
            self.unregistered = [nn.LSTM(2, 2), {"deep": (nn.LSTMCell(2, 2), nn.Sequential(nn.LSTM(4, 4)))}]
            self.__dict__["bare"] = nn.LSTMCell(6, 6)
            self.loop = [self]
            self.loop.append(self.loop)

    model = Model()
    held = [model.lstm]
    report = lwt.replace(model)
    assert [(each.path, each.input_size) for each in report.swapped] == [
        ("lstm", 3),
        ("unregistered[0]", 2),
        ("unregistered[1]['deep'][0]", 2),
        ("unregistered[1]['deep'][1].0", 4),
        ("bare", 6),
    ]
    assert type(held[0]) is lwt.LSTM
    assert type(model.unregistered[0]) is lwt.LSTM
    assert len(lwt.restore(model).swapped) == 5
    assert type(model.bare) is nn.LSTMCell


class Own(nn.LSTM):
    def forward(self, input, hx=None):
        output, state = super().forward(input, hx)
        return 2 * output, state


class OwnCell(nn.LSTMCell):
    pass


class WeightDrop(nn.Module):
    """As in the code of the AWD-LSTM: the weight of the module is made anew before each call."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        raw = module.weight_hh_l0
        del module._parameters["weight_hh_l0"]
        module.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
        module.weight_hh_l0 = nn.functional.dropout(raw.data, 0.5)


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still much used
        return nn.utils.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")


def patched(name):
    lstm = nn.LSTM(3, 5)
    setattr(lstm, name, getattr(lstm, name))
    return lstm


def quantised(*modules):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao's is deprecated
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(*modules), {nn.LSTM, nn.LSTMCell})


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so is TorchScript
        return torch.jit.script(nn.Sequential(nn.LSTM(3, 5)))


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.LSTM(3, 5), torch.ones(2, 2, 3))


def mixed():
    lstm = nn.LSTM(3, 5)
    lstm.bias_hh_l0 = nn.Parameter(lstm.bias_hh_l0.double())
    return lstm


def other_flat_weights():
    lstm = nn.LSTM(3, 5)
    lstm._flat_weights = [weight * 1 for weight in lstm._flat_weights]
    return lstm


LEFT = {
    "subclass": (lambda: Own(3, 5), "", r"it is of a subclass, test_torch_replace\.Own, which may"),
    "subclass of the cell": (lambda: OwnCell(3, 5), "", r"it is of a subclass, test_torch_replace\.OwnCell"),
    "ours": (lambda: lwt.LSTM(3, 5), "", "it is Latchwork's already"),
    "meta": (lambda: nn.LSTM(3, 5, device="meta"), "", "it is on meta, not on the CPU"),
    "half": (lambda: nn.LSTM(3, 5).half(), "", "its dtype is torch.float16, not float32 or float64"),
    "bfloat16 cell": (lambda: nn.LSTMCell(3, 5).bfloat16(), "", "its dtype is torch.bfloat16"),
    "mixed": (mixed, "", "its dtype is torch.float32 and torch.float64"),
    "weight_norm": (weight_normed, "", "its weight_hh_l0 is no parameter, but computed from weight_hh_l0_g and"),
    "parametrised": (
        lambda: parametrizations.weight_norm(nn.LSTM(3, 5), "weight_ih_l0"), "", "it is parametrised: weight_ih_l0",
    ),
    "parametrised cell": (
        lambda: parametrizations.orthogonal(nn.LSTMCell(3, 5), "weight_hh"), "", "it is parametrised: weight_hh",
    ),
    "spectral_norm": (
        lambda: parametrizations.spectral_norm(nn.LSTM(3, 5), "weight_hh_l0"), "", "it is parametrised: weight_hh_l0",
    ),
    "old spectral_norm of a cell": (
        lambda: nn.utils.spectral_norm(nn.LSTMCell(3, 5), "weight_hh"), "", "computed from weight_hh_orig",
    ),
    "pruned": (
        lambda: prune.l1_unstructured(nn.LSTM(3, 5), "weight_ih_l0", 0.5), "", "computed from weight_ih_l0_orig",
    ),
    "weight drop": (lambda: WeightDrop(nn.LSTM(3, 5)), "module", "computed from weight_hh_l0_raw, as by"),
    "forward": (lambda: patched("forward"), "", "its method forward was replaced"),
    "another method": (lambda: patched("check_forward_args"), "", "its method check_forward_args was replaced"),
    "flat weights": (other_flat_weights, "", "it computes with other tensors than its parameters"),
    "quantised": (lambda: quantised(nn.LSTM(3, 5)), "0", r"it is quantised, .* torch\.ao\.nn\.quantized\.dynamic"),
    "quantised cell": (lambda: quantised(nn.LSTMCell(3, 5)), "0", "it is quantised"),
    "quantisable": (lambda: nn.Sequential(torch.ao.nn.quantizable.LSTM(3, 5)), "0", "it is quantised, or prepared"),
    "scripted": (scripted, "0", "it is scripted or traced"),
    "traced": (traced, "", "it is scripted or traced"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left(case):
    made, path, reason = LEFT[case]
    model = made()
    before = [type(module) for module in model.modules()]
    report = lwt.replace(model)
    assert report.swapped == ()
    assert [each.path for each in report.left] == [path]
    assert report.left[0].kind == (
        "LSTMCell" if "cell" in case or case in ("bfloat16", "old spectral_norm") else "LSTM"
    )
    assert re.search(reason, report.left[0].reason), report.left[0].reason
    assert [type(module) for module in model.modules()] == before


def without_parametrisation():
    lstm = parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")
    return torch.nn.utils.parametrize.remove_parametrizations(lstm, "weight_hh_l0")


def without_weight_norm():
    return nn.utils.remove_weight_norm(weight_normed(), "weight_hh_l0")


def no_longer_pruned():
    return prune.remove(prune.l1_unstructured(nn.LSTM(3, 5), "weight_ih_l0", 0.5), "weight_ih_l0")


def with_assigned_state():
    lstm = nn.LSTM(3, 5, device="meta")
    lstm.load_state_dict(nn.LSTM(3, 5).state_dict(), assign=True)
    return lstm


def with_another_parameter():
    lstm = nn.LSTM(3, 5)
    lstm._parameters["weight_hh_l0"] = nn.Parameter(torch.ones(20, 5))
    return lstm


def with_another_parameter_and_no_call_since():
    lstm = nn.LSTM(3, 5)
    lstm.register_parameter("weight_hh_l0", nn.Parameter(torch.ones(20, 5)))
    return lstm


MENDED = [without_parametrisation, without_weight_norm, no_longer_pruned, with_assigned_state, with_another_parameter,
          lambda: copy.deepcopy(nn.LSTM(3, 5)), lambda: pickle.loads(pickle.dumps(nn.LSTM(3, 5)))]  # fmt: skip


@pytest.mark.parametrize("made", MENDED, ids=lambda made: made.__name__)
def test_what_is_an_lstm_again_is_swapped(made):
    model = made()
    x = torch.randn(4, 2, 3)
    plain = nn.LSTM(3, 5)
    plain.load_state_dict(model.state_dict())  # a copy of the model would have PyTorch put its weights in order
    expected = plain(x)[0]
    assert lwt.replace(model).left == ()
    torch.testing.assert_close(model(x)[0], expected, rtol=0, atol=1e-6)


def test_a_class_that_other_code_changed_is_left(monkeypatch):
    def forward(self, input, hx=None):
        return None

    monkeypatch.setattr(nn.LSTM, "forward", forward)
    (left,) = lwt.replace(nn.LSTM(3, 5)).left
    assert left.reason == "the method forward of nn.LSTM was replaced, by test_torch_replace"


def test_what_was_parametrised_since_is_not_given_back():
    model = nn.Sequential(nn.LSTM(3, 5))
    lwt.replace(model)
    parametrizations.weight_norm(model[0], "weight_hh_l0")
    report = lwt.restore(model)
    assert report.swapped == ()
    assert [each.reason for each in report.left] == ["its class has become ParametrizedLSTM since it was replaced"]
    torch.nn.utils.parametrize.remove_parametrizations(model[0], "weight_hh_l0")
    assert len(lwt.restore(model).swapped) == 1


def test_types():
    for call in (lwt.replace, lwt.restore):
        for model in (None, [nn.LSTM(2, 3)], nn.LSTM):
            with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got "):
                call(model)


def copies(model):
    content = io.BytesIO()
    torch.save(model, content)
    content.seek(0)
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    yield torch.load(content, weights_only=False)


def test_copies_and_files_of_a_replaced_model():
    model = Tagger()
    lwt.replace(model)
    x = torch.randn(2, 3, 3)
    expected = model(x)
    for made in copies(model):
        assert kinds(made) == kinds(model)
        assert torch.equal(made(x), expected)
        assert made.lstm.weight_ih_l0 is not model.lstm.weight_ih_l0
        assert len(lwt.restore(made).swapped) == 3
        torch.testing.assert_close(made(x), expected, rtol=0, atol=1e-5)
        assert kinds(model) == [lwt.LSTM, lwt.LSTMCell, lwt.LSTMCell]


def test_checkpoints_go_both_ways():
    theirs, ours = Tagger(), Tagger()
    lwt.replace(ours)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    x = torch.randn(2, 3, 3)
    for source, target in ((theirs, ours), (ours, theirs)):
        nn.init.uniform_(source.lstm.weight_ih_l0)
        content = io.BytesIO()
        torch.save(source.state_dict(), content)
        content.seek(0)
        assert not any(target.load_state_dict(torch.load(content, weights_only=True)))
        torch.testing.assert_close(target(x), source(x), rtol=0, atol=1e-5)
        for name, tensor in source.state_dict().items():
            assert torch.equal(tensor, target.state_dict()[name])
    content = io.BytesIO()
    torch.save({"model": ours.state_dict()}, content)
    content.seek(0)
    theirs.load_state_dict(torch.load(content, weights_only=True)["model"], assign=True)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


@pytest.fixture
def process_group(tmp_path):
    import torch.distributed as dist

    if not dist.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("replaced_first", [True, False])
def test_distributed_data_parallel(process_group, replaced_first):
    model = Tagger().double()
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    expected = gradients(model, x)
    if replaced_first:
        lwt.replace(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    if not replaced_first:
        assert [each.path for each in lwt.replace(wrapped).swapped] == [
            "module.lstm",
            "module.cells.0",
            "module.cells.1",
        ]
    for _ in range(2):
        for ours, theirs in zip(gradients(wrapped, x), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_data_parallel():
    model = nn.DataParallel(nn.Sequential(nn.LSTM(3, 5)))
    x = torch.randn(4, 2, 3)
    expected, _ = model(x)
    assert [each.path for each in lwt.replace(model).swapped] == ["module.0"]
    torch.testing.assert_close(model(x)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
@pytest.mark.parametrize("replaced_first", [True, False])
def test_a_compiled_model(replaced_first):
    with fresh_compiler():
        model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 5))
        x = torch.randn(4, 2, 3)
        expected, _ = model(x)
        if replaced_first:
            lwt.replace(model)
            called = []
            model[1].register_forward_hook(lambda module, arguments, output: called.append(type(module)))
        compiled = torch.compile(model, backend="eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(x)[0], expected, rtol=0, atol=1e-6)
        if replaced_first:
            assert called == [lwt.LSTM] * 2
        else:  # code that is compiled already may stay in use
            assert [each.path for each in lwt.replace(compiled).swapped] == ["_orig_mod.1"]
        lwt.restore(compiled)
        assert type(model[1]) is nn.LSTM
        torch.testing.assert_close(compiled(x)[0], expected, rtol=0, atol=1e-6)


def test_dtypes_and_settings_that_change_after_the_swap():
    model = nn.LSTM(3, 5, 2)
    lwt.replace(model)
    assert model.double()(torch.randn(4, 2, 3, dtype=torch.float64))[0].dtype == torch.float64
    model.batch_first = True
    assert model(torch.randn(4, 2, 3, dtype=torch.float64))[1][0].shape == (2, 4, 5)
    model.dropout = 1.0
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    kept, dropped = model.eval()(x)[0], model.train()(x)[0]
    assert not torch.equal(kept, dropped)
