"""Single steps of LSTMs that are written out in products, sums and activations: found by how their gates are used.

A step is recognised from its cell, c = f * c_prev + i * g, and its output, h = o * tanh(c). Where the gates stand in
the product, and what they are called, does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.chain import Activation
from latchwork.interop.onnx.folding import MAKES_NO_SENSE, NotFoldedError, slices_argument, split_argument
from latchwork.interop.onnx.loading import attribute, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latchwork._arrays import Array

# Elementwise operators that may be a gate's activation: ours, and the names and defaults of alpha and beta.
ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
}

Name = str


@dataclass
class Step:
    """One step, with the names of what it reads and makes in the graph; h_prev is empty if it is zero."""

    name: str
    x: Name
    h_prev: Name
    c_prev: Name
    h: Name
    c: Name
    options: dict[str, Any]
    tensors: dict[str, Array]
    place: int  # of the node that makes c
    inner: set[int]  # places of the nodes that it consists of


@dataclass
class _Affine:
    """A sum of products with constants: the matrix (features, columns) of each source, and biases by source."""

    matrices: dict[tuple[Name, ...], Array] = field(default_factory=dict)
    biases: dict[tuple[Name, ...], Array] = field(default_factory=dict)

    def plus(self, other: _Affine) -> _Affine:
        arrays = [array for each in (self, other) for group in (each.matrices, each.biases) for array in group.values()]
        if len({array.shape[-1] for array in arrays}) > 1:
            raise NotFoldedError
        return _Affine(_summed(self.matrices, other.matrices), _summed(self.biases, other.biases))

    def columns(self, cut: slice) -> _Affine:
        matrices = {source: matrix[:, cut] for source, matrix in self.matrices.items()}
        return _Affine(matrices, {source: bias[cut] for source, bias in self.biases.items()})

    @property
    def width(self) -> int:
        return int(next(iter(self.matrices.values())).shape[1])


def _summed(one: Mapping[tuple[Name, ...], Array], other: Mapping[tuple[Name, ...], Array]) -> dict[Any, Array]:
    return {**one, **other} | {source: one[source] + other[source] for source in one if source in other}


def activation_of(node: Any) -> Activation:
    """Give the activation of an elementwise operator in our words."""
    name, numbers = ACTIVATIONS[node.op_type]
    return (name, *(float(attribute(node, key, default)) for key, default in numbers)) if numbers else name


class StepFinder:
    """Finds the steps that are written out in one graph.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        The graph's nodes in order.
    known : callable
        Gives the array of a name, or None.
    inputs : mapping of str to int or None
        The graph's own inputs in order, and how many features they have as far as the file says.
    states : mapping of str to str
        In the body of a Scan: the name before a step of what has another name after it.
    """

    def __init__(
        self,
        nodes: Sequence[Any],
        known: Callable[[Name], Array | None],
        inputs: Mapping[Name, int | None],
        states: Mapping[Name, Name],
    ) -> None:
        self._nodes = nodes
        self._known = known
        self._inputs = inputs
        self._states = states
        self._maker: dict[Name, int] = {output: place for place, node in enumerate(nodes) for output in node.output}
        self._readers: dict[Name, list[int]] = {}
        for place, node in enumerate(nodes):
            for name in set(node.input):
                self._readers.setdefault(name, []).append(place)
        self._affines: dict[Name, _Affine | None] = {}
        self._outputs: set[Name] = set()  # the outputs of steps found so far

    def find(self) -> list[Step]:
        """Find all steps, in order."""
        steps = []
        for place, node in enumerate(self._nodes):
            if node.op_type == "Add" and len(node.input) == 2:
                try:
                    step = self._step(place)
                except MAKES_NO_SENSE:
                    step = None
                if step is not None:
                    steps.append(step)
                    self._outputs.add(step.h)
        return [step for step in steps if step.h_prev or self._completed(step, steps)]

    def _completed(self, first: Step, steps: Sequence[Step]) -> bool:
        """Complete a first step, whose product with a state of zeros was folded away, from the step after it."""
        for step in steps:
            follows = step.h_prev == first.h and step.c_prev == first.c
            if not follows or {**step.options, "bias": True} != {**first.options, "bias": True}:
                continue
            width = len(step.tensors["weight_ih_l0"])
            bias = sum((step.tensors.get(f"bias_{kind}_l0", np.zeros(width)) for kind in ("ih", "hh")), np.zeros(width))
            same = (step.tensors["weight_ih_l0"] == first.tensors["weight_ih_l0"]).all()
            if same and np.allclose(bias, first.tensors["bias"], rtol=1e-6, atol=1e-6):
                first.options, first.tensors = step.options, step.tensors
                return True
        return False

    def _made_by(self, name: Name, *kinds: str) -> Any:
        place = self._maker.get(name)
        if place is None or self._nodes[place].domain not in ("", "ai.onnx"):
            return None
        return self._nodes[place] if self._nodes[place].op_type in kinds else None

    def _gate(self, name: Name) -> tuple[Activation, _Affine] | None:
        """Read an activation of a sum of products."""
        node = self._made_by(name, *ACTIVATIONS)
        if node is None:
            return None
        affine = self._affine(node.input[0])
        return None if affine is None or not affine.matrices else (activation_of(node), affine)

    def _step(self, place: int) -> Step | None:
        """Read the step whose cell a node makes."""
        products = [self._made_by(name, "Mul") for name in self._nodes[place].input]
        if None in products:
            return None
        for kept, added in (products, products[::-1]):
            for forget, c_prev in (kept.input, list(kept.input)[::-1]):
                step = self._with_gates(place, forget, c_prev, *added.input)
                if step is not None:
                    return step
        return None

    def _with_gates(self, place: int, forget: Name, c_prev: Name, one: Name, other: Name) -> Step | None:
        gates = {"input": self._gate(one), "candidate": self._gate(other)}
        coupled_to = self._complement(forget)
        if coupled_to == other and coupled_to != one:  # the gate that the forget gate follows is the input gate
            gates = {"input": gates["candidate"], "candidate": gates["input"]}
        coupled = coupled_to is not None and coupled_to in (one, other)
        if not coupled:
            gates["forget"] = self._gate(forget)
        if None in gates.values() or self._gate(c_prev) is not None:
            return None
        if not coupled and gates["input"] and gates["input"][0] == "tanh":
            # i * g is g * i. That one which has no tanh is called the input gate, as is usual.
            gates = {**gates, "input": gates["candidate"], "candidate": gates["input"]}
        c = self._nodes[place].output[0]
        for name, activation, reader in self._shown(c):
            for h_place in self._readers.get(name, []):
                node = self._nodes[h_place]
                if node.op_type != "Mul" or len(node.input) != 2:
                    continue
                gate = self._gate(next((each for each in node.input if each != name), ""))
                if gate is not None:
                    found = {**gates, "output": gate}
                    return self._read(place, h_place, c_prev, found, activation, coupled, reader)
        return None

    def _complement(self, name: Name) -> Name | None:
        """Give the gate whose complement this is, 1 - gate."""
        node = self._made_by(name, "Sub")
        one = None if node is None else self._known(node.input[0])
        if one is None or one.dtype.kind != "f" or not (one == 1).all():
            return None
        return str(node.input[1])

    def _shown(self, c: Name) -> list[tuple[Name, Activation, int | None]]:
        """Give what is multiplied by the output gate: an activation of the cell, or the cell itself."""
        shown: list[tuple[Name, Activation, int | None]] = [
            (self._nodes[place].output[0], activation_of(self._nodes[place]), place)
            for place in self._readers.get(c, [])
            if self._nodes[place].op_type in ACTIVATIONS
        ]
        return [*shown, (c, ("affine", 1.0, 0.0), None)]

    def _read(
        self,
        place: int,
        h_place: int,
        c_prev: Name,
        gates: Mapping[str, Any],
        cell: Activation,
        coupled: bool,
        reader: int | None,
    ) -> Step | None:
        """Cut the products apart into weights for x and for h_prev."""
        affines = {gate: affine for gate, (_, affine) in gates.items()}
        width = affines["input"].width
        sources = list(dict.fromkeys(source for affine in affines.values() for source in affine.matrices))
        if any(affine.width != width for affine in affines.values()):
            return None
        h, c = self._nodes[h_place].output[0], self._nodes[place].output[0]
        names = self._sources(sources, affines, c_prev, width, h)
        if names is None:
            return None
        x, h_prev = names
        order = ("input", "candidate", "output") if coupled else ("input", "forget", "candidate", "output")
        ordered = [affines[gate] for gate in order]
        tensors = self._tensors(ordered, x, h_prev, width) if h_prev else self._tensors_of_x(ordered, x)
        if tensors is None:
            return None
        usual = {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "candidate": "tanh"}
        activations = {gate: kind for gate, (kind, _) in gates.items() if kind != usual[gate]}
        if cell != "tanh":
            activations["cell"] = cell
        options: dict[str, Any] = {"input_size": tensors["weight_ih_l0"].shape[1], "hidden_size": width}
        if activations:
            options["activations"] = activations
        if coupled:
            options["forget_gate"] = "coupled"
        if "bias_ih_l0" not in tensors and h_prev:
            options["bias"] = False
        name = text(self._nodes[h_place].name or h)
        inner = self._inner(place, h_place, reader, {x, h_prev, c_prev})
        return Step(name, x, h_prev, c_prev, h, c, options, tensors, place, inner)

    def _sources(
        self, sources: Sequence[tuple[Name, ...]], affines: Mapping[str, _Affine], c_prev: Name, width: int, h: Name
    ) -> tuple[Name, Name] | None:
        """Say which source is x and which is h_prev."""
        names = list(dict.fromkeys(name for source in sources for name in source))
        start = self._known(c_prev)
        if len(names) == 1 and start is not None and not start.any():
            return names[0], ""  # the product with a state of zeros is gone
        if len(names) != 2 or c_prev in names:
            return None
        before = self._states.get(h)
        if before is not None:
            return (names[1 - names.index(before)], before) if before in names else None
        from_steps = [name for name in names if name in self._outputs]
        if len(from_steps) == 1:
            return names[1 - names.index(from_steps[0])], from_steps[0]
        sizes = dict(self._inputs)
        for source in sources:
            if len(source) == 1:
                sizes[source[0]] = next(a.matrices[source].shape[0] for a in affines.values() if source in a.matrices)
        possible = [name for name in names if sizes.get(name) in (None, width)]
        if len(possible) == 1:
            return names[1 - names.index(possible[0])], possible[0]
        # Both could be the state. Graphs name their input before their states, and join them in this order. Where they
        # are not joined and the cell's state is named before one of them, the states may come first: nothing says which
        # is which.
        order = list(self._inputs)
        known = [name for name in names if name in order]
        if len(known) == 1:
            return names[1 - names.index(known[0])], known[0]
        if len(known) == 2:
            x, h_prev = sorted(names, key=order.index)
            joined = [source for source in sources if len(source) == 2]
            if not joined and c_prev in order and order.index(c_prev) < order.index(h_prev):
                return None
            return None if any(source != (x, h_prev) for source in joined) else (x, h_prev)
        return None

    def _tensors_of_x(self, affines: Sequence[_Affine], x: Name) -> dict[str, Array]:
        """Give the weights of x, and all biases in one."""
        bias = [sum(each.biases.values(), np.zeros(each.width)) for each in affines]
        return {
            "weight_ih_l0": np.concatenate([each.matrices[x,].T for each in affines]),
            "bias": np.concatenate(bias),
        }

    def _tensors(self, affines: Sequence[_Affine], x: Name, h_prev: Name, width: int) -> dict[str, Array] | None:
        weights: dict[Name, list[Array]] = {x: [], h_prev: []}
        biases: dict[bool, list[Array]] = {False: [], True: []}  # whether it stands beside the product with h_prev
        for affine in affines:
            parts: dict[Name, list[Array]] = {x: [], h_prev: []}
            for source, matrix in affine.matrices.items():
                at = 0
                for name in source:
                    rest = matrix.shape[0] - (width if len(source) == 2 else 0)
                    rows = width if name == h_prev else rest
                    if rows < 1:
                        return None
                    parts[name].append(matrix[at : at + rows])
                    at += rows
                if at != matrix.shape[0] or not matrix.shape[0]:
                    return None
            if any(len(found) != 1 for found in parts.values()):
                return None
            for name, (matrix,) in parts.items():
                weights[name].append(matrix.T)
            zeros = np.zeros(width, affines[0].matrices[next(iter(affines[0].matrices))].dtype)
            for with_state in (False, True):
                mine = [bias for source, bias in affine.biases.items() if (source == (h_prev,)) == with_state]
                biases[with_state].append(sum(mine[1:], start=mine[0]) if mine else zeros)
        ih, hh = (np.concatenate(weights[name]) for name in (x, h_prev))
        if hh.shape[1] != width or not ih.shape[1] or len({each.dtype for each in (ih, hh)}) > 1:
            return None
        tensors = {"weight_ih_l0": ih, "weight_hh_l0": hh}
        if any(affine.biases for affine in affines):
            tensors |= {"bias_ih_l0": np.concatenate(biases[False]), "bias_hh_l0": np.concatenate(biases[True])}
        return tensors

    def _inner(self, place: int, h_place: int, reader: int | None, edge: set[Name]) -> set[int]:
        """Collect the nodes between what the step reads and what it makes."""
        inner: set[int] = set()
        waiting = [place, h_place] + ([] if reader is None else [reader])
        while waiting:
            at = waiting.pop()
            if at in inner:
                continue
            inner.add(at)
            for name in self._nodes[at].input:
                if name not in edge and name in self._maker and self._known(name) is None:
                    waiting.append(self._maker[name])
        return inner

    def _affine(self, name: Name) -> _Affine | None:
        """Read a sum of products, step by step so that no depth of a graph matters."""
        waiting = [name]
        while waiting:
            current = waiting[-1]
            if current in self._affines:
                waiting.pop()
                continue
            node = self._made_by(current, "Add", "Sub", "Split", "Slice", "Identity")
            if node is None:
                self._affines[current] = self._product(current)
                continue
            needed = [each for each in list(node.input)[:2] if self._known(each) is None]
            if node.op_type in ("Split", "Slice", "Identity"):
                needed = list(node.input)[:1]
            open_ones = [each for each in needed if each not in self._affines]
            if open_ones and len(waiting) < 1000:
                if set(open_ones) & set(waiting):
                    self._affines[current] = None
                    continue
                waiting += open_ones
                continue
            try:
                self._affines[current] = None if open_ones else self._combined(node, current)
            except MAKES_NO_SENSE:
                self._affines[current] = None
        return self._affines[name]

    def _combined(self, node: Any, name: Name) -> _Affine | None:
        if node.op_type in ("Add", "Sub"):
            return self._sum(node)
        inner = self._affines[node.input[0]]
        if inner is None or not inner.matrices or node.op_type == "Identity":
            return inner
        if node.op_type == "Split":
            if attribute(node, "axis", 0) not in (1, -1):
                return None
            given = self._known(node.input[1]) if len(node.input) > 1 and node.input[1] else None
            sizes = split_argument(node, given, inner.width)
            at = list(node.output).index(name)
            return inner.columns(slice(sum(sizes[:at]), sum(sizes[: at + 1])))
        cuts = slices_argument(node, [self._known(each) if each else None for each in node.input], 2)
        if set(cuts) != {1} or cuts[1].step != 1:
            return None
        return inner.columns(cuts[1])

    def _sum(self, node: Any) -> _Affine | None:
        arrays = [self._known(each) for each in node.input]
        if node.op_type == "Sub":
            if arrays[1] is None:
                return None
            arrays[1] = -arrays[1]
        parts = [self._affines[each] for each, array in zip(node.input, arrays, strict=True) if array is None]
        if len(parts) == 2:
            return None if parts[0] is None or parts[1] is None else parts[0].plus(parts[1])
        constant = next((array for array in arrays if array is not None), None)
        if len(parts) != 1 or parts[0] is None or not parts[0].matrices or constant is None:
            return None
        bias = _row(constant, parts[0].width)
        # A constant beside one product belongs to it; beside several it belongs to none of them.
        sources = list(parts[0].matrices)
        key = sources[0] if len(sources) == 1 else ()
        return None if bias is None else parts[0].plus(_Affine({}, {key: bias}))

    def _product(self, name: Name) -> _Affine | None:
        """Read a product of one source, or of several side by side, with a constant matrix."""
        node = self._made_by(name, "MatMul", "Gemm")
        if node is None or len(node.input) < 2:
            return None
        matrix, source = self._known(node.input[1]), node.input[0]
        if matrix is None or matrix.ndim != 2 or matrix.dtype.kind != "f":
            return None
        joined = self._made_by(source, "Concat")
        sources = (source,)
        if joined is not None and len(joined.input) == 2 and attribute(joined, "axis") in (1, -1):
            sources = tuple(joined.input)
        if node.op_type == "MatMul":
            return _Affine({sources: matrix})
        if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
            return None
        affine = _Affine({sources: matrix.T if attribute(node, "transB", 0) else matrix})
        if len(node.input) < 3 or not node.input[2]:
            return affine
        constant = self._known(node.input[2])
        bias = None if constant is None else _row(constant, affine.width)
        return None if bias is None else affine.plus(_Affine({}, {sources: bias}))


def _row(constant: Array, width: int) -> Array | None:
    """Give the row that a constant repeats, if it does."""
    if constant.dtype.kind != "f" or constant.size == 0 or constant.size > 1 << 24:
        return None
    if constant.size == 1:
        return np.full(width, constant.reshape(()))
    if constant.shape[-1] != width:
        return None
    rows = constant.reshape(-1, width)
    return np.array(rows[0]) if (rows == rows[0]).all() else None
