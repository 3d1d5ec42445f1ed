"""Parameters of the drop-in are torch's own: every way to write, replace, convert and train them, beside torch.nn's."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import numpy as np  # noqa: E402
from torch.nn.utils import parameters_to_vector, prune, vector_to_parameters  # noqa: E402
from torch_programs import DROP_IN, gradients, same  # noqa: E402


def in_place(lstm):
    with torch.no_grad():
        lstm.weight_hh_l0.mul_(0.5)


def in_place_of_one_number(lstm):
    with torch.no_grad():
        lstm.bias_hh_l0[3] = 2.0


def through_data(lstm):
    lstm.weight_ih_l0.data[1, 2] += 1.0


def data_replaced(lstm):
    lstm.weight_ih_l0.data = torch.ones_like(lstm.weight_ih_l0)


def data_of_another_layout(lstm):
    lstm.weight_ih_l0.data = torch.randn(3, 20).t()


def through_numpy(lstm):
    lstm.weight_hh_l0.detach().numpy()[2, 3] = -4.0


def through_storage(lstm):
    np.frombuffer(lstm.bias_ih_l0.detach().numpy(), dtype=np.float32)[0] = 7.0


def last_bit(lstm):
    view = lstm.weight_hh_l0.detach().numpy().view(np.int32)
    view[0, 0] ^= 1 << 22


def loaded(lstm):
    lstm.load_state_dict({name: value + 0.25 for name, value in lstm.state_dict().items()})


def loaded_by_assignment(lstm):
    lstm.load_state_dict({name: value - 0.25 for name, value in lstm.state_dict().items()}, assign=True)


def in_the_state_dict(lstm):
    lstm.state_dict()["weight_ih_l0"].zero_()


def parameter_replaced(lstm):
    lstm.weight_hh_l0 = torch.nn.Parameter(torch.full((20, 5), 0.1))


def initialised(lstm):
    torch.nn.init.orthogonal_(lstm.weight_hh_l0)


def reset(lstm):
    lstm.reset_parameters()


def from_a_vector(lstm):
    vector_to_parameters(parameters_to_vector(lstm.parameters()).cos(), lstm.parameters())


def swapped_for_one_another(lstm):
    lstm.bias_ih_l0.data, lstm.bias_hh_l0.data = lstm.bias_hh_l0.data + 1, lstm.bias_ih_l0.data


def two_tied(lstm):
    lstm.bias_hh_l0 = lstm.bias_ih_l0


def flattened(lstm):
    lstm.flatten_parameters()
    lstm.weight_ih_l0.data.neg_()


def applied(lstm):
    lstm.apply(lambda module: [parameter.data.fill_(0.2) for parameter in module.parameters(recurse=False)])


def frozen(lstm):
    lstm.weight_ih_l0.requires_grad_(False)


WRITES = [
    in_place, in_place_of_one_number, through_data, data_replaced, data_of_another_layout, through_numpy,
    through_storage, last_bit, loaded, loaded_by_assignment, in_the_state_dict, parameter_replaced, initialised,
    reset, from_a_vector, swapped_for_one_another, two_tied, flattened, applied, frozen,
]  # fmt: skip


def written(layers, write, keeping):
    lstm = layers.LSTM(3, 5)
    x = torch.randn(2, 1, 3, requires_grad=True)
    before = []
    with torch.set_grad_enabled(keeping):
        for _ in range(3):
            before.append(lstm(x)[0])
    write(lstm)
    with torch.set_grad_enabled(keeping):
        after = lstm(x)[0]
    if keeping:
        after.square().sum().backward()
    return before, after, gradients(lstm, x), dict(lstm.named_parameters())


@pytest.mark.parametrize("keeping", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_is_seen(write, keeping):
    same(written, write, keeping)


def trained(layers, optimizer, **options):
    model = torch.nn.ModuleDict({"lstm": layers.LSTM(3, 6, 2, bidirectional=True, dtype=torch.float64)})
    model["head"] = torch.nn.Linear(12, 2, dtype=torch.float64)
    optimizer = optimizer(model.parameters(), **options)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    losses = []
    for _ in range(5):
        x = torch.randn(4, 3, 3, dtype=torch.float64)

        def closure(x=x):
            optimizer.zero_grad()
            loss = (model["head"](model["lstm"](x)[0]) - x[..., :2]).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).detach())
        scheduler.step()
    return losses, dict(model.named_parameters()), len(optimizer.state_dict()["state"])


OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "SGD foreach": (torch.optim.SGD, {"lr": 0.1, "foreach": True}),
    "SGD fused": (torch.optim.SGD, {"lr": 0.1, "fused": True}),
    "Adam": (torch.optim.Adam, {"lr": 0.01}),
    "Adam foreach": (torch.optim.Adam, {"lr": 0.01, "foreach": True}),
    "Adam fused": (torch.optim.Adam, {"lr": 0.01, "fused": True}),
    "AdamW fused": (torch.optim.AdamW, {"lr": 0.01, "fused": True}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "foreach": False}),
    "L-BFGS": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 3}),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_an_optimizer(case):
    optimizer, options = OPTIMIZERS[case]
    same(lambda layers: trained(layers, optimizer, **options), tolerance=1e-9)


def averaged(layers):
    lstm = layers.LSTM(3, 4, dtype=torch.float64)
    average = torch.optim.swa_utils.AveragedModel(lstm)
    for _ in range(3):
        with torch.no_grad():
            lstm.weight_hh_l0.add_(0.1)
        average.update_parameters(lstm)
    return average(torch.randn(5, 2, 3, dtype=torch.float64))


def test_an_averaged_model():
    same(averaged)


def converted(layers, convert):
    lstm = convert(layers.LSTM(3, 4, 2, bidirectional=True, proj_size=2))
    dtype = next(lstm.parameters()).dtype
    x = torch.randn(5, 2, 3, dtype=dtype, requires_grad=True)
    output, state = lstm(x)
    output.square().sum().backward()
    return output, state, gradients(lstm, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_change_of_dtype(dtype):
    same(converted, lambda lstm: lstm.to(dtype))
    same(converted, lambda lstm: lstm.double().to(dtype))


def names_and_values(layers, options):
    lstm = layers.LSTM(3, 4, **options)
    state = lstm.state_dict()
    other = layers.LSTM(3, 4, **options)
    other.load_state_dict(state)
    return {
        "state": state,
        "names": [name for name, _ in lstm.named_parameters()],
        "all_weights": [[tuple(weight.shape) for weight in layer] for layer in lstm.all_weights],
        "buffers": [name for name, _ in lstm.named_buffers()],
        "children": [name for name, _ in lstm.named_children()],
        "repr": repr(lstm),
        "mode": lstm.mode,
        "sizes": (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.proj_size, lstm.batch_first, lstm.dropout),
        "other": other(torch.ones(2, 2, 3)),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3, "dropout": 0.5},
        {"bidirectional": True, "proj_size": 2},
        {"bias": False, "batch_first": True},
    ],
    ids=str,
)
def test_names_and_initial_values(options):
    same(names_and_values, options)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_a_state_dict_that_does_not_fit(fault):
    def program(layers):
        lstm = layers.LSTM(3, 4)
        state = lstm.state_dict()
        if fault == "missing":
            del state["bias_hh_l0"]
        elif fault == "unexpected":
            state["weight_hh_l1"] = torch.zeros(16, 4)
        else:
            state["weight_hh_l0"] = torch.zeros(16, 5)
        with pytest.raises(RuntimeError) as caught:
            lstm.load_state_dict(state)
        return str(caught.value)

    same(program)


def test_state_dicts_both_ways():
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 3}
    theirs, ours = torch.nn.LSTM(4, 5, **options), DROP_IN.LSTM(4, 5, **options)
    x = torch.randn(6, 2, 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-6)
        ours.reset_parameters()
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-6)


def pruned(layers):
    lstm = layers.LSTM(3, 4, dtype=torch.float64)
    prune.l1_unstructured(lstm, "weight_hh_l0", amount=0.5)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    first, _ = lstm(x)
    first.sum().backward()
    found = first, gradients(lstm)
    prune.remove(lstm, "weight_hh_l0")
    return found, lstm(x)


def weight_normed(layers):
    lstm = layers.LSTM(3, 4, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        lstm = torch.nn.utils.weight_norm(lstm, "weight_hh_l0")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    output, _ = lstm(x)
    output.square().sum().backward()
    return output, gradients(lstm), repr(lstm)


def parametrised(layers):
    lstm = layers.LSTM(3, 4, dtype=torch.float64)
    torch.nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    output, _ = lstm(x)
    output.square().sum().backward()
    return output, gradients(lstm)


@pytest.mark.parametrize("program", [pruned, weight_normed, parametrised], ids=lambda program: program.__name__)
def test_weights_that_are_computed(program):
    same(program)


def subclassed(layers):
    class Residual(layers.LSTM):
        def forward(self, x, hx=None):
            output, state = super().forward(x, hx)
            return output + x, state

    lstm = Residual(4, 4, batch_first=True, dtype=torch.float64)
    x = torch.randn(5, 2, 4, dtype=torch.float64, requires_grad=True)
    lstm(x)[0].square().sum().backward()
    return repr(lstm), gradients(lstm, x)


def test_a_subclass():
    same(subclassed)
