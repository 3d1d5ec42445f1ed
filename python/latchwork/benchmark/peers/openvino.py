"""OpenVINO as a peer."""

import itertools
from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np

from latchwork.benchmark import cases
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers.peer import Prepared, import_library, onednn_environment


class OpenVino:
    """OpenVINO's CPU plug-in on a model of its own operations; inference only.

    The transposes around LSTMSequence, which counts its axes N, T, in, are those that the plug-in takes away again, so
    that its kernel reads (T, N, in) in place: as fast as data in OpenVINO's own order, or a little faster.
    """

    kinds: ClassVar[Collection[str]] = ("forward", "step")
    dtypes: ClassVar[Collection[str]] = ("float32",)

    def __init__(self, threads: int) -> None:
        """Import the library and set its number of threads."""
        self._openvino = import_library("openvino")
        self._operations = import_library("openvino.opset13")
        self._core = self._openvino.Core()
        self._properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.description = {"version": str(self._openvino.__version__)}

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Limit oneDNN, whose copy in OpenVINO makes the kernels."""
        return {} if isa is None else onednn_environment(isa)

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready."""
        return self._prepare_forward(case) if kind == "forward" else self._prepare_step(case)

    def _prepare_forward(self, case: Case) -> Prepared:
        operations = self._operations
        x = operations.parameter([case.steps, case.rows, case.input_size], np.float32)
        zeros = operations.constant(np.zeros((case.rows, case.directions, case.hidden_size), np.float32))
        lengths = operations.constant(np.full(case.rows, case.steps, np.int32))
        sequence = x
        for layer in range(case.layers):
            lstm = operations.lstm_sequence(
                self._transposed(sequence, 1, 0, 2),
                zeros,
                zeros,
                lengths,
                *map(operations.constant, self._weights(case, layer)),
                case.hidden_size,
                "forward" if case.directions == 1 else "bidirectional",
            )
            by_direction = self._transposed(lstm.output(0), 2, 1, 0, 3)  # (T, D, N, H)
            if layer + 1 < case.layers:
                by_row = by_direction if case.directions == 1 else self._transposed(by_direction, 0, 2, 1, 3)
                shape = operations.constant([case.steps, case.rows, case.output_size])
                sequence = operations.reshape(by_row, shape, False)
        model = self._compiled(self._openvino.Model([operations.result(by_direction)], [x], case.name))
        request = model.create_infer_request()
        request.set_input_tensor(self._openvino.Tensor(cases.inputs(case, "forward")))

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                request.infer(share_outputs=True)

        def results() -> dict[str, Array]:
            loop(1)
            y = request.get_output_tensor().data
            return {"output": y.swapaxes(1, 2).reshape(case.steps, case.rows, case.output_size).copy()}

        return Prepared(results, loop)

    def _prepare_step(self, case: Case) -> Prepared:
        """Take LSTMCell with a state of inputs and outputs: variables of the model, or LSTMSequence, are slower."""
        operations = self._operations
        x = operations.parameter([case.rows, case.input_size], np.float32)
        starts, ends, features = [], [], x
        for layer in range(case.layers):
            state = [operations.parameter([case.rows, case.hidden_size], np.float32) for _ in ("h", "c")]
            weights = [operations.constant(value[0]) for value in self._weights(case, layer)]
            lstm = operations.lstm_cell(features, *state, *weights, case.hidden_size)
            features = lstm.output(0)
            starts += state
            ends += [operations.result(lstm.output(index)) for index in range(2)]
        model = self._compiled(self._openvino.Model(ends, [x, *starts], case.name))
        sequence = cases.inputs(case, "step")
        step = self._openvino.Tensor(sequence[0])
        zeros = np.zeros((case.rows, case.hidden_size), np.float32)
        here, there = ([self._openvino.Tensor(zeros) for _ in starts] for _ in range(2))

        # Two requests that take turns, so that no state is copied.
        def bind(inputs: list[Any], outputs: list[Any]) -> Any:
            request = model.create_infer_request()
            for index, tensor in enumerate([step, *inputs]):
                request.set_input_tensor(index, tensor)
            for index, tensor in enumerate(outputs):
                request.set_output_tensor(index, tensor)
            return request

        requests = bind(here, there), bind(there, here)

        def results() -> dict[str, Array]:
            for number, values in enumerate(sequence):
                step.data[:] = values
                requests[number % 2].infer()
            last = here if len(sequence) % 2 == 0 else there
            step.data[:] = sequence[0]
            return {"output": last[-2].data.copy()}

        def loop(iterations: int) -> None:
            for request in itertools.islice(itertools.cycle(requests), iterations):
                request.infer(share_outputs=True)

        return Prepared(results, loop)

    def _compiled(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._properties)

    def _transposed(self, value: Any, *order: int) -> Any:
        return self._operations.transpose(value, self._operations.constant(list(order)))

    def _weights(self, case: Case, layer: int) -> list[Array]:
        """Stack W, R and the sum of the biases along a leading axis of directions."""
        parameters = cases.weights(case)
        suffixes = cases.parameter_suffixes(case)[layer]

        def of_directions(name: str) -> Array:
            return np.stack([_fico(parameters[name + suffix]) for suffix in suffixes])

        biases = of_directions("bias_ih") + of_directions("bias_hh")
        return [of_directions("weight_ih"), of_directions("weight_hh"), biases]


def _fico(parameter: Array) -> Array:
    """OpenVINO's gate order f, i, c, o of a parameter in PyTorch's i, f, g, o."""
    i, f, g, o = np.split(parameter, 4)
    return np.concatenate([f, i, g, o])
