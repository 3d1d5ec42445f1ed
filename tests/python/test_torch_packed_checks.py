"""What torch.nn.LSTM does not check before it reads memory: packed sequences, their start states, replaced weights."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence  # noqa: E402
from torch_programs import DROP_IN, TORCH, agree, same  # noqa: E402


def packed(*shape, dtype=torch.float32):
    return pack_padded_sequence(torch.zeros(*shape, dtype=dtype), torch.tensor([shape[0]] * shape[1]))


def zeros(*shape, **options):
    return torch.zeros(*shape, **options)


# Some of these are computed by torch.nn.LSTM, though they have no meaning, and some write beyond the end of a tensor.
BAD = {
    "too many features": lambda lstm: lstm(packed(5, 2, 4)),
    "too few features": lambda lstm: lstm(packed(5, 2, 2)),
    "a state for more rows": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 3, 4),) * 2),
    "a state for fewer rows": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 1, 4),) * 2),
    "a state for other layers": lambda lstm: lstm(packed(5, 2, 3), (zeros(2, 2, 4),) * 2),
    "a state of another size": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 2, 5),) * 2),
    "h_0 alone of another size": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 2, 5), zeros(1, 2, 4))),
    "c_0 alone for fewer rows": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 2, 4), zeros(1, 1, 4))),
    "a state in float64": lambda lstm: lstm(packed(5, 2, 3), (zeros(1, 2, 4, dtype=torch.float64),) * 2),
    "a size of 0": lambda lstm: lstm(PackedSequence(zeros(2, 3), torch.tensor([2, 0]))),
    "sizes that grow": lambda lstm: lstm(PackedSequence(zeros(3, 3), torch.tensor([1, 2]))),
    "sizes of too many rows": lambda lstm: lstm(PackedSequence(zeros(5, 3), torch.tensor([3, 3]))),
    "sizes of too few rows": lambda lstm: lstm(PackedSequence(zeros(5, 3), torch.tensor([2, 2]))),
    "sizes in int32": lambda lstm: lstm(PackedSequence(zeros(4, 3), torch.tensor([2, 2], dtype=torch.int32))),
    "sizes in float32": lambda lstm: lstm(PackedSequence(zeros(4, 3), torch.tensor([2.0, 2.0]))),
    "sizes of two axes": lambda lstm: lstm(PackedSequence(zeros(4, 3), torch.tensor([[2, 2]]))),
    "data of three axes": lambda lstm: lstm(PackedSequence(zeros(4, 1, 3), torch.tensor([2, 2]))),
    "an order of too few rows": lambda lstm: lstm(
        PackedSequence(zeros(4, 3), torch.tensor([2, 2]), torch.tensor([0])), (zeros(1, 2, 4),) * 2
    ),
    "an order of too many rows": lambda lstm: lstm(
        PackedSequence(zeros(4, 3), torch.tensor([2, 2]), torch.tensor([0, 1, 2])), (zeros(1, 2, 4),) * 2
    ),
}


@pytest.mark.parametrize("options", [{}, {"peephole": True}], ids=["plain", "variant"])
@pytest.mark.parametrize("case", BAD)
def test_packed_sequences_are_checked(case, options):
    with pytest.raises((ValueError, RuntimeError)):
        BAD[case](DROP_IN.LSTM(3, 4, **options))


@pytest.mark.parametrize("case", ["too many features", "a state for fewer rows", "a size of 0"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_packed_sequences_are_checked_where_pytorch_computes(case, dtype):
    """In a dtype that the core does not have, and with weights in another one."""
    with pytest.raises((ValueError, RuntimeError)):
        BAD[case](DROP_IN.LSTM(3, 4, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises((ValueError, RuntimeError)):
        BAD[case](DROP_IN.LSTM(3, 4))


def test_sizes_that_do_not_lie_side_by_side():
    def program(layers):
        lstm, x = layers.LSTM(3, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
        sizes = torch.tensor([3, 9, 2, 9, 1, 9])[::2]
        if layers is TORCH:  # it reads them as if they lay side by side
            sizes = sizes.contiguous()
        output, state = lstm(PackedSequence(x, sizes))
        output.data.square().sum().backward()
        return output.data, state, x.grad

    same(program)


def test_traced_packed_sequences():
    """The checks add nothing to a trace, and warn of nothing."""

    def program(layers):
        lstm = layers.LSTM(3, 4, dtype=torch.float64).requires_grad_(False)

        def last(x):
            return lstm(pack_padded_sequence(x, torch.tensor([5, 4])))[1][0]

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pack_padded_sequence")
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)  # some versions say that tracing is deprecated
            traced = torch.jit.trace(last, torch.zeros(5, 2, 3, dtype=torch.float64))
        return str(traced.graph).count("aten::"), traced(torch.ones(5, 2, 3, dtype=torch.float64))

    given, expected = (program(layers) for layers in seeded(DROP_IN, TORCH))
    assert given[0] == expected[0]
    agree(given[1], expected[1])


def seeded(*namespaces):
    for layers in namespaces:
        torch.manual_seed(0)
        yield layers


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weight_ih_l0", (16, 2)),
        ("weight_ih_l0", (4, 3)),
        ("weight_hh_l0", (16, 3)),
        ("weight_hh_l0", (4,)),
        ("weight_ih_l1_reverse", (16, 4)),
        ("bias_hh_l1", (1,)),
    ],
)
@pytest.mark.parametrize("recorded", [True, False])
def test_replaced_weights_are_checked(name, shape, recorded):
    lstm = DROP_IN.LSTM(3, 4, 2, bidirectional=True)
    setattr(lstm, name, torch.nn.Parameter(zeros(*shape)))
    with torch.set_grad_enabled(recorded):
        for x in (zeros(5, 2, 3), zeros(5, 3), packed(5, 2, 3)):
            with pytest.raises(RuntimeError, match=f"{name}: expected shape"):
                lstm(x)


def test_a_replaced_projection_is_checked():
    lstm = DROP_IN.LSTM(3, 4, proj_size=2)
    lstm.weight_hr_l0 = torch.nn.Parameter(zeros(2, 3))
    with pytest.raises(RuntimeError, match="weight_hr_l0: expected shape"):
        lstm(zeros(5, 2, 3))
