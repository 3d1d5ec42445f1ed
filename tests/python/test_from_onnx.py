"""Models from ONNX graphs: chains of layers with the plumbing of exporters, single steps, and what is refused."""

import warnings
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits, difference
from layers import normal
from safetensors.numpy import load_file

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx_graphs  # noqa: E402
import onnx_plumbing  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from onnx_graphs import constants, lstm, node  # noqa: E402

KEPT = Path(__file__).parent / "golden" / "onnx"


def expected(model, **inputs):
    """What ONNX Runtime gives."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


@pytest.mark.parametrize("part", range(6))
def test_random_plumbing(part):
    """What is read gives the graph's own numbers, whatever stands between the LSTMs; the rest is refused."""
    read = 0
    for seed in range(40 * part, 40 * part + 40):
        model, x = onnx_plumbing.random_graph(seed)
        (answer,) = expected(model, x=x)
        try:
            ours = lw.from_onnx(model)
        except ValueError:
            assert lw.onnx_lstms(model)
            continue
        read += 1
        output = ours(x)[0]
        assert difference(output.reshape(answer.shape), answer) < 1e-5, (seed, ours)
        longer = np.concatenate([x, x], axis=1)  # other sizes than the file's
        assert ours(longer)[0].shape[-1] == output.shape[-1]
    assert read >= 5


def chain(middle, inputs=None, extra=(), outputs="out", **options):
    """A graph with one LSTM on "x", and nodes around it; those before the LSTM make its "x"."""
    made, weights = lstm(**options)
    nodes = [made if each == "lstm" else each for each in middle]
    inputs = {"x": ["T", "N", 4]} if inputs is None else inputs
    return onnx_graphs.model(nodes, inputs, dict.fromkeys(outputs.split()), [*weights, *extra])


SQUEEZE = node("Squeeze", "y one", "s")
ONE = constants(one=[1])


def test_only_an_lstm_is_an_lstm():
    model = lw.from_onnx(onnx_graphs.plain())
    assert isinstance(model, lw.LSTM)
    assert not model.batch_first


@pytest.mark.parametrize("source", ["path", "text", "bytes"])
def test_sources(source, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_graphs.plain().SerializeToString())
    given = {"path": path, "text": str(path), "bytes": path.read_bytes()}[source]
    assert_same_bits(lw.from_onnx(given).state_dict(), lw.from_onnx(onnx_graphs.plain()).state_dict())


def test_weights_computed_from_constants():
    """W cut and joined, transposed, converted and scaled, as exporters leave it."""
    file = onnx_graphs.plain()
    values = {each.name: numpy_helper.to_array(each) for each in file.graph.initializer}
    w = values["lstm.W"]
    kept = [each for each in file.graph.initializer if each.name != "lstm.W"]
    del file.graph.initializer[:]
    numbers = {
        "flat": (w[0].T * 2).astype(np.float64),
        "half": np.float64(0.5),
        "cut": [7],
        "end": [2**62],
        "zero": [0],
    }
    file.graph.initializer.extend([*kept, *constants(**numbers)])
    made = [
        node("Transpose", "flat", "t", perm=[1, 0]), node("Mul", "t half", "m"), node("Cast", "m", "f", to=1),
        node("Slice", "f zero cut zero", "a"), node("Slice", "f cut end zero", "b"),
        node("Concat", "a b", "j", axis=0), node("Unsqueeze", "j zero", "w"),
    ]  # fmt: skip
    before = list(file.graph.node)
    before[0].input[1] = "w"
    del file.graph.node[:]
    file.graph.node.extend([*made, *before])
    assert_same_bits(lw.from_onnx(file).parameters["weight_ih_l0"][:5], w[0, :5])


def test_a_tagger():
    file = onnx_graphs.tagger()
    file.graph.node.pop()
    file.graph.node[-1].output[0] = "out"
    tokens = np.random.RandomState(1).randint(0, 9, (3, 6))
    model = lw.from_onnx(file)
    assert [type(layer) for layer in model] == [lw.Embedding, lw.LSTM, lw.Linear]
    assert model.batch_first
    assert_close(model(tokens)[0], expected(file, tokens=tokens)[0], 1e-5)


