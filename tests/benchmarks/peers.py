"""Those that are timed: Latchwork and the libraries beside it. None is imported before it is needed."""

import importlib
import itertools
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cases
import numpy as np
from cases import Array, Case
from timing import Loop


class MissingPeerError(Exception):
    """The peer is not installed."""


@dataclass(frozen=True)
class Prepared:
    """One case made ready: what the peer computes for it, to be compared, and the loop to be timed."""

    results: dict[str, Array]
    loop: Loop


class Peer(Protocol):
    """One library in this process, with its number of threads set."""

    description: dict[str, Any]

    def prepare(self, case: Case, kind: str) -> Prepared | None:
        """Make a case ready; None where the peer does not do this kind."""


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module} cannot be imported: {error}") from error


class Latchwork:
    """This project, through its public Python interface."""

    def __init__(self, threads: int) -> None:
        self._lw = _import("latchwork")
        self._lw.set_num_threads(threads)
        machine = {
            "system": platform.system(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            **self._lw.cpu_info(),
        }
        del machine["num_threads"]  # each measurement says its own
        self.description = {"version": self._lw.__version__, "machine": machine}

    def prepare(self, case: Case, kind: str) -> Prepared:
        lstm = self._lw.LSTM(case.input_size, case.hidden_size, case.layers)
        lstm.load_state_dict(cases.weights(case))
        prepare: Callable[[Case, Any], Prepared] = getattr(self, f"_prepare_{kind}")
        return prepare(case, lstm)

    def _prepare_forward(self, case: Case, lstm: Any) -> Prepared:
        x = cases.inputs(case, "forward")

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                lstm(x)

        return Prepared({"output": lstm(x)[0]}, loop)

    def _prepare_step(self, case: Case, lstm: Any) -> Prepared:
        x = cases.inputs(case, "step")
        single = case.rows == 1
        stream = lstm.stream(None if single else case.rows)
        steps = [step[0] if single else step for step in x]
        for step in steps:
            output = stream.step(step)
        first = steps[0]
        buffer = output.copy()

        def loop(iterations: int) -> None:
            step = stream.step
            for _ in itertools.repeat(None, iterations):
                step(first, out=buffer)

        return Prepared({"output": output.reshape(case.rows, case.hidden_size)}, loop)

    def _prepare_training(self, case: Case, lstm: Any) -> Prepared:
        x, d_output = cases.inputs(case, "training"), cases.output_sized(case)
        tape = lstm.record(x)
        gradients = tape.backward(d_output)
        results = {"output": tape.output.copy()}
        results |= {name: gradients.parameters[name].copy() for name in lstm.parameters}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                lstm.record(x).backward(d_output, into=gradients)

        return Prepared(results, loop)

    def _prepare_update(self, case: Case, lstm: Any) -> Prepared:
        x, target = cases.inputs(case, "update"), cases.output_sized(case)
        adam = self._lw.optim.Adam(lr=cases.LEARNING_RATE)
        trainer = self._lw.Trainer(lstm, "squared_error", adam, clip_norm=cases.MAX_NORM)
        losses = [trainer.step(x, target)[0] for _ in range(cases.VERIFIED_UPDATES)]

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                trainer.step(x, target)

        return Prepared({"losses": np.array(losses)}, loop)


class PyTorch:
    """``torch.nn.LSTM``, eager, with the fused Adam."""

    def __init__(self, threads: int) -> None:
        self._torch = _import("torch")
        self._torch.set_num_threads(threads)
        self.description = {"version": str(self._torch.__version__)}

    def prepare(self, case: Case, kind: str) -> Prepared:
        torch = self._torch
        lstm = torch.nn.LSTM(case.input_size, case.hidden_size, case.layers)
        lstm.load_state_dict({name: torch.from_numpy(value) for name, value in cases.weights(case).items()})
        prepare: Callable[[Case, Any], Prepared] = getattr(self, f"_prepare_{kind}")
        return prepare(case, lstm)

    def _prepare_forward(self, case: Case, lstm: Any) -> Prepared:
        torch = self._torch
        x = torch.from_numpy(cases.inputs(case, "forward"))

        def loop(iterations: int) -> None:
            with torch.inference_mode():
                for _ in itertools.repeat(None, iterations):
                    lstm(x)

        with torch.inference_mode():
            return Prepared({"output": lstm(x)[0].numpy()}, loop)

    def _prepare_step(self, case: Case, lstm: Any) -> Prepared:
        torch = self._torch
        x = torch.from_numpy(cases.inputs(case, "step"))
        with torch.inference_mode():
            state = None
            for step in x:
                output, state = lstm(step[None], state)
            first = x[:1]

        def loop(iterations: int) -> None:
            nonlocal state
            carried = state
            with torch.inference_mode():
                for _ in itertools.repeat(None, iterations):
                    _, carried = lstm(first, carried)
            state = carried

        return Prepared({"output": output[0].numpy()}, loop)

    def _prepare_training(self, case: Case, lstm: Any) -> Prepared:
        torch = self._torch
        x, d_output = (torch.from_numpy(data) for data in (cases.inputs(case, "training"), cases.output_sized(case)))
        output, _ = lstm(x)
        output.backward(d_output)
        results = {"output": output.detach().numpy()}
        results |= {name: parameter.grad.numpy().copy() for name, parameter in lstm.named_parameters()}

        # Gradients are added to those that are there, as in Latchwork's loop.
        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                output, _ = lstm(x)
                output.backward(d_output)

        return Prepared(results, loop)

    def _prepare_update(self, case: Case, lstm: Any) -> Prepared:
        torch = self._torch
        x, target = (torch.from_numpy(data) for data in (cases.inputs(case, "update"), cases.output_sized(case)))
        parameters = list(lstm.parameters())
        optimizer = torch.optim.Adam(parameters, lr=cases.LEARNING_RATE, fused=True)
        squared_error = torch.nn.MSELoss()

        # Returns the loss as a number, as Latchwork's trainer does and every training loop that watches it.
        def update() -> float:
            output, _ = lstm(x)
            loss = squared_error(output, target)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, cases.MAX_NORM)
            optimizer.step()
            return float(loss.item())

        losses = [update() for _ in range(cases.VERIFIED_UPDATES)]

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                update()

        return Prepared({"losses": np.array(losses)}, loop)


