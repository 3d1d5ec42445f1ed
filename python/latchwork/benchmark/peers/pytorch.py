"""PyTorch as a peer."""

import itertools
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import numpy as np

from latchwork.benchmark import cases
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers.peer import Prepared, import_library, onednn_environment
from latchwork.benchmark.timing import elapsed


class PyTorch:
    """``torch.nn.LSTM``, or its cell for single steps, eager, with the fused Adam."""

    kinds: ClassVar[Collection[str]] = tuple(cases.KINDS)
    dtypes: ClassVar[Collection[str]] = cases.DTYPES

    def __init__(self, threads: int) -> None:
        """Import the library and set its number of threads."""
        self._torch = import_library("torch")
        self._torch.set_num_threads(threads)
        self.description = {"version": str(self._torch.__version__)}

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Limit its own kernels, oneDNN's and MKL's."""
        if isa is None:
            return {}
        return {
            "ATEN_CPU_CAPABILITY": {"baseline": "default"}.get(isa, isa),
            "MKL_ENABLE_INSTRUCTIONS": {"baseline": "SSE4_2"}.get(isa, isa.upper()),
            **onednn_environment(isa),
        }

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready."""
        torch = self._torch
        shape = case.input_size, case.hidden_size, case.layers
        lstm = torch.nn.LSTM(*shape, bidirectional=case.directions == 2, dtype=getattr(torch, case.dtype))
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

        def results() -> dict[str, Array]:
            with torch.inference_mode():
                return {"output": lstm(x)[0].numpy()}

        return Prepared(results, loop)

    def _prepare_step(self, case: Case, lstm: Any) -> Prepared:
        """Call ``torch.lstm_cell``: in ``lstm(x, state)``, oneDNN would reorder the weights at each step."""
        torch = self._torch
        x = torch.from_numpy(cases.inputs(case, "step"))
        weights = [[parameter.detach() for parameter in layer] for layer in lstm.all_weights]
        state = [(torch.zeros(case.rows, case.hidden_size, dtype=x.dtype),) * 2] * case.layers

        def advance(features: Any) -> None:
            for layer, parameters in enumerate(weights):
                state[layer] = torch.lstm_cell(features, state[layer], *parameters)
                features = state[layer][0]

        def results() -> dict[str, Array]:
            with torch.inference_mode():
                for step in x:
                    advance(step)
            return {"output": state[-1][0].numpy().copy()}

        first = x[0]

        def loop(iterations: int) -> None:
            with torch.inference_mode():
                for _ in itertools.repeat(None, iterations):
                    advance(first)

        return Prepared(results, loop)

    def _prepare_training(self, case: Case, lstm: Any) -> Prepared:
        torch = self._torch
        x, d_output = (torch.from_numpy(data) for data in (cases.inputs(case, "training"), cases.output_sized(case)))

        # Gradients are added to those that are there, as in Latchwork's loop.
        def padded() -> Any:
            output, _ = lstm(x)
            output.backward(d_output)
            return output

        compute = self._ragged_form(case, lstm, x, d_output, padded) if case.ragged else padded

        def results() -> dict[str, Array]:
            lstm.zero_grad()
            output = compute()
            if not isinstance(output, torch.Tensor):
                output, _ = torch.nn.utils.rnn.pad_packed_sequence(output)
            gradients = {name: parameter.grad.numpy().copy() for name, parameter in lstm.named_parameters()}
            return {"output": cases.without_padding(case, output.detach().numpy()), **gradients}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                compute()

        return Prepared(results, loop)

    def _ragged_form(
        self, case: Case, lstm: Any, x: Any, d_output: Any, padded: Callable[[], Any]
    ) -> Callable[[], Any]:
        """Choose what is faster here: packed sequences, or computing the padding too.

        Packing and unpacking are not timed. Computing the padding is often much faster, because PyTorch goes
        through packed sequences step by step; but in the reverse direction it would change what follows it.
        """
        rnn = self._torch.nn.utils.rnn
        lengths = self._torch.from_numpy(cases.lengths(case))
        packed_x, packed_d_output = (
            rnn.pack_padded_sequence(data, lengths, enforce_sorted=False) for data in (x, d_output)
        )

        def packed() -> Any:
            output, _ = lstm(packed_x)
            output.data.backward(packed_d_output.data)
            return output

        def seconds(compute: Callable[[], Any]) -> float:
            def loop(iterations: int) -> None:
                for _ in range(iterations):
                    compute()

            return min(elapsed(loop, 1) for _ in range(3))

        return min([packed] if case.directions == 2 else [padded, packed], key=seconds)

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
            torch.nn.utils.clip_grad_norm_(parameters, cases.CLIP_NORM)
            optimizer.step()
            return float(loss.item())

        def results() -> dict[str, Array]:
            return {"losses": np.array([update() for _ in range(cases.VERIFIED_UPDATES)])}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                update()

        return Prepared(results, loop)
