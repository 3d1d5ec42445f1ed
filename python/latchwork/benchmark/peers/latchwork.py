"""Latchwork as a peer."""

import itertools
import platform
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import numpy as np

from latchwork.benchmark import cases
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers.peer import Prepared, import_library


class Latchwork:
    """Latchwork through its public Python interface."""

    kinds: ClassVar[Collection[str]] = tuple(cases.KINDS)
    dtypes: ClassVar[Collection[str]] = cases.DTYPES

    def __init__(self, threads: int) -> None:
        """Import the library and set its number of threads."""
        self._lw = import_library("latchwork")
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

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Set ``LATCHWORK_ISA``."""
        return {} if isa is None else {"LATCHWORK_ISA": isa}

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready."""
        shape = case.input_size, case.hidden_size, case.layers
        lstm = self._lw.LSTM(*shape, bidirectional=case.directions == 2, dtype=case.dtype)
        lstm.load_state_dict(cases.weights(case))
        prepare: Callable[[Case, Any], Prepared] = getattr(self, f"_prepare_{kind}")
        return prepare(case, lstm)

    def _prepare_forward(self, case: Case, lstm: Any) -> Prepared:
        x = cases.inputs(case, "forward")

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                lstm(x)

        return Prepared(lambda: {"output": lstm(x)[0]}, loop)

    def _prepare_step(self, case: Case, lstm: Any) -> Prepared:
        x = cases.inputs(case, "step")
        single = case.rows == 1
        stream = lstm.stream(None if single else case.rows)
        steps = [step[0] if single else step for step in x]
        first = steps[0]
        buffer = np.empty(case.hidden_size if single else (case.rows, case.hidden_size), x.dtype)

        def results() -> dict[str, Array]:
            for step in steps:
                output = stream.step(step)
            return {"output": output.reshape(case.rows, case.hidden_size)}

        def loop(iterations: int) -> None:
            step = stream.step
            for _ in itertools.repeat(None, iterations):
                step(first, out=buffer)

        return Prepared(results, loop)

    def _prepare_training(self, case: Case, lstm: Any) -> Prepared:
        x, d_output = cases.inputs(case, "training"), cases.output_sized(case)
        lengths = cases.lengths(case) if case.ragged else None
        gradients: Any = None

        def results() -> dict[str, Array]:
            tape = lstm.record(x, lengths=lengths)
            parameters = tape.backward(d_output, input_gradient=False).parameters
            return {"output": tape.output, **parameters}

        # The first step makes the gradients, to which the others add theirs.
        def loop(iterations: int) -> None:
            nonlocal gradients
            for _ in itertools.repeat(None, iterations):
                gradients = lstm.record(x, lengths=lengths).backward(d_output, into=gradients, input_gradient=False)

        return Prepared(results, loop)

    def _prepare_update(self, case: Case, lstm: Any) -> Prepared:
        x, target = cases.inputs(case, "update"), cases.output_sized(case)
        adam = self._lw.optim.Adam(lr=cases.LEARNING_RATE)
        trainer = self._lw.Trainer(lstm, "squared_error", adam, clip_norm=cases.CLIP_NORM)

        def results() -> dict[str, Array]:
            return {"losses": np.array([trainer.step(x, target)[0] for _ in range(cases.VERIFIED_UPDATES)])}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                trainer.step(x, target)

        return Prepared(results, loop)