class OnnxRuntime:
    """ONNX Runtime on a model of one ONNX LSTM node for each layer; inference only."""

    def __init__(self, threads: int) -> None:
        self._runtime = _import("onnxruntime")
        self._onnx = _import("onnx")
        _import("onnx.helper")
        self._threads = threads
        self.description = {"version": str(self._runtime.__version__)}

    def prepare(self, case: Case, kind: str) -> Prepared | None:
        if kind == "forward":
            return self._prepare_forward(case)
        if kind == "step":
            return self._prepare_step(case)
        return None

    def _session(self, case: Case, kind: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return self._runtime.InferenceSession(self._model(case, kind), options, providers=["CPUExecutionProvider"])

    def _model(self, case: Case, kind: str) -> bytes:
        """Forward: from x to y (T, 1, N, H). Step: also from h_0_l{k}, c_0_l{k} to h_n_l{k}, c_n_l{k}, (1, N, H) each.

        No node but the LSTMs, save those that drop the axis of directions between layers.
        """
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        parameters = cases.weights(case)
        nodes, initializers = [], []

        def constant(name: str, value: Array) -> str:
            initializers.append(numpy_helper.from_array(value, name))
            return name

        def value(name: str, *shape: int) -> Any:
            return helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)

        steps = 1 if kind == "step" else case.steps
        inputs = [value("x", steps, case.rows, case.input_size)]
        outputs = [] if kind == "step" else [value("y", steps, 1, case.rows, case.hidden_size)]
        x = "x"
        for layer in range(case.layers):
            w, r, b_w, b_r = (
                _iofc(parameters[f"{name}_l{layer}"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            starts, ends = [], []
            if kind == "step":
                starts, ends = ([f"{state}_l{layer}" for state in pair] for pair in (("h_0", "c_0"), ("h_n", "c_n")))
                inputs += [value(name, 1, case.rows, case.hidden_size) for name in starts]
                outputs += [value(name, 1, case.rows, case.hidden_size) for name in ends]
            last = layer == case.layers - 1
            y = "y" if last else f"y_l{layer}"
            nodes.append(
                helper.make_node(
                    "LSTM",
                    [
                        x,
                        constant(f"W_l{layer}", w[None]),
                        constant(f"R_l{layer}", r[None]),
                        constant(f"B_l{layer}", np.concatenate([b_w, b_r])[None]),
                        "",
                        *starts,
                    ],
                    [y, *ends],
                    hidden_size=case.hidden_size,
                )
            )
            if not last:
                axis = constant(f"axis_l{layer}", np.array([1], np.int64))
                x = f"x_l{layer + 1}"
                nodes.append(helper.make_node("Squeeze", [y, axis], [x]))
        graph = helper.make_graph(nodes, case.name, inputs, outputs, initializers)
        # Versions that ONNX Runtime has read since 1.18.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        serialized: bytes = model.SerializeToString()
        return serialized

    def _prepare_forward(self, case: Case) -> Prepared:
        session = self._session(case, "forward")
        feeds = {"x": cases.inputs(case, "forward")}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                session.run(None, feeds)

        return Prepared({"output": session.run(None, feeds)[0][:, 0]}, loop)

    def _prepare_step(self, case: Case) -> Prepared:
        session = self._session(case, "step")
        sequence = cases.inputs(case, "step")
        x_name, *start_names = (value.name for value in session.get_inputs())
        end_names = [value.name for value in session.get_outputs()]
        from_numpy = self._runtime.OrtValue.ortvalue_from_numpy  # no copy: every value needs an array of its own
        x = from_numpy(sequence[:1].copy())
        state = (1, case.rows, case.hidden_size)
        here, there = ([from_numpy(np.zeros(state, np.float32)) for _ in start_names] for _ in range(2))

        # Bound once, two sets of states that take turns: twice as fast as passing arrays, and like Latchwork's
        # step(x, out=y) it makes no new ones.
        def bind(starts: list[Any], ends: list[Any]) -> Any:
            binding = session.io_binding()
            binding.bind_ortvalue_input(x_name, x)
            for name, value in zip(start_names, starts, strict=True):
                binding.bind_ortvalue_input(name, value)
            for name, value in zip(end_names, ends, strict=True):
                binding.bind_ortvalue_output(name, value)
            return binding

        bindings = bind(here, there), bind(there, here)
        for number, step in enumerate(sequence):
            x.update_inplace(step[None])
            session.run_with_iobinding(bindings[number % 2])
        last = here if len(sequence) % 2 == 0 else there
        output = last[-2].numpy()[0].copy()
        x.update_inplace(sequence[:1])

        def loop(iterations: int) -> None:
            for binding in itertools.islice(itertools.cycle(bindings), iterations):
                session.run_with_iobinding(binding)

        return Prepared({"output": output}, loop)


def _iofc(parameter: Array) -> Array:
    """ONNX's gate order i, o, f, c of a parameter in PyTorch's i, f, g, o."""
    i, f, g, o = np.split(parameter, 4)
    return np.concatenate([i, o, f, g])


PEERS: dict[str, Callable[[int], Peer]] = {
    "latchwork": Latchwork,
    "torch": PyTorch,
    "onnxruntime": OnnxRuntime,
}
