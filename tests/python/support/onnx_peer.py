"""ONNX Runtime's answers for the LSTM operator of ONNX. Imported only where onnx and onnxruntime are installed.

The tests avoid the points in which ONNX Runtime 1.32 departs from ONNX's specification of the operator. By experiment:

- ThresholdedRelu gives 0 at exactly alpha; the specification (and latchwork) gives alpha.
- If alpha and beta are not given, Affine, ScaledTanh and ThresholdedRelu take 0 for them; the specification has the
  defaults of the operators of these names: 1 and 0 for Affine, 1 for ThresholdedRelu. So alpha and beta are always
  given here, except for Elu, HardSigmoid and LeakyRelu, whose defaults are right.
- Y_h and Y_c of a sequence of length 0 are zero rather than its initial state.
- Softplus is infinite above 88.
- float64 is refused, and so is layout=1.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
OUTPUTS = ("Y", "Y_h", "Y_c")
DEFAULTS = {"input": ("sigmoid",), "candidate": ("tanh",), "cell": ("tanh",)}
SHARED_GATES = ("input", "forget", "output")  # one activation serves all three


def _activations(lstm):
    """The operator's attributes for the activations of every direction; None of them for the default ones."""
    sets = lstm.activations if isinstance(lstm.activations, tuple) else (lstm.activations or {},)
    if not any(sets):
        return {}
    names, alpha, beta, directions = [], [], [], 2 if lstm.bidirectional else 1
    for given in sets * (directions // len(sets)):
        gates = [gate for gate in SHARED_GATES if gate != "forget" or lstm.forget_gate != "coupled"]
        assert len({given.get(gate) for gate in gates}) == 1
        for gate, default in DEFAULTS.items():
            chosen = given.get(gate, default)
            name, *numbers = (chosen,) if isinstance(chosen, str) else chosen
            names.append("".join(part.capitalize() for part in name.split("_")))
            # Only activations that have an alpha or beta consume one.
            alpha += numbers[:1]
            beta += numbers[1:]
    attributes = {"activations": names}
    return attributes | ({"activation_alpha": alpha} if alpha else {}) | ({"activation_beta": beta} if beta else {})


def attributes_of(lstm):
    """The attributes of the operator for a latchwork.LSTM of one layer."""
    direction = "bidirectional" if lstm.bidirectional else "reverse" if lstm.reverse else "forward"
    attributes = {"hidden_size": lstm.hidden_size, "direction": direction} | _activations(lstm)
    if lstm.clip is not None:
        attributes["clip"] = lstm.clip
    if lstm.forget_gate == "coupled":
        attributes["input_forget"] = 1
    return attributes


def _weights(lstm):
    """W, R, B and P: gates in the order i, o, f, c, peepholes in that of i, o, f; a coupled forget gate's are zero."""
    suffixes = ["_l0", "_l0_reverse"] if lstm.bidirectional else ["_l0_reverse"] if lstm.reverse else ["_l0"]

    def stacked(name, gates, order):
        result = []
        for suffix in suffixes:
            parts = np.split(lstm.parameters[name + suffix], len(gates))
            by_gate = dict(zip(gates, parts, strict=True)) | (
                {"f": np.zeros_like(parts[0])} if lstm.forget_gate == "coupled" else {}
            )
            result.append(np.concatenate([by_gate[gate] for gate in order]))
        return np.stack(result)

    gates = "igo" if lstm.forget_gate == "coupled" else "ifgo"
    weights = {"W": stacked("weight_ih", gates, "iofg"), "R": stacked("weight_hh", gates, "iofg")}
    if lstm.bias:
        biases = [stacked(name, gates, "iofg") for name in ("bias_ih", "bias_hh")]
        weights["B"] = np.concatenate(biases, axis=1)
    if lstm.peephole:
        weights["P"] = stacked("weight_peephole", gates.replace("g", ""), "iof")
    return weights


def run(lstm, x, start=None, lengths=None, **attributes):
    """Output, h_n and c_n as a latchwork.LSTM gives them; ``attributes`` replace those of ``lstm``, None omits one."""
    values = _weights(lstm) | {"X": x}
    if lengths is not None:
        values["sequence_lens"] = np.array(lengths, np.int32)
    if start is not None:
        values["initial_h"], values["initial_c"] = start
    names = [name if name in values else "" for name in INPUTS]
    node = helper.make_node("LSTM", names, OUTPUTS, **(attributes_of(lstm) | attributes))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape)
        for name in INPUTS
        if name in values
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in OUTPUTS]
    model = helper.make_model(
        helper.make_graph([node], "lstm", inputs, outputs), opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output, h_n, c_n = session.run(None, values)
    steps, directions, rows, hidden = output.shape
    return output.swapaxes(1, 2).reshape(steps, rows, directions * hidden), (h_n, c_n)