def test_one_step_of_tensorflow():
    file = onnx_graphs.cell()
    model = lw.from_onnx(file)
    x, h, c = normal(1, (3, 4)), normal(2, (3, 5)), normal(3, (3, 5))
    output, (h_n, c_n) = model(x[np.newaxis], (h[np.newaxis], c[np.newaxis]))
    answer = expected(file, x=x, h=h, c=c)
    for actual, each in zip((output[0], h_n[0], c_n[0]), (answer[0], *answer), strict=True):
        assert_close(actual, each, 1e-6)


def written_out(order="ifgo", size=4, hidden=5, seed=0, activation="Tanh", gate="Sigmoid", swap=False):
    """A step as PyTorch's LSTMCell is exported, gates in any order."""
    letters = {letter: place for place, letter in enumerate(order)}
    parts = [f"p{place}" for place in range(4)]
    kinds = [activation if letter == "g" else gate for letter in order]
    gates = {letter: f"{letter}_" for letter in order}
    nodes = [
        node("Gemm", "h R rb", "a", transB=1), node("Gemm", "x W wb", "b", transB=1), node("Add", "a b", "z"),
        helper.make_node("Split", ["z", "four"], parts, axis=1, name="split"),
        *[node(kind, parts[letters[letter]], gates[letter]) for letter, kind in zip(order, kinds, strict=True)],
        node("Mul", "c f_" if swap else "f_ c", "fc"), node("Mul", "g_ i_" if swap else "i_ g_", "ig"),
        node("Add", "ig fc" if swap else "fc ig", "cn"), node("Tanh", "cn", "tc"),
        node("Mul", "tc o_" if swap else "o_ tc", "hn"),
    ]  # fmt: skip
    weights = constants(R=normal(seed, (4 * hidden, hidden)), rb=normal(seed + 1, (4 * hidden,)),
                        W=normal(seed + 2, (4 * hidden, size)), wb=normal(seed + 3, (4 * hidden,)),
                        four=[hidden] * 4)  # fmt: skip
    inputs = {"x": ["N", size], "h": ["N", hidden], "c": ["N", hidden]}
    return onnx_graphs.model(nodes, inputs, {"hn": None, "cn": None}, weights)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("order", ["ifgo", "oigf", "gofi"])
def test_one_step_whatever_the_order_of_gates(order, size, swap):
    file = written_out(order, size, swap=swap)
    model = lw.from_onnx(file)
    assert isinstance(model, lw.LSTM)
    x, h, c = normal(1, (3, size)), normal(2, (3, 5)), normal(3, (3, 5))
    output, (h_n, c_n) = model(x[np.newaxis], (h[np.newaxis], c[np.newaxis]))
    answer = expected(file, x=x, h=h, c=c)
    for actual, each in zip((output[0], h_n[0], c_n[0]), (answer[0], *answer), strict=True):
        assert_close(actual, each, 1e-6)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("inputs", ["hcx", "chx", "xch"])
def test_one_step_whose_states_may_come_first(inputs, size):
    file = written_out(size=size)
    in_order = sorted(file.graph.input, key=lambda each: inputs.index(each.name))
    del file.graph.input[:]
    file.graph.input.extend(in_order)
    if size == 5:  # as many features as units: either may be the state
        with pytest.raises(ValueError, match="no LSTM in it"):
            lw.from_onnx(file)
        return
    x, h, c = normal(1, (3, size)), normal(2, (3, 5)), normal(3, (3, 5))
    output = lw.from_onnx(file)(x[np.newaxis], (h[np.newaxis], c[np.newaxis]))[0]
    assert_close(output[0], expected(file, x=x, h=h, c=c)[0], 1e-6)


def test_one_step_with_other_activations():
    file = written_out(activation="Softsign", gate="HardSigmoid")
    model = lw.from_onnx(file)
    assert model.activations["candidate"] == "softsign"
    x, h, c = normal(1, (3, 4)), normal(2, (3, 5)), normal(3, (3, 5))
    assert_close(model(x[np.newaxis], (h[np.newaxis], c[np.newaxis]))[0][0], expected(file, x=x, h=h, c=c)[0], 1e-6)


