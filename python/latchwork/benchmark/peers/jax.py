"""JAX as a peer."""

import itertools
import os
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import numpy as np

from latchwork.benchmark import cases
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers.peer import Prepared, import_library, onednn_environment
from latchwork.benchmark.timing import elapsed

# The forms are compared on this many steps of a sequence.
STEPS_TO_CHOOSE = 32

# Nested as layers and directions are, of names to arrays.
Parameters = list[list[dict[str, Any]]]


class Jax:
    """JAX on the CPU: a jitted scan over time, all gates in one product.

    It has two forms, and neither is always the faster: x and h in one product in each step, or x projected ahead for
    all steps. Each case takes the form that is faster there. Unrolling the scan was slower nearly everywhere.
    """

    kinds: ClassVar[Collection[str]] = tuple(cases.KINDS)
    dtypes: ClassVar[Collection[str]] = cases.DTYPES

    def __init__(self, threads: int) -> None:
        """Import the library; its environment has set the number of threads."""
        self._jax = import_library("jax")
        # Otherwise XLA may multiply float32 in lower precision.
        self._jax.config.update("jax_default_matmul_precision", "highest")
        self.description = {"version": str(self._jax.__version__)}

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Limit XLA's thread pool and the instruction sets that it compiles for.

        The pool has PJRT_NPROC threads, which work while the caller waits; XLA does not read the flag
        ``intra_op_parallelism_threads``. With one thread the caller does the work itself instead of waiting.
        ``xla_cpu_max_isa`` limits what XLA compiles, but not YNNPACK's ready-made kernels, which choose by the CPU.
        They are left out, and products then come from oneDNN.
        """
        variables = {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": str(threads)}
        flags = [os.environ.get("XLA_FLAGS", "")]
        if threads == 1:
            flags.append("--xla_cpu_multi_thread_eigen=false")
        if isa is not None:
            name = {"baseline": "SSE4_2"}.get(isa, isa.upper())
            flags += [f"--xla_cpu_max_isa={name}", "--xla_cpu_experimental_ynn_fusion_type="]
            variables |= onednn_environment(isa)
        return {**variables, "XLA_FLAGS": " ".join(flags).strip()}

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready."""
        self._jax.config.update("jax_enable_x64", case.dtype == "float64")
        prepare: Callable[[Case], Prepared] = getattr(self, f"_prepare_{kind}")
        return prepare(case)

    def _prepare_forward(self, case: Case) -> Prepared:
        jax = self._jax
        x = jax.numpy.asarray(cases.inputs(case, "forward"))

        def made(ahead: bool) -> Callable[[Any], Any]:
            forward, parameters = jax.jit(self._network(case, ahead)), self._parameters(case, ahead)
            return lambda x: forward(parameters, x)

        forward = self._faster(made, x)

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                forward(x).block_until_ready()

        return Prepared(lambda: {"output": np.asarray(forward(x))}, loop)

    def _prepare_step(self, case: Case) -> Prepared:
        """Make the weights constants of the compiled step, and give the old state's memory to the new one."""
        jax = self._jax
        parameters = self._parameters(case, ahead=True)

        def advance(state: Any, x: Any) -> Any:
            advanced = []
            for (weights,), (h, c) in zip(parameters, state, strict=True):
                x, c = self._cell(self._projected(weights, x) + h @ weights["recurrent_kernel"], c)
                advanced.append((x, c))
            return advanced

        step = jax.jit(advance, donate_argnums=0)
        sequence = jax.numpy.asarray(cases.inputs(case, "step"))
        shape = case.rows, case.hidden_size
        state = [tuple(jax.numpy.zeros(shape) for _ in ("h", "c")) for _ in range(case.layers)]
        first = sequence[0]

        def results() -> dict[str, Array]:
            nonlocal state
            for x in sequence:
                state = step(state, x)
            return {"output": np.array(state[-1][0])}

        def loop(iterations: int) -> None:
            nonlocal state
            carried = state
            for _ in itertools.repeat(None, iterations):
                carried = step(carried, first)
                carried[-1][0].block_until_ready()
            state = carried

        return Prepared(results, loop)

    def _prepare_training(self, case: Case) -> Prepared:
        jax = self._jax
        x, d_output = (jax.numpy.asarray(data) for data in (cases.inputs(case, "training"), cases.output_sized(case)))

        def made(ahead: bool) -> Callable[[Any, Any], Any]:
            network, parameters = self._network(case, ahead), self._parameters(case, ahead)

            def compute(parameters: Parameters, x: Any, d_output: Any) -> Any:
                output, backward = jax.vjp(lambda parameters: network(parameters, x), parameters)
                return output, backward(d_output)[0]

            compiled = jax.jit(compute)
            return lambda x, d_output: compiled(parameters, x, d_output)

        compute = self._faster(made, x, d_output)

        def results() -> dict[str, Array]:
            output, gradients = compute(x, d_output)
            return {"output": cases.without_padding(case, np.asarray(output)), **_torch_names(case, gradients)}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                compute(x, d_output)[0].block_until_ready()

        return Prepared(results, loop)

    def _prepare_update(self, case: Case) -> Prepared:
        """Compile loss, gradients, clipping and Adam as one, which updates parameters and moments in place."""
        jax = self._jax
        x, target = (jax.numpy.asarray(data) for data in (cases.inputs(case, "update"), cases.output_sized(case)))

        def made(ahead: bool) -> Callable[[Any, Any], Any]:
            update = jax.jit(self._update(self._network(case, ahead)), donate_argnums=0)
            parameters = self._parameters(case, ahead)
            zeros = [jax.tree.map(jax.numpy.zeros_like, parameters) for _ in ("m", "v")]
            state = parameters, *zeros, jax.numpy.zeros(())

            def call(x: Any, target: Any) -> Any:
                nonlocal state
                state, loss = update(state, x, target)
                return loss

            return call

        # Made anew, because choosing has updated the parameters of the others.
        ahead = self._faster_form(made, x, target)
        update = made(ahead)

        def results() -> dict[str, Array]:
            return {"losses": np.array([float(update(x, target)) for _ in range(cases.VERIFIED_UPDATES)])}

        def loop(iterations: int) -> None:
            for _ in itertools.repeat(None, iterations):
                float(update(x, target))

        return Prepared(results, loop)

    def _update(self, network: Callable[[Parameters, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        jax, jnp = self._jax, self._jax.numpy
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8

        def update(state: Any, x: Any, target: Any) -> Any:
            parameters, m, v, step = state
            loss, gradients = jax.value_and_grad(lambda p: jnp.mean((network(p, x) - target) ** 2))(parameters)
            norm = jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in jax.tree.leaves(gradients)))
            factor = jnp.minimum(cases.CLIP_NORM / (norm + 1e-6), 1.0)
            gradients = jax.tree.map(lambda gradient: factor * gradient, gradients)
            step = step + 1
            m = jax.tree.map(lambda m, gradient: beta1 * m + (1 - beta1) * gradient, m, gradients)
            v = jax.tree.map(lambda v, gradient: beta2 * v + (1 - beta2) * gradient**2, v, gradients)
            rate, correction = cases.LEARNING_RATE / (1 - beta1**step), 1 / jnp.sqrt(1 - beta2**step)
            parameters = jax.tree.map(
                lambda p, m, v: p - rate * m / (jnp.sqrt(v) * correction + epsilon), parameters, m, v
            )
            return (parameters, m, v, step), loss

        return update

    def _faster(self, made: Callable[[bool], Callable[..., Any]], *arguments: Any) -> Callable[..., Any]:
        return made(self._faster_form(made, *arguments))

    def _faster_form(self, made: Callable[[bool], Callable[..., Any]], *arguments: Any) -> bool:
        """Say whether to project ahead."""
        arguments = tuple(argument[:STEPS_TO_CHOOSE] for argument in arguments)

        def seconds(call: Callable[..., Any]) -> float:
            def loop(iterations: int) -> None:
                for _ in range(iterations):
                    self._jax.block_until_ready(call(*arguments))

            loop(1)  # compiles
            return min(elapsed(loop, 1) for _ in range(3))

        return seconds(made(True)) < seconds(made(False))

    def _network(self, case: Case, ahead: bool) -> Callable[[Parameters, Any], Any]:
        """Make the function from parameters and x (T, N, in) to the output (T, N, D * H).

        The padding of a ragged row is computed, but contributes to no gradient as long as d_output is zero there. The
        reverse direction meets the padding first: there the state is kept at zero until the row begins.
        """
        jax, jnp = self._jax, self._jax.numpy
        zeros = np.zeros((case.rows, case.hidden_size), case.dtype)
        present = cases.present(case)

        def direction(weights: dict[str, Any], x: Any, reverse: bool) -> Any:
            masked = case.ragged and reverse

            def step(state: Any, inputs: Any) -> Any:
                (h, c), (x, row_present) = state, inputs
                if ahead:
                    gates = x + h @ weights["recurrent_kernel"]
                else:
                    gates = self._projected(weights, jnp.concatenate([x, h], axis=-1))
                state = self._cell(gates, c)
                if masked:
                    state = tuple(jnp.where(row_present, part, 0) for part in state)
                return state, state[0]

            each = self._projected(weights, x) if ahead else x
            inputs = each, present[: len(x)] if masked else None
            return jax.lax.scan(step, (zeros, zeros), inputs, reverse=reverse)[1]

        def network(parameters: Parameters, x: Any) -> Any:
            for layer in parameters:
                outputs = [
                    direction(weights, x, reverse) for weights, reverse in zip(layer, (False, True), strict=False)
                ]
                x = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)
            return x

        return network

    def _cell(self, gates: Any, c: Any) -> Any:
        sigmoid, tanh = self._jax.nn.sigmoid, self._jax.numpy.tanh
        i, f, g, o = self._jax.numpy.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    @staticmethod
    def _projected(weights: dict[str, Any], x: Any) -> Any:
        return x @ weights["kernel"] + (weights["bias_ih"] + weights["bias_hh"])

    def _parameters(self, case: Case, ahead: bool) -> Parameters:
        """Transpose weights, since features multiply from the left; if not ahead, those of x and h are one array."""
        arrays = cases.weights(case)

        def of_direction(suffix: str) -> dict[str, Any]:
            biases = {name: arrays[name + suffix] for name in ("bias_ih", "bias_hh")}
            w, r = arrays["weight_ih" + suffix].T, arrays["weight_hh" + suffix].T
            kernels = {"kernel": w, "recurrent_kernel": r} if ahead else {"kernel": np.concatenate([w, r])}
            return {name: self._jax.numpy.array(value) for name, value in {**kernels, **biases}.items()}

        return [[of_direction(suffix) for suffix in suffixes] for suffixes in cases.parameter_suffixes(case)]


def _torch_names(case: Case, parameters: Parameters) -> dict[str, Array]:
    """Give parameters the names and shapes of the other peers."""
    named: dict[str, Array] = {}
    for layer, suffixes in enumerate(cases.parameter_suffixes(case)):
        for weights, suffix in zip(parameters[layer], suffixes, strict=True):
            arrays = {name: np.asarray(value) for name, value in weights.items()}
            kernel = np.concatenate([arrays[name] for name in ("kernel", "recurrent_kernel") if name in arrays])
            w, r = np.split(kernel, [case.layer_input_size(layer)])
            named |= {f"weight_ih{suffix}": w.T, f"weight_hh{suffix}": r.T}
            named |= {name + suffix: arrays[name] for name in ("bias_ih", "bias_hh")}
    return named
