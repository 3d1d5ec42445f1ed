"""ONNX Runtime as a peer."""

import itertools
from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np

from latchwork.benchmark import cases
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers.peer import MissingPeerError, Prepared, import_library


class OnnxRuntime:
    """ONNX Runtime on a model of one ONNX LSTM node for each layer; inference only."""

    kinds: ClassVar[Collection[str]] = ("forward", "step")
    dtypes: ClassVar[Collection[str]] = ("float32",)

    def __init__(self, threads: int) -> None:
        """Import the library and set its number of threads."""
        self._runtime = import_library("onnxruntime")
        self._onnx = import_library("onnx")
        import_library("onnx.helper")
        self._threads = threads
        self.description = {"version": str(self._runtime.__version__)}

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Refuse a limit: its kernels (MLAS) look at the CPU alone."""
        if isa is None:
            return {}
        raise MissingPeerError(f"it cannot be limited to {isa}")

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready."""
        return self._prepare_forward(case) if kind == "forward" else self._prepare_step(case)

    def _session(self, case: Case, kind: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return self._runtime.InferenceSession(self._model(case, kind), options, providers=["CPUExecutionProvider"])

    def _model(self, case: Case, kind: str) -> bytes:
        """Make the model: the LSTM nodes, and between them those that give y the shape of the next layer's x.

        Forward: from x to y (T, D, N, H), D directions. Step: also from h_0_l{k}, c_0_l{k} to h_n_l{k}, c_n_l{k}.
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
        outputs = [] if kind == "step" else [value("y", steps, case.directions, case.rows, case.hidden_size)]
        x = "x"
        for layer, suffixes in enumerate(cases.parameter_suffixes(case)):
            w, r, b_w, b_r = (
                np.stack([_iofc(parameters[name + suffix]) for suffix in suffixes])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
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
                        constant(f"W_l{layer}", w),
                        constant(f"R_l{layer}", r),
                        constant(f"B_l{layer}", np.concatenate([b_w, b_r], axis=1)),
                        "",
                        *starts,
                    ],
                    [y, *ends],
                    hidden_size=case.hidden_size,
                    direction="forward" if case.directions == 1 else "bidirectional",
                )
            )
            if not last:
                x = f"x_l{layer + 1}"
                if case.directions == 2:
                    nodes.append(helper.make_node("Transpose", [y], [f"{y}_by_row"], perm=[0, 2, 1, 3]))
                    y = f"{y}_by_row"
                shape = constant(f"shape_l{layer}", np.array([steps, case.rows, case.output_size], np.int64))
                nodes.append(helper.make_node("Reshape", [y, shape], [x]))
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

        def results() -> dict[str, Array]:
            y = session.run(None, feeds)[0]
            return {"output": y.swapaxes(1, 2).reshape(case.steps, case.rows, case.output_size)}

        return Prepared(results, loop)

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

        def results() -> dict[str, Array]:
            for number, step in enumerate(sequence):
                x.update_inplace(step[None])
                session.run_with_iobinding(bindings[number % 2])
            last = here if len(sequence) % 2 == 0 else there
            x.update_inplace(sequence[:1])
            return {"output": last[-2].numpy()[0].copy()}

        def loop(iterations: int) -> None:
            for binding in itertools.islice(itertools.cycle(bindings), iterations):
                session.run_with_iobinding(binding)

        return Prepared(results, loop)


def _iofc(parameter: Array) -> Array:
    """ONNX's gate order i, o, f, c of a parameter in PyTorch's i, f, g, o."""
    i, f, g, o = np.split(parameter, 4)
    return np.concatenate([i, o, f, g])