def test_a_coupled_step():
    file = written_out()
    nodes = [each for each in file.graph.node if "f_" not in each.output]
    at = next(place for place, each in enumerate(nodes) if "f_" in each.input)
    nodes.insert(at, node("Sub", "unit i_", "f_"))
    del file.graph.node[:]
    file.graph.node.extend(nodes)
    file.graph.initializer.extend(constants(unit=np.float32(1)))
    model = lw.from_onnx(file)
    assert model.forget_gate == "coupled"
    x, h, c = normal(1, (3, 4)), normal(2, (3, 5)), normal(3, (3, 5))
    assert_close(model(x[np.newaxis], (h[np.newaxis], c[np.newaxis]))[0][0], expected(file, x=x, h=h, c=c)[0], 1e-6)


def test_what_only_looks_like_a_step_is_refused():
    """The output gate from another product, or the cell of another step."""
    for name, other in (("c", "x"), ("fc", "c")):
        file = written_out(size=5)
        for each in file.graph.node:
            if each.op_type in ("Mul", "Add") and name in each.input and each.output[0] in ("fc", "cn"):
                each.input[list(each.input).index(name)] = other
        with pytest.raises(ValueError, match="no LSTM"):
            lw.from_onnx(file)


CONV = node("Conv", "u k", "x")
CUSTOM = helper.make_node("Relu", ["s"], ["out"], name="r", domain="mine")
# (name, nodes before and after the LSTM, what the refusal says; None: nothing)
REFUSED = [
    ("before", [CONV, "lstm", SQUEEZE, node("Identity", "s", "out")], "Conv 'Conv x' has no counterpart"),
    ("after", ["lstm", SQUEEZE, node("LRN", "s", "out", size=3)], "LRN 'LRN out' has no counterpart"),
    ("cell", ["lstm", node("Relu", "yc", "out")], "Relu 'Relu out' has no counterpart"),
    ("custom", ["lstm", SQUEEZE, CUSTOM], "Relu 'r' has no counterpart"),
    ("two", ["lstm", SQUEEZE, node("Relu", "s", "r"), node("Add", "s r", "out")], "no counterpart"),
    ("data and state", ["lstm", SQUEEZE, node("Mul", "s s", "out")], "Mul 'Mul out' has no counterpart"),
    ("axes", ["lstm", SQUEEZE, node("Transpose", "s", "out", perm=[1, 0, 2])], "the order of steps and rows"),
    ("features", ["lstm", SQUEEZE, node("Transpose", "s", "out", perm=[0, 2, 1])], None),
    ("sum of rows", ["lstm", SQUEEZE, node("ReduceSum", "s one", "out")], "ReduceSum"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals_name_what_stands_in_the_way(nodes, message):
    inputs = {"u": ["T", "N", 4]} if any(getattr(each, "op_type", "") == "Conv" for each in nodes) else None
    file = chain(nodes, inputs, [*ONE, *constants(k=normal(3, (4, 4, 1)))])
    if message is None:
        assert_close(lw.from_onnx(file)(normal(1, (5, 3, 4)))[0], 0, np.inf)
        return
    with pytest.raises(ValueError, match=message) as caught:
        lw.from_onnx(file)
    assert "node='lstm' takes it out" in str(caught.value)
    assert "'lstm' (4 -> 5)" in str(caught.value)
    taken = lw.from_onnx(file, node="lstm")
    x = normal(1, (5, 3, 4))
    assert_same_bits(taken(x)[0], lw.from_onnx(chain(["lstm", node("Squeeze", "y one", "out")], extra=ONE))(x)[0])


def test_nodes_that_are_not_there():
    with pytest.raises(ValueError, match="node: expected one of 'lstm', got 'other', no LSTM's name"):
        lw.from_onnx(onnx_graphs.plain(), node="other")
    with pytest.raises(TypeError, match="node: expected str or None, got int"):
        lw.from_onnx(onnx_graphs.plain(), node=3)


def test_several_outputs_and_no_lstm():
    file = chain(
        ["lstm", SQUEEZE, node("Sigmoid", "s", "g"), node("Squeeze", "y one", "out")], extra=ONE, outputs="out g"
    )
    with pytest.raises(ValueError, match="no counterpart|it has several outputs"):
        lw.from_onnx(file)
    with pytest.raises(ValueError, match="and there is no LSTM in it"):
        lw.from_onnx(onnx_graphs.chain_of("Relu", 3))


def test_state_inputs_become_the_calls():
    inputs = {"x": ["T", "N", 4], "h": [1, "N", 5], "c": [1, "N", 5]}
    file = chain(["lstm", node("Squeeze", "y one", "out")], inputs, ONE, outputs="out yh yc")
    file.graph.node[0].input.extend(["", "h", "c"])
    x, h, c = normal(1, (6, 3, 4)), normal(2, (1, 3, 5)), normal(3, (1, 3, 5))
    output, state = lw.from_onnx(file)(x, (h, c))
    for actual, each in zip((output, *state), expected(file, x=x, h=h, c=c), strict=True):
        assert_close(actual, each, 1e-5)


def test_a_state_from_another_lstm_is_refused():
    first, weights = lstm("first", outputs="y1 h1 c1")
    second, others = lstm("second", seed=9)
    second.input.extend(["", "h1", "c1"])
    file = onnx_graphs.model([first, second], {"x": ["T", "N", 4]}, {"y": None}, [*weights, *others])
    with pytest.raises(ValueError, match="initial_h: expected a constant or an input, got what another LSTM gives"):
        lw.from_onnx(file)
    assert [found.path for found in lw.onnx_lstms(file)] == ["first", "second"]
    assert lw.from_onnx(file, node="second").hidden_size == 5


def test_lengths():
    file = chain(["lstm", node("Squeeze", "y one", "out")], {"x": ["T", "N", 4], "n": (["N"], onnx_graphs.INT64)}, ONE)
    file.graph.node.insert(0, node("Cast", "n", "n32", to=6))
    file.graph.node[1].input.append("n32")
    model, x, lengths = lw.from_onnx(file), normal(1, (6, 3, 4)), np.array([6, 2, 4])
    assert_close(model(x, lengths=lengths)[0], expected(file, x=x, n=lengths)[0], 1e-5)
    last = file.graph.node[-1]
    file.graph.node.remove(last)
    file.graph.node.extend([node("Squeeze", "y one", "s"), node("Gather", "s last", "out", axis=0)])
    file.graph.initializer.extend(constants(last=-1))
    with pytest.raises(ValueError, match="Gather 'Gather out' has no counterpart"):
        lw.from_onnx(file)  # the last step is padding for shorter sequences


def test_lstms_in_the_branches_of_an_if():
    made, weights = lstm()
    body = helper.make_graph([made], "branch", [], [helper.make_tensor_value_info("y", 1, None)])
    file = onnx_graphs.model(
        [helper.make_node("If", ["flag"], ["out"], name="choice", then_branch=body, else_branch=body)],
        {"x": ["T", "N", 4], "flag": ([], onnx.TensorProto.BOOL)}, {"out": None}, weights)  # fmt: skip
    with pytest.raises(ValueError, match="If 'choice' has no counterpart"):
        lw.from_onnx(file)
    paths = sorted((found.path for found in lw.onnx_lstms(file)), reverse=True)
    assert paths == ["choice.then_branch.lstm", "choice.else_branch.lstm"]
    assert all("If 'choice' around it" in found.obstacles for found in lw.onnx_lstms(file))
    assert lw.from_onnx(file, node=paths[1]).hidden_size == 5
    with pytest.raises(ValueError, match="that of several LSTMs"):
        lw.from_onnx(file, node="lstm")


@pytest.mark.parametrize("backwards", [False, True])
def test_a_scan_over_one_step(backwards):
    step = written_out()
    info = [helper.make_tensor_value_info(name, 1, None) for name in ("h", "c", "x", "hn", "cn", "out_t")]
    body = helper.make_graph([*step.graph.node, node("Identity", "hn", "out_t")], "body", info[:3], info[3:])
    scan = helper.make_node("Scan", ["h0", "c0", "xs"], ["h1", "c1", "out"], name="scan", body=body, num_scan_inputs=1,
                            scan_input_directions=[int(backwards)])  # fmt: skip
    inputs = {"xs": ["T", "N", 4], "h0": ["N", 5], "c0": ["N", 5]}
    file = onnx_graphs.model([scan], inputs, {"out": None, "h1": None, "c1": None}, step.graph.initializer)
    xs, h, c = normal(1, (6, 3, 4)), normal(2, (3, 5)), normal(3, (3, 5))
    answer = expected(file, xs=xs, h0=h, c0=c)
    output, (h_n, c_n) = lw.from_onnx(file)(xs, (h[np.newaxis], c[np.newaxis]))
    for actual, each in zip((output, h_n[0], c_n[0]), answer, strict=True):
        assert_close(actual, each, 1e-5)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", ["lstm", "stack", "last", "cell", "h0"])
def test_what_torch_exports(name, exporter, tmp_path, torch_peer):
    torch = pytest.importorskip("torch")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="the package onnxscript is not installed")

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            options = {"stack": {"num_layers": 2, "bidirectional": True, "batch_first": True}}.get(name, {})
            self.net = torch.nn.LSTMCell(4, 5) if name == "cell" else torch.nn.LSTM(4, 5, **options)
            self.linear = torch.nn.Linear(5, 2)
            self.h0 = torch.nn.Parameter(torch.randn(1, 1, 5))

        def forward(self, x, *start):
            if name == "cell":
                return self.net(x[0], start)
            if name == "h0":
                start = self.h0.expand(1, x.shape[1], 5)
                return self.net(x, (start.contiguous(), start.contiguous()))[0]
            output, _ = self.net(x)
            return torch.relu(self.linear(output[-1])) if name == "last" else output

    torch.manual_seed(0)
    module, x = Module().eval(), torch.randn(6, 3, 4)
    # Of a cell's constant start state the exporter would leave the products alone, and no weights of h.
    start = (torch.randn(3, 5), torch.randn(3, 5)) if name == "cell" else ()
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x, *start), str(path), dynamo=exporter == "dynamo", verbose=False)
        answer = module(x, *start)
    if name == "cell":
        model = lw.from_onnx(path, node=lw.onnx_lstms(path)[0].path)
        _, state = model(x[:1].numpy(), tuple(part[None].numpy() for part in start))
        for actual, each in zip(state, answer, strict=True):
            assert_close(actual[0], each.detach(), 1e-5)
        return
    model = lw.from_onnx(path)
    assert_close(model(x.numpy())[0], answer.detach(), 1e-5)
    assert model(np.concatenate([x, x], 1))[0].shape is not None


@pytest.mark.parametrize("name", ["cell", "last", "learned", "packed", "state", "tagger"])
def test_kept_files(name):
    """What PyTorch and TensorFlow wrote, and what it gave; see golden/make_interop_onnx.py."""
    answers = load_file(KEPT / "expected.safetensors")
    given = {key.split(".")[2]: value for key, value in answers.items() if key.startswith(f"{name}.in.")}
    outputs = [answers[key] for key in sorted(answers) if key.startswith(f"{name}.out.")]
    x, start = given.get("x", given.get("tokens")), None
    if name == "cell":
        x, start = x[np.newaxis], (given["h"][np.newaxis], given["c"][np.newaxis])
    if name == "state":
        start = given["h_0"], given["c_0"]
    output, state = lw.from_onnx(KEPT / f"{name}.onnx")(x, start, lengths=given.get("lengths"))
    ours = {"state": (output, *state), "cell": (output[0], state[1][0])} if name in ("state", "cell") else {}
    for actual, expected_one in zip(ours.get(name, (output,)), outputs, strict=True):
        assert_close(actual, expected_one, 1e-5)
